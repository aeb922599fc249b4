//! Waiting for a completion handler.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// Starts an operation that takes a completion handler, and blocks until the handler is called.
///
/// ```no_run
/// # use std::{path::Path, time::Duration};
/// let path = Path::new("model.mlpackage");
/// let compiled = milwright_apple::wait(Some(Duration::from_secs(60)), |done| {
///     milwright_apple::compile_async(path, done);
/// })?;
/// # Ok::<(), milwright_apple::Error>(())
/// ```
///
/// # Errors
/// The error that the handler is called with; or the timeout passed, and a later result is dropped.
pub fn wait<T: Send + 'static>(
    timeout: Option<Duration>,
    start: impl FnOnce(Box<dyn FnOnce(Result<T>) + Send>),
) -> Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    start(Box::new(move |result| {
        // The caller may have stopped waiting.
        let _ = sender.send(result);
    }));
    match timeout {
        None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(timeout) => receiver.recv_timeout(timeout),
    }
    .map_err(|e| match e {
        RecvTimeoutError::Timeout => Error::new(ErrorKind::Timeout, "Core ML did not answer in time"),
        RecvTimeoutError::Disconnected => Error::new(ErrorKind::Protocol, "Core ML did not answer"),
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_and_gives_up() {
        assert_eq!(wait(None, |done| done(Ok(1))), Ok(1));
        let other = std::thread::scope(|s| wait(None, |done| drop(s.spawn(move || done(Ok(2))))));
        assert_eq!(other, Ok(2));
        let dropped = wait::<()>(None, drop).unwrap_err();
        assert_eq!(dropped.kind(), ErrorKind::Protocol);
        let mut kept = None;
        let late = wait::<()>(Some(Duration::ZERO), |done| kept = Some(done)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        kept.unwrap()(Ok(()));
    }
}
