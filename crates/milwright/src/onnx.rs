//! Models that are imported from ONNX files.

use milwright_convert::onnx::Options;
use milwright_mil::Opset;
use milwright_spec::onnx::OnnxFile;

/// The ONNX model that a program was made from.
#[derive(Debug)]
pub(crate) struct Onnx {
    pub file: OnnxFile,
    pub options: Options,
    /// What the import had to assume, in sentences.
    pub notes: Vec<String>,
}

/// The options of an import for an opset, or for the oldest that serves.
pub(crate) fn options(opset: Option<Opset>) -> Options {
    Options { opset, engine: Some(&milwright_cpu::Eager), ..Options::default() }
}

impl Onnx {
    /// Bytes of the file and of those with its data.
    pub fn size(&self) -> u64 {
        let data: u64 = self.file.external_files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.file.bytes().len() as u64 + data
    }

    /// Hashes everything that affects what the model computes.
    pub fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(self.file.bytes());
        for (name, bytes) in self.file.external_files() {
            hasher.update(name.as_bytes());
            hasher.update(&bytes);
        }
        hasher.update(format!("{:?}", self.options).as_bytes());
        for tensor in self.options.frozen.values() {
            hasher.update(tensor.bytes());
        }
    }
}
