//! Converts models to ML programs, and proves that these compute the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use milwright_mil::Opset;
use serde::Serialize;

use crate::words::words;
use crate::{
    Existing, LoadOptions, Model, OptimizeReport, Optimizer, Progress, Quantization, Result, Samples,
    TargetOs, Tolerance,
};

/// Converts ONNX models and neural networks to ML programs, which Core ML loads since iOS 15, and which can be optimized
/// and compiled.
///
/// Inputs and outputs keep their names, shapes, image types and class labels; description and metadata stay. In a
/// pipeline, each network is converted. ML programs cannot declare numbers and arrays of doubles: the report lists
/// such changes.
///
/// ```no_run
/// use std::sync::Arc;
/// use milwright::{Converter, Model};
///
/// let model = Arc::new(Model::open("old.mlmodel")?);
/// let report = Converter::new().convert(&model, Some("new.mlpackage".as_ref()), &mut |_| {})?;
/// println!("needs {}", report.target_os);
/// # Ok::<(), milwright::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Converter {
    optimizer: Optimizer,
    target_os: Option<TargetOs>,
    precision: ComputePrecision,
    tolerance: Option<Tolerance>,
}

/// The precision that a converted program computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComputePrecision {
    /// fp32, with the same outputs as the original.
    #[default]
    Float32,
    /// fp16, as the Neural Engine and the GPU do.
    Float16,
}

words!(ComputePrecision, "precision", "float32" => Float32, "float16" => Float16);

/// The report of a conversion.
#[derive(Clone, Debug, Serialize)]
pub struct ConvertReport {
    /// The type of the original model.
    pub model_type: String,
    /// The oldest system that loads the result, such as `iOS 15`.
    pub target_os: String,
    /// The result's specification version.
    pub specification_version: i32,
    /// How many nodes of each op were lowered, for an ONNX model: those of functions and unrolled loops count each time.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lowered: BTreeMap<String, usize>,
    /// The sizes, the changes and the proof.
    #[serde(flatten)]
    pub optimized: OptimizeReport,
}

/// The tolerance in fp32: outputs must agree with the network's almost to fp32 precision.
const FLOAT32_DB: f64 = 80.0;

impl Converter {
    /// A converter to fp32, for the oldest system that can run the result.
    pub fn new() -> Converter {
        Converter::default()
    }

    /// The oldest system that the result must run on. It is an error if that system lacks an op of the result.
    #[must_use]
    pub fn target_os(mut self, target: TargetOs) -> Converter {
        self.target_os = Some(target);
        self
    }

    /// The precision of the result.
    #[must_use]
    pub fn precision(mut self, precision: ComputePrecision) -> Converter {
        self.precision = precision;
        self
    }

    /// The lowest SNR, in dB, that every output must have against the original's; or no tolerance.
    #[must_use]
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Converter {
        self.tolerance = Some(tolerance.into());
        self
    }

    /// Samples for the proof, instead of drawn ones.
    #[must_use]
    pub fn samples(mut self, samples: Samples) -> Converter {
        self.optimizer = self.optimizer.samples(samples);
        self
    }

    /// The seed for drawing samples.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Converter {
        self.optimizer = self.optimizer.seed(seed);
        self
    }

    /// What happens to a package that is at the output already. Without this, it is replaced.
    #[must_use]
    pub fn existing(mut self, existing: Existing) -> Converter {
        self.optimizer = self.optimizer.existing(existing);
        self
    }

    /// How models are loaded for the proof, and the flag that cancels the work.
    #[must_use]
    pub fn load_options(mut self, load: LoadOptions) -> Converter {
        self.optimizer = self.optimizer.load_options(load);
        self
    }

    /// Converts a model, proves the result, and writes it to `output`, an `.mlpackage`, if one is given.
    ///
    /// # Errors
    /// The model, or one of its layers, cannot be an ML program, or not for the target system; the result does not
    /// compute the same as the model; or it cannot be written. An existing `output` is then untouched.
    pub fn convert(
        &self,
        model: &Arc<Model>,
        output: Option<&Path>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ConvertReport> {
        let opset = self.target_os.map(Opset::from);
        let optimizer = self.optimizer.clone().converting(opset);
        let optimizer = match self.precision {
            ComputePrecision::Float32 => optimizer.tolerance(self.tolerance.unwrap_or(FLOAT32_DB.into())),
            ComputePrecision::Float16 => {
                let tolerance = self.tolerance.unwrap_or(FLOAT16_DB.into());
                optimizer.quantization(Quantization::Float16).tolerance(tolerance)
            }
        };
        let optimized = optimizer.optimize(model, output, progress)?;
        let specification_version = optimized.specification_version;
        Ok(ConvertReport {
            model_type: model.imported_from().unwrap_or_else(|| model.info().model_type()).to_owned(),
            lowered: model.lowered_nodes().clone(),
            target_os: system(specification_version).to_owned(),
            specification_version,
            optimized,
        })
    }
}

/// The tolerance in fp16: the lowest acceptable SNR.
const FLOAT16_DB: f64 = 30.0;

/// The first iOS that loads a specification version.
fn system(specification_version: i32) -> &'static str {
    match specification_version {
        ..=6 => "iOS 15",
        7 => "iOS 16",
        8 => "iOS 17",
        9 => "iOS 18",
        _ => "iOS 26",
    }
}
