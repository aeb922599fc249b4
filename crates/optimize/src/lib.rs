//! Weight compression.
//!
//! [`optimize`] rewrites a program in place. It reads each weight (from a memory-mapped file, say), compresses it,
//! hands it to the caller's store and releases it, so that memory use stays near that of the largest tensor.
//!
//! [`Quantization`] lists what can be done to weights, [`Compression`] adds the options, and [`Config`] says which weight
//! gets which. Compressed weights are `constexpr_*` ops, in the form of the function's opset.
#![forbid(unsafe_code)]

pub mod activations;
mod blocks;
mod code;
mod compression;
mod config;
mod expand;
pub mod float16;
mod gptq;
mod loss;
mod moments;
mod raise;
mod read;
mod rewrite;
mod scheme;
pub mod schemes;
pub mod weights;
mod yaml;

use std::borrow::Cow;

use half::f16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfFloatVecExt;
use milwright_mil::{DType, Program, Tensor};

pub use code::FloatWeight;
pub use compression::{Compression, Family, OPTIONS, Step, StepOption};
pub use config::Config;
pub use expand::{WeightInfo, WeightUser, describe, expand};
pub use float16::KeptOp;
pub use loss::Loss;
pub use moments::{Moments, Observed as ObservedInputs};
pub use rewrite::{Compressed, WeightReport, name_constants};
pub use scheme::{Quantization, QuantizationInfo, Searched};
pub use weights::{Product, products};

/// Keeps compressed tensors until the program is written.
pub trait Store {
    /// Stores a tensor and returns an equal one, which may lie in a file.
    ///
    /// # Errors
    /// The tensor cannot be stored, because the disk is full, say.
    fn store(&mut self, tensor: Tensor) -> std::io::Result<Tensor>;
}

/// Keeps tensors in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct InMemory;

impl Store for InMemory {
    fn store(&mut self, tensor: Tensor) -> std::io::Result<Tensor> {
        Ok(tensor)
    }
}

/// The reason why a program could not be optimized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error("a compressed weight cannot be stored: {0}")]
    Store(#[from] std::io::Error),
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
}

/// The result of an optimization.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every weight, in program order.
    pub weights: Vec<WeightReport>,
    /// The ops that a conversion to fp16 left in fp32.
    pub kept: Vec<KeptOp>,
}

impl Report {
    /// Adds the report of another function or another step.
    pub fn extend(&mut self, other: Report) {
        self.weights.extend(other.weights);
        self.kept.extend(other.kept);
    }
}

/// Compresses the weights of every function of a program. Calls `progress` with the number of elements after each
/// weight.
///
/// # Errors
/// The store fails, or ops that share a weight have different settings.
///
/// # Examples
/// ```
/// use milwright_mil::{DType, Function, Input, OpKind, Opset, Program, Tensor, Type};
/// use milwright_optimize::{Compression, InMemory, Quantization, optimize};
///
/// let mut function = Function::new(Opset::Ios16);
/// let x = function.add_input("x", Type::tensor(DType::Fp32, &[1, 64]));
/// let weight = Tensor::from_vec(&[64, 64], (0..4096).map(|i| (i as f32).sin()).collect())?;
/// let (op, w) = function.make_const("w", weight.into());
/// let body = function.body;
/// function[body].ops.push(op);
/// let inputs = vec![Input::value("x", x), Input::value("weight", w)];
/// function.push_op(body, OpKind::Linear, inputs, [("y".into(), Type::tensor(DType::Fp32, &[1, 64]))]);
///
/// let mut program = Program::default();
/// program.functions.insert("main".into(), function);
/// let report = optimize(&mut program, &Compression::from(Quantization::Int8).into(), &mut InMemory, &mut |_| {})?;
/// assert_eq!(report.weights[0].bytes_before, 4 * 4096);
/// assert!(report.weights[0].bytes_after < 4500);
/// assert!(report.weights[0].snr_db.unwrap() > 40.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn optimize(
    program: &mut Program,
    config: &Config,
    store: &mut dyn Store,
    progress: &mut dyn FnMut(usize),
) -> Result<Report, Error> {
    let mut report = Report::default();
    if config.computes_in_fp16() {
        let unknown = float16::Observed::default();
        for (name, function) in &mut program.functions {
            report.extend(float16::convert(name, function, &unknown, store, progress)?);
        }
    }
    report.weights.extend(compress(program, config, &ObservedInputs::new(), store, progress)?);
    Ok(report)
}

/// As [`optimize`], without the conversion to fp16. Weights whose inputs are known are compressed so that outputs, and
/// not the weights themselves, lose least.
///
/// # Errors
/// As for [`optimize`].
pub fn compress(
    program: &mut Program,
    config: &Config,
    inputs: &ObservedInputs,
    store: &mut dyn Store,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<WeightReport>, Error> {
    compress_again(program, config, inputs, &mut Compressed::default(), store, progress)
}

/// As [`compress`], of which parts are `known` from programs that have the same weights.
///
/// # Errors
/// As for [`optimize`].
pub fn compress_again(
    program: &mut Program,
    config: &Config,
    inputs: &ObservedInputs,
    known: &mut Compressed,
    store: &mut dyn Store,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<WeightReport>, Error> {
    let mut compressor = rewrite::Compressor::new(config, inputs, known);
    let mut reports = Vec::new();
    for (name, function) in &mut program.functions {
        reports.extend(compressor.compress(name, function, store, progress)?);
    }
    Ok(reports)
}

/// Returns the elements of a float tensor as f32, borrowed if they are f32. Empty for other element types.
fn float_values(tensor: &Tensor) -> Cow<'_, [f32]> {
    tensor.as_slice::<f32>().map_or_else(|| to_f32(tensor).into(), Cow::Borrowed)
}

/// The elements of a float tensor as f32; empty for other element types.
pub fn to_f32(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype() {
        DType::Fp32 => tensor.to_vec().unwrap_or_default(),
        DType::Fp16 => match tensor.as_slice::<f16>() {
            Some(halves) => halves.to_f32_vec(),
            None => tensor.to_vec::<f16>().unwrap_or_default().to_f32_vec(),
        },
        _ => Vec::new(),
    }
}

/// Makes a tensor of `dtype`, fp16 or fp32; `shape` must take as many elements as there are values.
fn float_tensor(values: &[f32], shape: &[usize], dtype: DType) -> Tensor {
    let tensor = match dtype {
        DType::Fp16 => Tensor::from_vec(shape, Vec::<f16>::from_f32_slice(values)),
        _ => Tensor::from_vec(shape, values.to_vec()),
    };
    tensor.expect("the caller gives as many values as the shape takes")
}
