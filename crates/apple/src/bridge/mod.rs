//! The bridge to Core ML itself.
//!
//! * `edge`: how every call is made (pools, exceptions, errors, completion handlers) and who may hold an object.
//! * `convert`: texts, paths, numbers.
//! * `feature`, `image`: inputs and outputs, over shared memory.
//! * `describe`, `plan`: what Core ML tells about a model, as plain data.
//! * `model`: the calls.
//! * `machine`: the name of this Mac or iPhone.

mod convert;
mod describe;
mod edge;
mod feature;
mod image;
#[cfg(target_vendor = "apple")]
mod machine;
mod model;
mod plan;
mod state;

use std::path::{Path, PathBuf};

use objc2::rc::Retained;
use objc2::runtime::AnyClass;
use objc2::{ClassType, msg_send};
use objc2_core_ml::MLModel;
use objc2_foundation::{NSError, NSProcessInfo, NSURL};

use crate::{Error, ErrorKind, Result};
use convert::{path_of, url};
use edge::{enter, handler, unsupported};

pub use model::Model;
pub use plan::{compute_plan, devices};
pub use state::State;

/// Whether there is a Core ML.
///
/// # Errors
/// There is no Core ML; the message gives the reason.
pub fn availability() -> Result<()> {
    match AnyClass::get(c"MLModel") {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::Unavailable, "this system comes without Core ML")),
    }
}

/// The version and build of the system, which compiled models depend on.
///
/// # Errors
/// There is no Core ML.
pub fn system() -> Result<String> {
    availability()?;
    enter(|| Ok(NSProcessInfo::processInfo().operatingSystemVersionString().to_string()))
}

/// Apple's name of this machine, such as `Mac16,1`, on which compiled models depend; its architecture if there is no
/// name.
pub fn machine() -> String {
    machine::name().unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The stand-in's machine has no name.
#[cfg(not(target_vendor = "apple"))]
mod machine {
    pub fn name() -> Option<String> {
        None
    }
}

/// Compiles a `.mlmodel` or `.mlpackage` into a new temporary folder, which the caller has to move or remove.
///
/// # Errors
/// The path is not UTF-8, there is no such file, or Core ML cannot compile it.
pub fn compile(path: &Path) -> Result<PathBuf> {
    availability()?;
    enter(|| {
        // The one method that exists before macOS 13 and needs no second thread.
        let url = url(path)?;
        let mut error: Maybe<NSError> = None;
        // SAFETY: the selector takes a URL; the error is written or left alone.
        let compiled: Maybe<NSURL> =
            unsafe { msg_send![MLModel::class(), compileModelAtURL: &*url, error: &mut error] };
        path_of(&*compiled.ok_or_else(|| edge::failed("compile the model", error))?)
    })
}

/// [`compile`], with a completion handler. macOS 13.
pub fn compile_async<F>(path: &Path, done: F)
where
    F: FnOnce(Result<PathBuf>) + Send + 'static,
{
    handler(done, path_of as fn(&NSURL) -> Result<PathBuf>).start(|block| {
        availability()?;
        let class = AnyClass::get(c"MLModel")
            .filter(|class| class.metaclass().responds_to(objc2::sel!(compileModelAtURL:completionHandler:)))
            .ok_or_else(|| unsupported("compiling with a completion handler", "macOS 13"))?;
        let url = url(path)?;
        // SAFETY: the selector takes a URL and a block of (NSURL *, NSError *), which it copies.
        unsafe { msg_send![class, compileModelAtURL: &*url, completionHandler: block] }
        Ok(())
    });
}

/// A result of Core ML, which may be nil: the types in its headers are not enforced.
type Maybe<T> = Option<Retained<T>>;

/// Returns a value that Core ML must provide, or an error if it is nil.
fn some<T: ?Sized>(value: Maybe<T>, what: &str) -> Result<Retained<T>> {
    value.ok_or_else(|| Error::protocol(format!("Core ML gave no {what}")))
}
