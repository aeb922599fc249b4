//! Helpers for the tests of several crates.
#![forbid(unsafe_code)]

pub mod cases;
pub mod fuzz;
pub mod onnx;

/// For tests of crates that do not depend on it: they make model files that no writer makes.
pub use milwright_formats as formats;
