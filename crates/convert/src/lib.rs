//! Into and out of the IR: one folder for each format.
//!
//! * [`spec`]: ML programs of Core ML model files.
#![forbid(unsafe_code)]

mod error;
pub mod spec;

pub use error::{Error, ErrorKind};
