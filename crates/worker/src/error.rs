//! The error type of workers.

use std::io;
use std::path::PathBuf;

use crate::limits::MAX_MEMORY;

/// Why there is no answer. The worker is gone, except after [`TooLarge`](Error::TooLarge), [`Memory`](Error::Memory),
/// and a [`Worker::wait`](crate::Worker::wait) that ends without an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program could not be started.
    #[error("cannot start '{}': {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program has another identity (name and version), or is no worker.
    #[error("the worker is `{theirs}`, not `{ours}`")]
    Identity {
        /// The expected identity.
        ours: String,
        /// The program's identity.
        theirs: String,
    },
    /// The worker ended before it answered; the text says how, such as `signal 9 (SIGKILL)`.
    #[error("the worker process ended: {0}")]
    Died(String),
    /// The deadline passed. The worker was killed, except by [`Worker::wait`](crate::Worker::wait).
    #[error("the worker did not answer before the deadline")]
    Deadline,
    /// [`Patience::stop`](crate::Patience::stop) returned true. The worker was killed, except by `Worker::wait`.
    #[error("stopped")]
    Stopped,
    /// The worker's answer is invalid. The worker was killed.
    #[error("the worker sent what is no answer: {0}")]
    Garbage(String),
    /// The request exceeds the [limits](crate::limits) and was not sent.
    #[error("{0} is too large for a worker (at most {max} bytes of memory)", max = MAX_MEMORY)]
    TooLarge(String),
    /// There is no shared memory for the request, which was not sent, or no memory for the copy of a blob.
    #[error("cannot share memory with a worker: {0}")]
    Memory(io::Error),
    /// This process was not started as a worker.
    #[error("this was not started as a worker: its standard input is not a parent's socket")]
    NotAWorker,
    /// This system has no workers.
    #[error("there are no worker processes on this system yet")]
    Unsupported,
}
