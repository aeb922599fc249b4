//! Asynchronous calls of Core ML, which end in a completion handler, with deadlines and cancellation.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use milwright_apple::Features;

use super::error;
use crate::{Cancel, Error, ErrorKind, Result};

/// The conditions that end a prediction early.
pub(super) struct Limits<'a> {
    pub deadline: Option<Instant>,
    pub cancels: [&'a Cancel; 2],
}

impl Limits<'_> {
    pub fn check(&self) -> Result<()> {
        self.cancels.iter().try_for_each(|cancel| cancel.check())?;
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => {
                Err(Error::new(ErrorKind::DeadlineExceeded, "the deadline passed"))
            }
            _ => Ok(()),
        }
    }
}

/// How often a running prediction checks for cancellation. A result that arrives earlier is returned at once.
const TICK: Duration = Duration::from_millis(10);

/// The asynchronous Core ML call of a session: a prediction or a compute plan. There is one at a time; until it has
/// finished, the Apple bridge refuses another one.
pub(super) struct Flight<T = Features> {
    /// The result of the last abandoned call: it receives a value, or is closed, when the call has finished.
    given_up: Option<Receiver<milwright_apple::Result<T>>>,
}

impl<T> Default for Flight<T> {
    fn default() -> Flight<T> {
        Flight { given_up: None }
    }
}

impl<T: Send + 'static> Flight<T> {
    /// Starts a call and waits for its result. At a deadline or cancellation, calls `stop`, which asks Core ML to
    /// stop, and returns without waiting for that.
    pub fn wait<R>(
        &mut self,
        limits: &Limits<'_>,
        start: impl FnOnce(Box<dyn FnOnce(milwright_apple::Result<T>) + Send>) -> R,
        stop: impl FnOnce(&R),
    ) -> Result<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        let running = start(Box::new(move |result| {
            // The receiver may be gone if the call was abandoned.
            let _ = sender.send(result);
        }));
        loop {
            let left = limits.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match answer.recv_timeout(left.unwrap_or(TICK).min(TICK)) {
                Ok(result) => return result.map_err(error),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(ErrorKind::Runtime, "Core ML did not answer"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(e) = limits.check() {
                        stop(&running);
                        self.given_up = Some(answer);
                        return Err(e);
                    }
                }
            }
        }
    }

    /// Blocks until the abandoned call has finished.
    pub fn rest(&mut self) {
        if let Some(answer) = self.given_up.take() {
            // The result of an abandoned call is discarded.
            let _ = answer.recv();
        }
    }
}
