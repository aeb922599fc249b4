//! Writes programs as ONNX models, and proves that these compute the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use milwright_convert::to_onnx;
use milwright_formats::onnx::write_onnx;
use milwright_mil::{Checked, DType, Type};
use serde::Serialize;

use crate::classifier::Classifier;
use crate::{Error, ErrorKind, Existing, LoadOptions, Model, Proof, Result, Samples, Tolerance, compare};

/// Writes a model as an ONNX file, so that other engines can run it.
///
/// Inputs and outputs keep their names; images are tensors of pixels. Compressed weights stay as they are where ONNX has a
/// form for them. States become inputs, and outputs of the same name with `_out` behind it. A classifier's probabilities are a
/// vector in the order of its classes. Constants of models above 1 GiB go to `NAME.onnx.data` beside the file.
///
/// ```no_run
/// use std::sync::Arc;
/// use milwright::{Exporter, Model};
///
/// let model = Arc::new(Model::open("model.mlpackage")?);
/// Exporter::new().export(&model, "model.onnx", &mut || {})?;
/// # Ok::<(), milwright::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Exporter {
    tolerance: Option<Tolerance>,
    samples: Option<Samples>,
    seed: u64,
    existing: Existing,
    load: LoadOptions,
}

/// The report of an export.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    /// The file that was written.
    #[serde(serialize_with = "crate::paths::path_in_words")]
    pub output: Option<PathBuf>,
    /// Bytes of the file, and of the one with its data.
    pub bytes: u64,
    /// How far the outputs of the ONNX model are from the original's; nothing for models with states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// What a user has to know, in sentences.
    pub notes: Vec<String>,
}

/// Sets of inputs that are drawn where none are given.
const DRAWN: usize = 4;
/// The tolerances of programs in fp32 and in fp16.
const FLOAT32_DB: f64 = 80.0;
const FLOAT16_DB: f64 = 30.0;

impl Exporter {
    /// An exporter with the default tolerance.
    pub fn new() -> Exporter {
        Exporter::default()
    }

    /// The lowest SNR, in dB, that every output must have against the original's; or no tolerance.
    #[must_use]
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Exporter {
        self.tolerance = Some(tolerance.into());
        self
    }

    /// Samples for the proof, instead of drawn ones.
    #[must_use]
    pub fn samples(mut self, samples: Samples) -> Exporter {
        self.samples = Some(samples);
        self
    }

    /// The seed for drawing samples.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Exporter {
        self.seed = seed;
        self
    }

    /// What happens to a file that is at the output already. Without this, it is replaced.
    #[must_use]
    pub fn existing(mut self, existing: Existing) -> Exporter {
        self.existing = existing;
        self
    }

    /// How models are loaded for the proof, and the flag that cancels the work.
    #[must_use]
    pub fn load_options(mut self, load: LoadOptions) -> Exporter {
        self.load = load;
        self
    }

    /// Exports the default function of a model, proves the result, and writes it to `output`.
    ///
    /// # Errors
    /// The model has no program; one of its ops has no counterpart; the result does not compute the same; or it cannot be
    /// written. An existing `output` is then untouched.
    pub fn export(
        &self,
        model: &Arc<Model>,
        output: impl AsRef<Path>,
        progress: &mut dyn FnMut(),
    ) -> Result<ExportReport> {
        let output = output.as_ref();
        let function = &model.info().default_function;
        let whole = to_onnx::export(model.program()?, function, Some(&milwright_cpu::Eager))
            .map_err(|e| Error::from(e).at(model.path()))?;
        let mut notes = Vec::new();
        let names: Vec<&str> = model.function_names().into_iter().filter(|name| name != function).collect();
        if !names.is_empty() {
            notes.push(format!("only the function `{function}` was exported, not {}", names.join(", ")));
        }
        let has_states = model
            .function(None)?
            .inputs
            .iter()
            .any(|&v| model.function(None).is_ok_and(|f| matches!(f[v].ty, Type::State(_))));
        let proof = if has_states {
            notes.push(
                "states are inputs and outputs (`NAME_out`) of the ONNX model: it was not proved".to_owned(),
            );
            None
        } else {
            Some(self.prove(model, function, progress)?)
        };
        write_onnx(whole, output, self.existing)?;
        let size = |path: &Path| path.metadata().map_or(0, |m| m.len());
        let mut data = output.as_os_str().to_owned();
        data.push(".data");
        let bytes = size(output) + size(Path::new(&data));
        Ok(ExportReport { output: Some(output.to_owned()), bytes, proof, notes })
    }

    /// Compares the program, without the choice of a class, with what an import of the ONNX model computes.
    fn prove(&self, model: &Model, function: &str, progress: &mut dyn FnMut()) -> Result<Proof> {
        let whole = model.program()?;
        let plain = match Classifier::detach(whole, function)? {
            Some((program, _)) => program,
            None => whole.only(function).unwrap_or_else(|| whole.clone()),
        };
        let exported = to_onnx::export(&plain, function, Some(&milwright_cpu::Eager))?;
        let folder = tempfile::tempdir()
            .map_err(|e| Error::io("make a temporary folder for", Path::new("the proof"), e))?;
        let file = folder.path().join("model.onnx");
        write_onnx(exported, &file, Existing::Replace)?;
        let half = in_fp16(&plain);
        let a = Arc::new(Model::from_program(main(plain, function))?);
        let b = Arc::new(Model::open(&file)?);
        let samples = match &self.samples {
            Some(samples) => samples.clone(),
            None => Samples::draw_within(&a, None, self.seed, DRAWN, &self.load)?,
        };
        let comparison =
            compare(&a, &b, None, &samples, &self.load, progress).map_err(|e| e.at(model.path()))?;
        let proof = Proof { functions: vec![comparison] };
        let default = if half { FLOAT16_DB } else { FLOAT32_DB };
        let tolerance = match self.tolerance.unwrap_or_default() {
            Tolerance::Default => Some(default),
            Tolerance::Decibels(db) => Some(db),
            Tolerance::None => None,
        };
        let failures = proof.failures(tolerance);
        if failures.is_empty() {
            return Ok(proof);
        }
        let message = format!("the ONNX model does not compute the same: {}", failures.join("; "));
        Err(Error::new(ErrorKind::Tolerance, message).at(model.path()))
    }
}

/// The program with its only function called `main`.
fn main(program: Checked, function: &str) -> milwright_mil::Program {
    let mut program = program.into_inner();
    if let Some(body) = program.functions.shift_remove(function) {
        program.functions.insert("main".to_owned(), body);
    }
    program
}

fn in_fp16(program: &Checked) -> bool {
    let is_half = |ty: &Type| ty.as_tensor().is_some_and(|t| t.dtype == DType::Fp16);
    program.functions.values().any(|f| f.values().any(|(_, v)| is_half(&v.ty)))
}
