//! A child process that answers requests, so that its death is an error and not the end of the caller.
//!
//! This crate knows processes, frames and bytes; what they mean is the caller's business. [`Worker`] is the parent's
//! side, [`Service`] the child's. They share
//!
//! * a **socket**, which is the child's standard input. A request is one frame, and so is its answer: see [`limits`]
//!   for the bounds on what the other side may claim;
//! * a piece of **memory** without a name (a `memfd` on Linux, an unlinked file elsewhere), whose descriptor goes over
//!   the socket. Large things ("blobs") lie in it: the sender copies them in, the receiver copies them out, and nobody
//!   ever holds a reference into it. It is used again for every request and answer, and grows as needed.
//!
//! A worker that ends, is killed, exceeds the deadline, or answers what is no answer is an [`Error`] and gone: killed,
//! waited for, its descriptors closed. Whoever wants another starts one.
//!
//! The child ends when its parent does, whatever it is doing: a thread of it waits for the end of a second socket, on which
//! nothing is ever sent. (The death signal that Linux offers comes when the *thread* that started the child ends, which is
//! something else.) It is in a process group of its own: Ctrl-C in a terminal reaches the parent, which decides.
//!
//! On systems without Unix sockets in the standard library (Windows) starting a worker is an error.

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

/// How a worker is started: a program that calls [`Service::connect`] when it is started so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables to set in its environment, which is otherwise the parent's.
    pub environment: Vec<(OsString, OsString)>,
}

impl Launch {
    /// A program with arguments.
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
    /// When to give up.
    pub deadline: Option<Instant>,
    /// Asked now and then whether to give up.
    pub stop: Option<&'a dyn Fn() -> bool>,
}
