//! What tests of several crates share.
#![forbid(unsafe_code)]

pub mod cases;
pub mod fuzz;

/// For tests of crates that do not use it themselves: they make model files that no writer makes.
pub use milwright_spec as spec;
