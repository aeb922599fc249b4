//! Predictions that end in a completion handler, and are given up in time.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use milwright_apple::Features;

use super::error;
use crate::{Cancel, Error, ErrorKind, Result};

/// What ends a prediction early.
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

/// How often a running prediction looks whether it is cancelled. The result itself is not waited for any longer.
const TICK: Duration = Duration::from_millis(10);

/// A session's predictions on their way: one, and until it has come back Core ML's side refuses another. Or something else
/// that Core ML does in its own time.
pub(super) struct Flight<T = Features> {
    /// Of the prediction that was given up last: it has something, or is closed, when that has come back.
    given_up: Option<Receiver<milwright_apple::Result<T>>>,
}

impl<T> Default for Flight<T> {
    fn default() -> Flight<T> {
        Flight { given_up: None }
    }
}

impl<T: Send + 'static> Flight<T> {
    /// Starts a prediction and waits for it. At a limit Core ML is asked to `stop`, and not waited for.
    pub fn wait<R>(
        &mut self,
        limits: &Limits<'_>,
        start: impl FnOnce(Box<dyn FnOnce(milwright_apple::Result<T>) + Send>) -> R,
        stop: impl FnOnce(&R),
    ) -> Result<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        let running = start(Box::new(move |result| {
            // Nobody may be waiting any more.
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

    /// Waits until what was given up has come back.
    pub fn rest(&mut self) {
        if let Some(answer) = self.given_up.take() {
            // Whatever it is, nobody wants it any more.
            let _ = answer.recv();
        }
    }
}
