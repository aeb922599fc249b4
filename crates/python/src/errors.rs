//! Errors as exceptions.

use std::error::Error as _;
use std::io;
use std::path::Path;

use milwright::{Container, Error, ErrorKind, Existing, check_name, would_replace};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception for an error: the class says whose fault it is, attributes say the rest.
pub fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let kind = error.kind();
    let system = system_error(error);
    let class = match (kind, system.map(io::Error::kind)) {
        (ErrorKind::InvalidInput, _) => "InputError",
        (ErrorKind::Exists, _) => "ExistsError",
        (ErrorKind::Tolerance, _) => "ToleranceError",
        (ErrorKind::DeadlineExceeded, _) => "DeadlineError",
        (ErrorKind::OutOfMemory, _) => "OutOfMemoryError",
        (ErrorKind::Unsupported, _) => "UnsupportedError",
        (ErrorKind::Io, Some(io::ErrorKind::NotFound)) => "MissingFileError",
        (ErrorKind::Io, Some(io::ErrorKind::PermissionDenied)) => "FilePermissionError",
        (ErrorKind::Io, _) => "FileError",
        _ => "Error",
    };
    let make = || -> PyResult<Bound<'_, PyAny>> {
        let attributes = PyDict::new(py);
        attributes.set_item("kind", format!("{kind:?}"))?;
        attributes.set_item("hint", if kind == ErrorKind::Exists { Some(REPLACE) } else { error.hint() })?;
        attributes.set_item("path", error.path().map(|p| p.display().to_string()))?;
        let exception =
            py.import("milwright._errors")?.getattr(class)?.call((error.to_string(),), Some(&attributes))?;
        if matches!(kind, ErrorKind::Io | ErrorKind::Exists) {
            exception.setattr("errno", system.and_then(io::Error::raw_os_error))?;
            exception.setattr("filename", error.path().map(|p| p.as_os_str().to_owned()))?;
        }
        Ok(exception)
    };
    make().map_or_else(|e| e, PyErr::from_value)
}

/// Refuses a name of another kind of model, and to replace a model that is at `path`, unless that is wanted. What comes
/// there while the work is done is not replaced either.
pub fn check_new(py: Python<'_>, path: &Path, container: Container, existing: Existing) -> PyResult<()> {
    check_name(path, container).or_raise(py)?;
    if existing == Existing::Replace || !py.detach(|| would_replace(path, container)) {
        return Ok(());
    }
    Err(exception(py, &Error::new(ErrorKind::Exists, "it is there already").at(path)))
}

/// What `force` means.
pub fn existing(force: bool) -> Existing {
    if force { Existing::Replace } else { Existing::Keep }
}

const REPLACE: &str = "replace it with `force=True`, or choose another name";

/// The exception for a panic, which is a bug of ours: an `Error` like the others, so that programs that handle these
/// survive it.
pub fn internal(py: Python<'_>, panic: &str) -> PyErr {
    let error = Error::new(ErrorKind::Runtime, format!("Milwright failed: {panic}"));
    exception(py, &error.with_hint("this is a bug of Milwright: please report it, with the model if you can"))
}

/// What the system said, if it is at the bottom of an error.
fn system_error(error: &Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(system) = cause.downcast_ref::<io::Error>() {
            return Some(system);
        }
        source = cause.source();
    }
    None
}

/// Results with the library's error, as Python wants them.
pub trait OrRaise<T> {
    /// Turns the error into an exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for milwright::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|e| exception(py, &e))
    }
}
