//! Samples to prove a model with: read from files, or drawn to fit what the model declares.

mod draw;
mod ranges;
mod read;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use milwright_convert::onnx::original_names;
use milwright_mil::Function;

use crate::{Error, ErrorKind, InferenceRequest, Model};

pub use read::{InputFolder, read_file, read_file_fitted};
pub use value::{InputValue, dictionary_as_json, read_json, read_text, values_as_json};

/// Samples for one function.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// The samples. Each request holds all required inputs.
    pub requests: Vec<InferenceRequest>,
    /// The origin of the samples, which a proof reports.
    pub source: SampleSource,
    /// Samples in which flexible inputs have other shapes. The model declares these shapes but need not work with
    /// them, so a comparison skips those on which the original fails.
    pub others: Vec<InferenceRequest>,
}

/// The origin of samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SampleSource {
    /// The caller gave them.
    Given {
        /// The folder that they were read from, if any.
        #[serde(serialize_with = "crate::paths::path_in_words")]
        folder: Option<PathBuf>,
        /// Files and folders in it that are not inputs.
        #[serde(serialize_with = "crate::paths::paths_in_words", skip_serializing_if = "Vec::is_empty")]
        ignored: Vec<PathBuf>,
    },
    /// They were drawn to fit what the model declares.
    Drawn {
        /// The seed.
        seed: u64,
        /// For each input, the values that were drawn, in words: `-1 to 1`.
        ranges: BTreeMap<String, String>,
    },
}

impl Default for SampleSource {
    fn default() -> SampleSource {
        SampleSource::Given { folder: None, ignored: Vec::new() }
    }
}

impl SampleSource {
    /// Whether they were drawn.
    pub fn is_drawn(&self) -> bool {
        matches!(self, SampleSource::Drawn { .. })
    }

    /// Adds advice to an error of running the model on these samples. If they were drawn, the error is not the user's
    /// fault.
    #[must_use]
    pub fn explain(&self, error: Error) -> Error {
        self.explained(error, "it does not run on the inputs that were drawn for it")
    }

    /// Adds advice to an error of running the second model on these samples.
    #[must_use]
    pub(crate) fn explain_second(&self, error: Error) -> Error {
        self.explained(error, "it does not run on the inputs that were drawn for the first model")
    }

    fn explained(&self, error: Error, what: &str) -> Error {
        if !self.is_drawn() || !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Runtime) {
            return error;
        }
        let path = error.path().map(Path::to_owned);
        let error = Error::new(ErrorKind::Runtime, format!("{what}: {}", error.message()))
            .with_hint("give it real ones: their lengths and values are not in the model");
        match path {
            Some(path) => error.at(path),
            None => error,
        }
    }
}

/// `given (inputs/)`, or `drawn (seed 0; x: -1 to 1)`.
impl fmt::Display for SampleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SampleSource::Given { folder: None, .. } => f.write_str("given"),
            SampleSource::Given { folder: Some(folder), .. } => write!(f, "given ({})", folder.display()),
            SampleSource::Drawn { seed, ranges } => {
                write!(f, "drawn (seed {seed}")?;
                ranges.iter().enumerate().try_for_each(|(i, (name, range))| {
                    write!(f, "{} {name}: {range}", if i == 0 { ";" } else { "," })
                })?;
                f.write_str(")")
            }
        }
    }
}

impl Samples {
    /// The samples in the shapes that a function declares. Those for an old network may have additional dimensions of
    /// size 1.
    pub(crate) fn fitted(&self, function: &Function) -> Samples {
        let mut fitted = self.clone();
        let declared = function.inputs_by_name();
        for request in fitted.requests.iter_mut().chain(&mut fitted.others) {
            for (name, tensor) in request.clone().inputs() {
                let input = declared.get(name.as_str());
                let shape = input.and_then(|&v| function[v].ty.as_tensor()?.fixed_shape());
                let shape = shape.filter(|shape| shape.len() != tensor.shape().len());
                if let Some(tensor) = shape.and_then(|shape| tensor.reshaped(&shape).ok()) {
                    *request = std::mem::take(request).input(name, tensor);
                }
            }
        }
        fitted
    }

    /// The samples with the names that a model's inputs have now, where they have those that an ONNX model has.
    pub(crate) fn named_for(&self, model: &Model) -> Samples {
        let mut named = self.clone();
        let mut names = original_names(&model.info().user_defined);
        // An output may have the old name of an input.
        let function = model.info().function(None);
        names.retain(|new, _| function.is_some_and(|f| f.inputs.named(new).is_some()));
        if names.is_empty() {
            return named;
        }
        let new = |old: &str| names.iter().find(|(_, o)| *o == old).map_or(old, |(new, _)| new).to_owned();
        for request in named.requests.iter_mut().chain(&mut named.others) {
            *request = request.renamed(new);
        }
        named
    }

    /// Samples that the caller provides.
    pub fn given(requests: Vec<InferenceRequest>) -> Samples {
        Samples { requests, ..Samples::default() }
    }
}
