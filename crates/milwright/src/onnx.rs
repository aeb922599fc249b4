//! Models that are imported from ONNX files.

use std::collections::BTreeMap;
use std::sync::Arc;

use milwright_convert::onnx::Options;
use milwright_formats::onnx::OnnxFile;
use milwright_mil::{Opset, Tensor};

use crate::TargetOs;

pub use milwright_convert::onnx::Size as OnnxSize;

/// How an ONNX model is imported.
///
/// ```no_run
/// use milwright::{ImportOptions, Model, OnnxSize};
///
/// let options = ImportOptions::new().size("batch", OnnxSize::Fixed(1)).size("sequence", OnnxSize::Range(1, Some(512)));
/// let model = Model::import("model.onnx", &options)?;
/// # Ok::<(), milwright::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImportOptions(pub(crate) Options);

impl Default for ImportOptions {
    fn default() -> ImportOptions {
        ImportOptions(Options { engine: Some(&milwright_cpu::Eager), ..Options::default() })
    }
}

impl ImportOptions {
    /// Every size as the model says, for the oldest system that can run it.
    pub fn new() -> ImportOptions {
        ImportOptions::default()
    }

    /// The oldest system that the program must run on.
    #[must_use]
    pub fn target_os(mut self, target: TargetOs) -> ImportOptions {
        self.0.opset = Some(target.into());
        self
    }

    /// Imports it as it is in a package: inputs and outputs have names that Core ML takes, and sizes have an end. What is
    /// converted is imported so in any case; saying it first saves a second import.
    #[must_use]
    pub fn for_package(mut self) -> ImportOptions {
        self.0.for_package = true;
        self
    }

    /// The sizes of the dimensions with this name. Dimensions without a name are called `INPUT.NUMBER`.
    #[must_use]
    pub fn size(mut self, name: impl Into<String>, size: OnnxSize) -> ImportOptions {
        self.0.sizes.insert(name.into(), size);
        self
    }

    /// Makes an input a constant of the program.
    #[must_use]
    pub fn freeze(mut self, input: impl Into<String>, value: Tensor) -> ImportOptions {
        self.0.frozen.insert(input.into(), value);
        self
    }
}

/// The ONNX model that a program was made from.
#[derive(Debug)]
pub(crate) struct Onnx {
    pub file: Arc<OnnxFile>,
    pub options: Options,
    /// What the import had to assume, in sentences.
    pub notes: Vec<String>,
    /// How many nodes of each op were lowered.
    pub lowered: BTreeMap<String, usize>,
}

impl Onnx {
    /// The options for a package of this opset, or of the oldest that serves; `None` if the model was imported so.
    pub fn options_for_package(&self, opset: Option<Opset>) -> Option<Options> {
        let opset = opset.or(self.options.opset);
        let same = self.options.for_package && opset == self.options.opset;
        (!same).then(|| Options { opset, for_package: true, ..self.options.clone() })
    }

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
