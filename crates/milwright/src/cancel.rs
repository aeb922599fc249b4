//! Stopping work that is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::{Error, ErrorKind, Result};

/// Asks work that is under way to stop: what was being written is removed, and the call returns an error of the kind
/// [`Cancelled`](ErrorKind::Cancelled). Clones are the same request. It is looked at between steps, so that it may
/// take a moment: at most as long as compressing one weight or running one op.
///
/// ```
/// use milwright::{Cancel, LoadOptions};
///
/// let cancel = Cancel::default();
/// let options = LoadOptions { cancel: cancel.clone(), ..LoadOptions::default() };
/// cancel.cancel(); // from another thread, say
/// assert!(options.cancel.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Cancel {
    /// Asks to stop.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// The same request, which is also made when a time has come. The error is of the kind
    /// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded) then.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Cancel {
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        self
    }

    /// Whether it was asked for, or the time has come.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed) || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// What is set when it is asked for: something that a signal handler can do.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.flag.load(Ordering::Relaxed) {
            Err(Error::new(ErrorKind::Cancelled, "cancelled"))
        } else if self.is_cancelled() {
            Err(Error::new(ErrorKind::DeadlineExceeded, "the time for all of it is over"))
        } else {
            Ok(())
        }
    }
}
