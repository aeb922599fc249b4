//! The library's work, as Python wants it done: without Python's lock, ended by Ctrl-C, and with errors and panics as
//! exceptions.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use milwright::{Cancel, Error, ErrorKind, Result};
use pyo3::prelude::*;

use crate::errors::{OrRaise, internal};

/// How often signals are looked for while work is under way.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Does `work` on this thread. Signals are handled when it is done: this is for what takes milliseconds.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(result) => result.or_raise(py),
        Err(panic) => Err(internal(py, &text_of(&*panic))),
    }
}

/// Does `work` on a thread of its own, while this one handles signals. A handler that raises, as that of Ctrl-C does,
/// cancels the work, and its exception is the result.
pub fn interruptible<T: Send>(
    py: Python<'_>,
    cancel: &Cancel,
    work: impl FnOnce() -> Result<T> + Send,
) -> PyResult<T> {
    with_events(py, cancel, |()| Ok(()), |_| work())
}

/// [`interruptible`] work that tells what it is doing: `on_event` is called on this thread, while the work waits, and an
/// exception that it raises ends the work, too.
pub fn with_events<T: Send, E: Send>(
    py: Python<'_>,
    cancel: &Cancel,
    mut on_event: impl FnMut(E) -> PyResult<()>,
    work: impl FnOnce(&Events<E>) -> Result<T> + Send,
) -> PyResult<T> {
    let (sender, mut receiver) = mpsc::channel();
    let (handled, wait) = mpsc::channel();
    let events = Events { sender, handled: wait };
    thread::scope(|scope| {
        let named = thread::Builder::new().name("milwright-work".to_owned());
        // The events go with the work, so that the channel closes when it ends, or panics.
        let worker =
            named.spawn_scoped(scope, move || work(&events)).map_err(|e| no_thread(&e)).or_raise(py)?;
        let mut raised = None;
        loop {
            let receiver = &mut receiver;
            let event = match py.detach(move || receiver.recv_timeout(SIGNAL_INTERVAL)) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let is_event = event.is_some();
            if raised.is_none() {
                let heard = event.map_or(Ok(()), &mut on_event).and_then(|()| py.check_signals());
                if let Err(e) = heard {
                    cancel.cancel();
                    raised = Some(e);
                }
            }
            if is_event {
                // The work may have ended by a panic meanwhile.
                _ = handled.send(());
            }
        }
        match (py.detach(|| worker.join()), raised) {
            (_, Some(exception)) => Err(exception),
            (Ok(result), None) => result.or_raise(py),
            (Err(panic), None) => Err(internal(py, &text_of(&*panic))),
        }
    })
}

/// Where work tells what it is doing.
pub struct Events<E> {
    sender: Sender<E>,
    handled: Receiver<()>,
}

impl<E> Events<E> {
    /// Sends an event, and waits until it is handled: what raises an exception then has stopped the work here.
    pub fn send(&self, event: E) {
        // The other end is there as long as the work is.
        if self.sender.send(event).is_ok() {
            _ = self.handled.recv();
        }
    }
}

fn no_thread(error: &io::Error) -> Error {
    Error::new(ErrorKind::Runtime, format!("no thread can be started: {error}"))
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}
