//! How every call into Objective-C is made.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use block2::{DynBlock, RcBlock};
use objc2::encode::{Encode, RefEncode};
use objc2::exception::{self, Exception};
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::{AnyObject, NSObjectProtocol};
use objc2::{Message, msg_send};
use objc2_core_ml::{MLModel, MLState};
use objc2_foundation::{NSDictionary, NSError, NSException, NSString};

use super::Maybe;
use crate::error::Details;
use crate::flight::Finish;
use crate::{Error, ErrorKind, Result};

/// Runs `call` in an autorelease pool of its own, and turns an exception into an error. All code that talks to
/// Objective-C runs inside `enter`.
pub(super) fn enter<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    autoreleasepool(|_| match exception::catch(AssertUnwindSafe(call)) {
        Ok(result) => result,
        Err(thrown) => Err(from_exception(thrown)),
    })
}

fn from_exception(thrown: Maybe<Exception>) -> Error {
    let text = |e: &NSException| {
        // SAFETY: a getter of every NSException.
        let name: Maybe<NSString> = unsafe { msg_send![e, name] };
        let name = name.map(|name| name.to_string()).unwrap_or_default();
        match e.reason() {
            Some(reason) => format!("{name}: {reason}"),
            None => name,
        }
    };
    let object = thrown.as_deref().map(|e| -> &AnyObject { e.as_ref() });
    let message = object.and_then(|e| e.downcast_ref::<NSException>()).map(text);
    Error::new(
        ErrorKind::Exception,
        format!("Core ML threw an exception: {}", message.as_deref().unwrap_or("an unknown object")),
    )
}

/// How many nested `NSUnderlyingError`s are followed.
const MAX_UNDERLYING: usize = 8;

/// Converts everything in an `NSError`.
fn error(e: &NSError) -> Error {
    error_at(e, 0)
}

fn error_at(e: &NSError, depth: usize) -> Error {
    let key = NSString::from_str("NSUnderlyingError");
    // SAFETY: a getter of every NSError; the result may be nil.
    let info: Maybe<NSDictionary<NSString, AnyObject>> = unsafe { msg_send![e, userInfo] };
    let underlying = info.and_then(|info| info.objectForKey(&key));
    let underlying = underlying.as_deref().and_then(|u| u.downcast_ref::<NSError>());
    let details = Details {
        domain: e.domain().to_string(),
        code: e.code() as i64,
        reason: e.localizedFailureReason().map(|s| s.to_string()),
        recovery: e.localizedRecoverySuggestion().map(|s| s.to_string()),
        underlying: underlying.filter(|_| depth < MAX_UNDERLYING).map(|u| error_at(u, depth + 1)),
    };
    Error::framework(e.localizedDescription().to_string(), details)
}

/// The error of a method that takes an `NSError **`: what the method wrote there, or that it wrote nothing.
pub(super) fn failed(what: &str, written: Maybe<NSError>) -> Error {
    match written {
        Some(e) => error(&e),
        None => Error::protocol(format!("Core ML failed to {what} without saying why")),
    }
}

pub(super) fn unsupported(what: &str, since: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what} needs {since} or newer"))
}

/// An object that outlives the call that created it. It is released in an autorelease pool, because its `dealloc` may
/// need one. It is never Sync, whatever Apple's headers promise for its class.
#[derive(Debug)]
pub(super) struct Held<T: Message>(ManuallyDrop<Retained<T>>, PhantomData<Cell<()>>);

impl<T: Message> Held<T> {
    pub fn new(object: Retained<T>) -> Held<T> {
        Held(ManuallyDrop::new(object), PhantomData)
    }
}

impl<T: Message> std::ops::Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Message> Drop for Held<T> {
    fn drop(&mut self) {
        // An exception in `dealloc` has no caller to report it to.
        let _ = enter(|| {
            // SAFETY: this is the only place that drops it, and it runs once.
            unsafe { ManuallyDrop::drop(&mut self.0) };
            Ok(())
        });
    }
}

// SAFETY: an MLModel is bound to no thread (Core ML delivers it on threads of its own), retain and release are atomic,
// and only one thread at a time uses a `Model`: predictions take `&mut self`, and an asynchronous prediction holds its
// `Pass` until its handler is called. It is not Sync.
unsafe impl Send for Held<MLModel> {}
// SAFETY: as for MLModel; everything that reads or writes a state has `&mut State` or its `Pass`. It is not Sync.
unsafe impl Send for Held<MLState> {}

/// A block that Core ML calls with a result or an error.
type Block<T> = DynBlock<dyn Fn(*mut T, *mut NSError)>;

/// A completion handler that calls `done` exactly once, whatever Core ML does.
pub(super) struct Handler<T: ?Sized, R: Send + 'static> {
    finish: Arc<Finish<R>>,
    block: RcBlock<dyn Fn(*mut T, *mut NSError)>,
}

/// Creates a completion handler. `read` converts the result, in an autorelease pool and on the thread that calls back;
/// `done` gets what it returns.
pub(super) fn handler<T, R, F>(
    done: F,
    read: impl Fn(&T) -> Result<R> + Send + Sync + 'static,
) -> Handler<T, R>
where
    T: ?Sized + RefEncode + 'static,
    *mut T: Encode,
    R: Send + 'static,
    F: FnOnce(Result<R>) + Send + 'static,
{
    let finish = Arc::new(Finish::new(done));
    let from_block = Arc::clone(&finish);
    let block = sendable(move |value: *mut T, error: *mut NSError| {
        from_block.with(|| {
            enter(|| {
                // SAFETY: Core ML calls back with nil or with an object that lives until the block returns.
                match unsafe { (value.as_ref(), error.as_ref()) } {
                    (Some(value), _) => read(value),
                    (None, Some(error)) => Err(self::error(error)),
                    (None, None) => Err(Error::protocol("Core ML called back with neither result nor error")),
                }
            })
        });
    });
    Handler { finish, block }
}

/// Creates a block that any thread may call, and several threads at a time.
fn sendable<T, F>(call: F) -> RcBlock<dyn Fn(*mut T, *mut NSError)>
where
    F: Fn(*mut T, *mut NSError) + Send + Sync + 'static,
    T: ?Sized + 'static,
    *mut T: Encode,
{
    RcBlock::new(call)
}

impl<T: ?Sized, R: Send + 'static> Handler<T, R> {
    /// Passes the block to Core ML with `call`. If that fails, `done` gets the error.
    pub fn start(self, call: impl FnOnce(&Block<T>) -> Result<()>) {
        let Handler { finish, block } = self;
        // The block is released inside the pool, too, because it owns everything that waits for the answer.
        let started = enter(move || call(&block));
        if let Err(e) = started {
            finish.with(|| Err(e));
        }
    }
}

/// Whether `object` has the method, which older systems may lack.
pub(super) fn responds(object: &(impl NSObjectProtocol + Message), selector: objc2::runtime::Sel) -> bool {
    object.respondsToSelector(selector)
}
