//! Core ML models on any machine: open, optimize, prove, run.
//!
//! ```
//! # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
//! use std::sync::Arc;
//! use milwright::{Backend, InferenceRequest, LoadOptions, Model, Target, npy};
//!
//! let model = Arc::new(Model::open(format!("{root}examples/digits.mlpackage"))?);
//! let mut session = Target::Auto.backend()?.session(&model, &LoadOptions::default())?;
//!
//! let digits = npy::read(format!("{root}examples/digits_test_x.npy"))?;
//! let first = milwright::Tensor::from_bytes(digits.dtype(), &[1, 1, 8, 8], digits.shared_bytes().slice(..256)).unwrap();
//! let prediction = session.predict(&InferenceRequest::new().input("image", first))?;
//! assert!(prediction.outputs().len() >= 1);
//! # Ok::<(), milwright::Error>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | describe a file of any model type | [`ModelInfo`] |
//! | know what can be done with a type of model | [`ModelKind`], [`Task`] |
//! | open a model: an ML program, a neural network, a pipeline, an ONNX file … | [`Model`] |
//! | run it | [`Target`], [`Backend`], [`Session`] |
//! | run it in several threads | [`Backend::load`], [`LoadedModel`] |
//! | make it smaller, to a tolerance | [`Optimizer`], [`Quantization`], [`Compression`] |
//! | find the smallest within a tolerance | [`Optimizer::smallest`], [`Search`], [`Metric`] |
//! | write an ONNX model or a neural network as an ML program | [`Converter`] |
//! | test the backends of a machine | [`selftest()`] |
//! | find what fp16 loses in a model | [`find_fp16_losses`] |
//! | compare two models | [`compare()`], [`Samples`] |
//! | serve many models to many callers | the module `manager`, of the feature of that name |
//! | read and write tensors and images | [`npy`], [`image`], [`Files`] |
//! | cancel work in progress | [`Cancel`] |
//! | cache the models that Core ML's compiler makes | [`CompiledModels`] |
//! | survive a crash of a backend | [`Isolated`] |
//! | measure | [`telemetry`] |
//!
//! The library never prints, exits or reads the environment.
#![forbid(unsafe_code)]

mod backend;
mod cancel;
mod classic;
mod classifier;
mod compare;
mod compiled;
mod convert;
mod coreml;
mod destination;
mod engine;
mod error;
mod export;
mod feature;
mod files;
pub mod image;
mod info;
mod inspect;
mod isolation;
mod kinds;
mod legacy;
#[cfg(feature = "manager")]
pub mod manager;
mod model;
mod named;
pub mod npy;
pub mod npz;
mod onnx;
mod optimizer;
mod origin;
mod overflow;
mod paths;
mod pipeline;
mod profile;
mod proof;
mod provenance;
mod request;
mod samples;
mod save;
mod selftest;
mod state;
mod storage;
mod structure;
mod target;
mod target_os;
pub mod telemetry;
mod words;

pub use backend::{
    Availability, Backend, ComputeUnits, Limits, LoadOptions, Loaded, LoadedModel, PlanOrigin, Precision,
    PredictOptions, Session, Unshared,
};
pub use cancel::Cancel;
pub use compare::{
    Differences, LOST_DB, Measure, OutputDifference, PART_MARGIN_DB, Part, Role, Slice, Snr, largest,
};
pub use compiled::{CompileOptions, CompiledModel, CompiledModels};
pub use convert::{ComputePrecision, ConvertReport, Converter};
pub use coreml::CoreMl;
#[cfg(feature = "swift")]
pub use coreml::Swift;
pub use destination::{check_name, is_name_of_file};
pub use error::{Error, ErrorKind, Result};
pub use export::{ExportReport, Exporter};
pub use feature::{
    ArrayType, ColorSpace, FeatureInfo, FeatureType, Flexibility, KeyType, Preprocessing, SizeRange,
};
pub use files::Files;
pub use info::{ClassLabels, FunctionInfo, ModelInfo, Systems};
pub use isolation::{
    Isolated, IsolatedSession, Isolation, Launch, Observer, Process, RestartPolicy, WorkerEvent,
};
pub use kinds::{Can, ModelKind, Task};
pub use milwright_apple::{ComputePlan, Device, PlannedOp};
pub use milwright_cache as cache;
pub use milwright_formats::{
    Container, Existing, abandon_writes, did_you_mean, is_device_name, nearest, would_replace,
};
pub use milwright_mil as mil;
pub use milwright_mil::engine::MAX_THREADS;
pub use milwright_mil::{DType, Element, Tensor};
pub use milwright_optimize::{Config as CompressionConfig, Family, KeptOp, OPTIONS, WeightReport};
pub use model::Model;
pub use named::{Name, NamedList};
pub use onnx::{ImportOptions, OnnxSize};
pub use optimizer::{
    ActivationRange, Activations, Compression, CurvePoint, Fp16Finding, Fp16Report, Fp16Signal, Metric,
    OptimizeReport, Optimizer, Progress, Quantization, QuantizationInfo, Search, SearchReport, SearchSamples,
    SearchedWeight, Tolerance, UniformForm, WeightInfo, WeightUser, find_fp16_losses, weights,
};
pub use profile::{Profile, ProfiledStep};
pub use proof::{Comparison, MetricTask, Proof, TaskResult, compare, compare_functions};
pub use request::{Dictionary, InferenceRequest, Prediction};
pub use samples::{InputFolder, InputValue, SampleSource, Samples, read_file, read_file_fitted, read_text};
pub use selftest::{BackendReport, Failure, SelfTestReport, selftest};
pub use state::State;
pub use storage::{Storage, StorageForm};
pub use target::{Candidate, Cpu, Target, backends};
pub use target_os::TargetOs;
/// Tensors and dictionaries as JSON.
pub mod json {
    pub use crate::samples::{dictionary_as_json, read_json, values_as_json};
}
/// What a worker process does: see [`Isolated`].
pub mod worker {
    pub use crate::isolation::{serve, serve_with};
}
pub use structure::{
    BlockStructure, FunctionStructure, LayerStructure, NamedType, OperationStructure, Structure,
};
