//! A child process that answers requests, so that a crash in it is an error for the caller and does not end the caller.
//!
//! This crate knows processes, frames and bytes; the caller knows what they mean. [`Worker`] is the parent's side,
//! [`Service`] the child's. They share
//!
//! * a **socket**, which is the child's standard input. A request is one frame, and so is its answer. [`limits`] has
//!   the bounds on what the other side may claim;
//! * anonymous **memory** (a `memfd` on Linux, an unlinked file elsewhere), whose descriptor is sent over the socket.
//!   Large data ("blobs") are in it: the sender copies them in, the receiver copies them out, and neither ever holds a
//!   reference into it. Every request and answer reuses the memory, which grows as needed.
//!
//! When a worker ends, is killed, exceeds the deadline, or sends an invalid answer, the caller gets an [`Error`] and
//! the worker is gone: killed, waited for, its descriptors closed. The caller may start another one.
//!
//! The child ends when its parent does, even if it hangs: a thread of the child waits for the end of a second socket,
//! over which nothing is ever sent. (Linux's parent death signal does not serve, because it is sent when the *thread*
//! that started the child ends.) The child has a process group of its own, so that Ctrl-C in a terminal reaches only
//! the parent, which decides what to do.
//!
//! On systems where the standard library has no Unix sockets (Windows), starting a worker is an error.

#[cfg(unix)]
mod channel;
#[cfg(not(unix))]
mod elsewhere;
mod error;
pub mod limits;
#[cfg(unix)]
mod memory;
#[cfg(unix)]
mod service;
#[cfg(unix)]
mod start;
#[cfg(unix)]
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

#[cfg(not(unix))]
pub use elsewhere::{Reply, Request, Service, Worker};
pub use error::Error;
#[cfg(unix)]
pub use service::{Request, Service};
#[cfg(unix)]
pub use worker::{Reply, Worker};

/// How to start a worker: a program and arguments with which it calls [`Service::connect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables to set in its environment, which is otherwise the parent's.
    pub environment: Vec<(OsString, OsString)>,
}

impl Launch {
    /// A program with arguments, in the parent's environment.
    pub fn new<A: Into<OsString>>(program: impl Into<PathBuf>, args: impl IntoIterator<Item = A>) -> Launch {
        Launch {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
        }
    }
}

/// How long to wait for the other side.
#[derive(Clone, Copy, Default)]
pub struct Patience<'a> {
    /// The point in time at which to stop waiting.
    pub deadline: Option<Instant>,
    /// Polled while waiting: `true` cancels the wait.
    pub stop: Option<&'a dyn Fn() -> bool>,
}
