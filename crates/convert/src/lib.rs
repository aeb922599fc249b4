//! Conversions between model formats and the IR: one folder for each format.
//!
//! * [`ml_program`]: ML programs of Core ML model files.
//! * [`neural_network`]: neural networks, the older kind of model in such files; only into the IR.
//! * [`onnx`]: ONNX models into the IR.
//! * [`to_onnx`]: programs out of the IR, as ONNX models.
#![forbid(unsafe_code)]

mod error;
mod labels;
mod lower;
pub mod ml_program;
mod names;
pub mod neural_network;
pub mod onnx;
pub mod to_onnx;

pub use error::{Error, ErrorKind};
