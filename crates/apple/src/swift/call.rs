//! Callbacks from Swift, each of which takes effect exactly once, and the objects that Swift returns.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::mpsc;

use super::ffi::{
    MILWRIGHT_SWIFT_CANCELLED, MILWRIGHT_SWIFT_DOMAIN, MILWRIGHT_SWIFT_INVALID, MILWRIGHT_SWIFT_PROTOCOL,
    MILWRIGHT_SWIFT_UNSUPPORTED, milwright_swift_error, milwright_swift_release, milwright_swift_tensor,
};
use super::table::{OWNERS, Table, text};
use super::tensor::{Seen, read_all, see};
use crate::error::Details;
use crate::{Error, ErrorKind, Features, Result};

pub(super) type Done<T> = Box<dyn FnOnce(Result<T>) + Send>;
/// Uses the array of a state, which is valid during this call only.
pub(super) type Access = Box<dyn FnOnce(Result<Seen<'_>>) + Send>;

pub(super) static LOADED: Table<Done<Handle>> = Table::new();
pub(super) static PREDICTED: Table<Done<Features>> = Table::new();
pub(super) static ACCESSED: Table<Access> = Table::new();

/// A Swift object; this owns one reference to it.
#[derive(Debug)]
pub(super) struct Handle(NonNull<c_void>);

// SAFETY: Swift counts references atomically, and the header allows releasing objects on any thread. Every other use of
// one takes `&mut` of the type around it (`Model`, `State`), or is allowed on any thread (`Running`).
unsafe impl Send for Handle {}
// SAFETY: as above: through a shared handle, the pointer is read and nothing else is done.
unsafe impl Sync for Handle {}

impl Handle {
    /// # Safety
    /// `object` is null, or an object with a reference that the handle takes over.
    pub unsafe fn own(object: *mut c_void) -> Option<Handle> {
        NonNull::new(object).map(Handle)
    }

    pub fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and is released once.
        unsafe { milwright_swift_release(self.as_ptr()) }
    }
}

/// Receives a model or a state.
pub(super) extern "C" fn loaded(context: u64, object: *mut c_void, error: *const milwright_swift_error) {
    guard(|| {
        // SAFETY: the header says that the reference comes with the call, whether or not anybody still waits for it.
        let object = unsafe { Handle::own(object) };
        let Some(done) = LOADED.take(context) else { return };
        // SAFETY: the header says that the error is valid until this returns.
        done(object.ok_or_else(|| unsafe { failed(error) }));
    });
}

/// Receives the outputs of a prediction.
pub(super) extern "C" fn predicted(
    context: u64,
    outputs: *const milwright_swift_tensor,
    count: i64,
    error: *const milwright_swift_error,
) {
    guard(|| {
        let Some(done) = PREDICTED.take(context) else { return };
        done(match outputs.is_null() || !error.is_null() {
            // SAFETY: the header says that the error is valid until this returns.
            true => Err(unsafe { failed(error) }),
            // SAFETY: the header says that there are `count` tensors, valid until this returns.
            false => unsafe { read_all(outputs, count) },
        });
    });
}

/// Receives the array of a state.
pub(super) extern "C" fn accessed(
    context: u64,
    array: *const milwright_swift_tensor,
    error: *const milwright_swift_error,
) {
    guard(|| {
        let Some(access) = ACCESSED.take(context) else { return };
        // SAFETY: the header says that array and error are valid until this returns, and that the array may be written.
        access(unsafe {
            match array.as_ref() {
                Some(array) => see(array),
                None => Err(failed(error)),
            }
        });
    });
}

/// Receives the number of an input whose memory Core ML has released.
pub(super) extern "C" fn release_owner(owner: u64) {
    guard(|| drop(OWNERS.take(owner)));
}

/// Runs `call` and stops a panic, which must not unwind into Swift.
fn guard(call: impl FnOnce()) {
    // Nobody can be told; the panic hook has already run.
    let _ = catch_unwind(AssertUnwindSafe(call));
}

/// Calls a Swift function that calls back before it returns, and returns the result.
pub(super) fn now<E, T: Send + 'static>(
    table: &Table<E>,
    entry: impl FnOnce(Done<T>) -> E,
    call: impl FnOnce(u64),
) -> Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let context = table.add(entry(Box::new(move |result| {
        // The channel has room for one result, and this is called once.
        let _ = sender.try_send(result);
    })));
    call(context);
    drop(table.take(context));
    receiver.try_recv().unwrap_or_else(|_| Err(Error::protocol("Swift did not call back")))
}

/// Calls a completion handler with an error.
pub(super) fn refuse<T>(done: impl FnOnce(Result<T>), e: Error) {
    guard(|| done(Err(e)));
}

/// Converts an error of Swift's.
///
/// # Safety
/// `error` is null or valid, and so are its texts.
unsafe fn failed(error: *const milwright_swift_error) -> Error {
    // SAFETY: the caller says so.
    let Some(error) = (unsafe { error.as_ref() }) else {
        return Error::protocol("Swift gave neither result nor error");
    };
    // SAFETY: as above.
    let [domain, message, reason, recovery] =
        unsafe { [error.domain, error.message, error.reason, error.recovery].map(|t| text(t)) };
    let message = message.unwrap_or_default();
    let kind = match error.code {
        _ if domain.as_deref() != Some(MILWRIGHT_SWIFT_DOMAIN) => None,
        MILWRIGHT_SWIFT_UNSUPPORTED => Some(ErrorKind::Unsupported),
        MILWRIGHT_SWIFT_INVALID => Some(ErrorKind::Invalid),
        MILWRIGHT_SWIFT_PROTOCOL => Some(ErrorKind::Protocol),
        MILWRIGHT_SWIFT_CANCELLED => Some(ErrorKind::Cancelled),
        _ => None,
    };
    match kind {
        Some(kind) => Error::new(kind, message),
        None => {
            let domain = domain.unwrap_or_default();
            Error::framework(
                message,
                Details { domain, code: error.code, reason, recovery, underlying: None },
            )
        }
    }
}
