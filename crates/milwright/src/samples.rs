//! Inputs to prove a model with: given as files, or drawn to suit what the model declares.

mod draw;
mod ranges;
mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use milwright_mil::Function;

use crate::{Error, ErrorKind, InferenceRequest};

pub(crate) use draw::default_shape;
pub use read::{InputFolder, read_file, read_file_fitted};

/// Sets of inputs for one function.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Each is a whole set of inputs.
    pub requests: Vec<InferenceRequest>,
    /// Where they come from: a proof says what it was made on.
    pub source: SampleSource,
    /// Sets in which flexible inputs have other shapes, which the model declares but need not work with: a comparison
    /// leaves out those on which the original does not run.
    pub others: Vec<InferenceRequest>,
}

/// Where sets of inputs come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SampleSource {
    /// The caller gave them.
    Given {
        /// The folder that they were read from, if they were.
        #[serde(serialize_with = "crate::files::path_in_words")]
        folder: Option<PathBuf>,
        /// What lies in the folder and is no input.
        #[serde(serialize_with = "crate::files::paths_in_words", skip_serializing_if = "Vec::is_empty")]
        ignored: Vec<PathBuf>,
    },
    /// They were drawn, to suit what the model declares.
    Drawn {
        /// The seed.
        seed: u64,
        /// For each input, what was drawn, in words: `-1 to 1`.
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

    /// An error of running the model that they are for: where they were drawn, it is not the user's fault.
    #[must_use]
    pub fn explain(&self, error: Error) -> Error {
        self.explained(error, "it does not run on the inputs that were drawn for it")
    }

    /// An error of running another model on them.
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
    /// In the shapes that a function declares: those for an old network may have more dimensions of size 1.
    pub(crate) fn fitted(&self, function: &Function) -> Samples {
        let mut fitted = self.clone();
        for request in fitted.requests.iter_mut().chain(&mut fitted.others) {
            for (name, tensor) in request.clone().inputs() {
                let input = function.inputs.iter().find(|&&v| function[v].name == *name);
                let shape = input.and_then(|&v| function[v].ty.as_tensor()?.fixed_shape());
                let shape = shape.filter(|shape| shape.len() != tensor.shape().len());
                if let Some(tensor) = shape.and_then(|shape| tensor.reshaped(&shape).ok()) {
                    *request = std::mem::take(request).input(name, tensor);
                }
            }
        }
        fitted
    }

    /// The caller's own.
    pub fn given(requests: Vec<InferenceRequest>) -> Samples {
        Samples { requests, ..Samples::default() }
    }
}
