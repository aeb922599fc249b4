//! The native half of the Python package `milwright`: see `python/milwright/__init__.py` for the other half, which is
//! what users import.
//!
//! * `model`: `Model` and `State`.
//! * `tensors`: NumPy arrays in and out.
//! * `tools`: `optimize`, `convert`, `compare`, `weights`, `info`, and `forms`, which reads configurations.
//! * `work`: how long work runs: without Python's lock, and ended by Ctrl-C.
//!
//! Reports cross the border as JSON, tensors as arrays. Errors become the exceptions of `milwright._errors`, and so do
//! panics.

mod errors;
mod model;
mod tensors;
mod tools;
mod work;

#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::model::{Model, State, forked};
    #[pymodule_export]
    use crate::tools::{compare, convert, forms, info, optimize, read_text, weights};

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name that Python has for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
