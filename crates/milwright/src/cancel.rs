//! Stopping work that is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What is set when it is asked for: something that a signal handler can do.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::new(ErrorKind::Cancelled, "cancelled")) } else { Ok(()) }
    }
}
