//! Cancelling work in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::{Error, ErrorKind, Result};

/// A flag that cancels work in progress. A cancelled call removes its unfinished output and returns an error of the
/// kind [`Cancelled`](ErrorKind::Cancelled). Clones share the flag. Work checks the flag between steps, so cancelling
/// may take as long as it takes to compress one weight or to run one op.
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
    /// Cancels the work that holds this flag or a clone.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// The same flag with a deadline, at which the work ends, too. The error is then of the kind
    /// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded).
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Cancel {
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        self
    }

    /// Returns whether the work was cancelled or its deadline has passed.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed) || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The shared flag itself: a signal handler may set it.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Whether both are the same flag.
    #[cfg(feature = "manager")]
    pub(crate) fn is(&self, other: &Cancel) -> bool {
        Arc::ptr_eq(&self.flag, &other.flag)
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
