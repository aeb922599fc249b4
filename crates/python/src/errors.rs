//! Errors as exceptions.

use milwright::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception for an error: the class says whose fault it is, attributes say the rest.
pub fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let kind = error.kind();
    let class = match kind {
        ErrorKind::InvalidInput => "InputError",
        ErrorKind::Tolerance => "ToleranceError",
        ErrorKind::DeadlineExceeded => "DeadlineError",
        ErrorKind::Unsupported => "UnsupportedError",
        _ => "Error",
    };
    let make = || -> PyResult<Bound<'_, PyAny>> {
        let attributes = PyDict::new(py);
        attributes.set_item("kind", format!("{kind:?}"))?;
        attributes.set_item("hint", error.hint())?;
        attributes.set_item("path", error.path().map(|p| p.display().to_string()))?;
        let class = py.import("milwright._errors")?.getattr(class)?;
        class.call((error.to_string(),), Some(&attributes))
    };
    make().map_or_else(|e| e, PyErr::from_value)
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
