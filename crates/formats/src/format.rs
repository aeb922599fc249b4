//! The formats of model files.

use std::path::Path;

use crate::foreign;

/// A format of model files that this crate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Core ML, in any container: [`Package`](crate::Package).
    CoreMl,
    /// ONNX: [`OnnxFile`](crate::onnx::OnnxFile).
    Onnx,
}

impl Format {
    /// The format of a file, by its content, or by its name if the content has no mark of any format. A file that is
    /// neither counts as Core ML: [`Package::open`](crate::Package::open) says what it is instead.
    pub fn of(path: impl AsRef<Path>) -> Format {
        if foreign::is_onnx_file(path.as_ref()) { Format::Onnx } else { Format::CoreMl }
    }
}
