use std::io;
use std::path::PathBuf;

use crate::limits::MAX_MEMORY;

/// Why there is no answer. The worker is gone, except after [`TooLarge`](Error::TooLarge) and [`Memory`](Error::Memory).
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
    /// The program is another version, or not a worker.
    #[error("the worker is `{theirs}`, not `{ours}`")]
    Identity {
        /// What was expected.
        ours: String,
        /// What it said that it is.
        theirs: String,
    },
    /// It ended before it answered; the text says how, such as `signal 9 (SIGKILL)`.
    #[error("the worker process ended: {0}")]
    Died(String),
    /// The deadline passed. It was killed.
    #[error("the worker did not answer before the deadline")]
    Deadline,
    /// [`Patience::stop`](crate::Patience::stop) said so. It was killed.
    #[error("stopped")]
    Stopped,
    /// What it sent is not an answer. It was killed.
    #[error("the worker sent what is no answer: {0}")]
    Garbage(String),
    /// The request exceeds the [limits](crate::limits), and was not sent.
    #[error("{0} is too large for a worker (at most {max} bytes of memory)", max = MAX_MEMORY)]
    TooLarge(String),
    /// There is no room in shared memory for the request, which was not sent.
    #[error("cannot share memory with a worker: {0}")]
    Memory(io::Error),
    /// This process was not started as a worker.
    #[error("this was not started as a worker: its standard input is not a parent's socket")]
    NotAWorker,
    /// The system has no workers.
    #[error("there are no worker processes on this system yet")]
    Unsupported,
}
