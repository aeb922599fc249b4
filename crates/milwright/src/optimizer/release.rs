//! Keeps mapped weights out of memory while both models are prepared and run.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Model;

/// Models with fewer bytes stay in memory.
const MIN_BYTES: u64 = 8 << 20;
/// As long as this, weights that were read stay in memory.
const PAUSE: Duration = Duration::from_millis(5);

/// Releases the mapped weights of a model again and again, as long as it lives. Packing reads each weight once: without
/// this, the files of both models would be in memory beside what is packed.
pub(super) struct Releasing {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Releasing {
    pub(super) fn of(model: &Arc<Model>) -> Releasing {
        if model.size() < MIN_BYTES {
            return Releasing { stop: None, thread: None };
        }
        let (stop, stopped) = channel();
        let model = Arc::clone(model);
        let release = move || {
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                model.release_memory();
            }
        };
        // Without a thread, more memory is used, and nothing else changes.
        let thread = std::thread::Builder::new().name("release".to_owned()).spawn(release).ok();
        Releasing { stop: Some(stop), thread }
    }
}

impl Drop for Releasing {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and there is nothing to do if it did.
            drop(thread.join());
        }
    }
}
