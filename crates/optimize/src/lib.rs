//! Weight compression and its numerics.
//!
//! [`optimize`] rewrites a program in place of a copy: each weight is read (from a memory-mapped file, say),
//! compressed, handed to the caller's store, and let go, so that memory stays near the largest single tensor.
//!
//! | scheme | what becomes of a weight |
//! |---|---|
//! | [`Quantization::Float16`] | the whole program computes in fp16 where its ops can: [`float16`] |
//! | [`Quantization::Int8`] | int8 times a scale per output channel: [`linear`] |
//! | [`Quantization::Palette`] | indices into the 2, 4, 16, 64 or 256 best values: [`cluster`] |
//!
//! Compressed weights are `constexpr_*` ops, in the form of the function's opset. They need iOS16; a function of an
//! older opset becomes an iOS16 function, whose ops are a superset.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod float16;
pub mod linear;
mod rewrite;
pub mod weights;

use std::borrow::Cow;

use half::f16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfFloatVecExt;
use milwright_mil::{DType, Program, Tensor};

pub use float16::KeptOp;
pub use rewrite::WeightReport;

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// As they are.
    None,
    /// In fp16, and computed with in fp16.
    Float16,
    /// In int8, symmetric, with a scale for each output channel.
    Int8,
    /// As indices of 1, 2, 4, 6 or 8 bits into a palette of values, one palette for each tensor.
    Palette(Bits),
}

/// By the names of the command line, as [`FromStr`](std::str::FromStr) reads them.
impl std::fmt::Display for Quantization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Quantization::None => f.write_str("none"),
            Quantization::Float16 => f.write_str("float16"),
            Quantization::Int8 => f.write_str("int8"),
            Quantization::Palette(bits) => write!(f, "palette{}", bits.get()),
        }
    }
}

impl std::str::FromStr for Quantization {
    type Err = String;

    /// By the names of the command line: `none`, `float16`, `int8`, `palette8`, `palette6`, `palette4`, `palette2` and
    /// `palette1`.
    fn from_str(name: &str) -> Result<Quantization, String> {
        Ok(match name {
            "none" => Quantization::None,
            "float16" => Quantization::Float16,
            "int8" => Quantization::Int8,
            "palette8" => Quantization::Palette(Bits::Eight),
            "palette6" => Quantization::Palette(Bits::Six),
            "palette4" => Quantization::Palette(Bits::Four),
            "palette2" => Quantization::Palette(Bits::Two),
            "palette1" => Quantization::Palette(Bits::One),
            _ => {
                let names = "none, float16, int8, palette8, palette6, palette4, palette2 and palette1";
                return Err(format!("there is no quantization `{name}`; there are {names}"));
            }
        })
    }
}

/// Bits of a palette's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Bits {
    One,
    Two,
    Four,
    Six,
    Eight,
}

impl Bits {
    /// 1, 2, 4, 6 or 8.
    pub const fn get(self) -> usize {
        match self {
            Bits::One => 1,
            Bits::Two => 2,
            Bits::Four => 4,
            Bits::Six => 6,
            Bits::Eight => 8,
        }
    }

    /// The element type of unpacked indices.
    const fn dtype(self) -> DType {
        match self {
            Bits::One => DType::UInt1,
            Bits::Two => DType::UInt2,
            Bits::Four => DType::UInt4,
            Bits::Six => DType::UInt6,
            Bits::Eight => DType::UInt8,
        }
    }
}

/// Where compressed tensors are kept until the program is written.
pub trait Store {
    /// Takes a tensor and gives back an equal one, which may lie in a file.
    ///
    /// # Errors
    /// It cannot be kept, for want of space say.
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

/// Why a program could not be optimized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error("a compressed weight cannot be stored: {0}")]
    Store(#[from] std::io::Error),
}

/// What became of a program.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every weight, in program order.
    pub weights: Vec<WeightReport>,
    /// The ops that a conversion to fp16 left in fp32.
    pub kept: Vec<KeptOp>,
}

impl Report {
    /// Adds what became of another function, or in another step.
    pub fn extend(&mut self, other: Report) {
        self.weights.extend(other.weights);
        self.kept.extend(other.kept);
    }
}

/// Compresses the weights of every function of a program. `progress` is told the elements that were dealt with, as
/// they are.
///
/// # Errors
/// The store fails.
///
/// # Examples
/// ```
/// use milwright_mil::{DType, Function, Input, OpKind, Opset, Program, Tensor, Type};
/// use milwright_optimize::{InMemory, Quantization, optimize};
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
/// let report = optimize(&mut program, Quantization::Int8, &mut InMemory, &mut |_| {})?;
/// assert_eq!(report.weights[0].bytes_before, 4 * 4096);
/// assert!(report.weights[0].bytes_after < 4500);
/// assert!(report.weights[0].snr_db.unwrap() > 40.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn optimize(
    program: &mut Program,
    quantization: Quantization,
    store: &mut dyn Store,
    progress: &mut dyn FnMut(usize),
) -> Result<Report, Error> {
    let mut report = Report::default();
    let mut compressor = rewrite::Compressor::default();
    for (name, function) in &mut program.functions {
        match quantization {
            Quantization::None => {}
            Quantization::Float16 => {
                let unknown = float16::Observed::default();
                report.extend(float16::convert(name, function, &unknown, store, progress)?);
            }
            Quantization::Int8 | Quantization::Palette(_) => {
                report.weights.extend(compressor.compress(name, function, quantization, store, progress)?);
            }
        }
    }
    Ok(report)
}

/// The elements of a float tensor as f32: in place where they are that. Empty for other element types.
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

/// A tensor of `dtype`, fp16 or fp32, from as many values as `shape` takes.
fn float_tensor(values: &[f32], shape: &[usize], dtype: DType) -> Tensor {
    let tensor = match dtype {
        DType::Fp16 => Tensor::from_vec(shape, Vec::<f16>::from_f32_slice(values)),
        _ => Tensor::from_vec(shape, values.to_vec()),
    };
    tensor.expect("the caller gives as many values as the shape takes")
}
