//! Inputs to prove a model with: given as files, or drawn to suit what the model declares.

mod read;

use std::collections::HashSet;

use milwright_mil::{DType, Dim, Function, OpKind, Tensor, TensorType, Type, ValueId};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::legacy::declared_axis;
use crate::{Error, FeatureType, Flexibility, FunctionInfo, InferenceRequest, Model, Result};

pub use read::read_file;

/// Sets of inputs for one function.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Each is a whole set of inputs.
    pub requests: Vec<InferenceRequest>,
}

impl Samples {
    /// Draws `count` sets of inputs. The same seed gives the same inputs, on every machine.
    ///
    /// Floats are uniform in -1 … 1. Image pixels are whole numbers from 0 to 255. Integers that index a table (in a
    /// `gather`) are uniform over it; other integers and bools are 0 or 1. Flexible shapes take their default.
    ///
    /// # Errors
    /// There is no such function, or an input has a type that cannot be drawn.
    pub fn draw(model: &Model, function: Option<&str>, seed: u64, count: usize) -> Result<Samples> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let info = model.info().function(function);
        if model.program().is_err() {
            let request = |_| draw_features(model, info, &mut random);
            return Ok(Samples { requests: (0..count).map(request).collect::<Result<_>>()? });
        }
        let program = model.function(function)?;
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            let mut request = InferenceRequest::new();
            for &input in &program.inputs {
                let value = &program[input];
                let Type::Tensor(ty) = &value.ty else { continue };
                let feature = info.and_then(|f| f.inputs.iter().find(|i| i.name == value.name));
                let shape = default_shape(ty, feature.map(|f| &f.ty));
                let tensor = draw(program, input, ty.dtype, &shape, feature.map(|f| &f.ty), &mut random);
                request = request.input(&value.name, tensor.map_err(|e| e.at(model.path()))?);
            }
            requests.push(request);
        }
        Ok(Samples { requests })
    }
}

/// Inputs for a model without a program, from what it declares.
fn draw_features(
    model: &Model,
    info: Option<&FunctionInfo>,
    random: &mut Xoshiro256PlusPlus,
) -> Result<InferenceRequest> {
    let mut request = InferenceRequest::new();
    for input in info.map_or(&[][..], |f| &f.inputs) {
        let shape: Vec<usize> = match &input.ty {
            FeatureType::Double | FeatureType::Int64 => Vec::new(),
            FeatureType::MultiArray { shape, .. } => shape.iter().map(|&n| n as usize).collect(),
            FeatureType::Image { width, height, color, .. } => {
                let channels = if color.starts_with("GRAYSCALE") { 1 } else { 3 };
                vec![1, channels, *height as usize, *width as usize]
            }
            _ => {
                let error = Error::invalid(format!("the input `{}` cannot be drawn: give it", input.name));
                return Err(error.at(model.path()));
            }
        };
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= 1 << 30);
        let elements = elements.ok_or_else(|| Error::invalid("an input is too large to draw"))?;
        let unit = |random: &mut Xoshiro256PlusPlus| (random.next_u64() >> 40) as f32 / (1u64 << 24) as f32;
        let is_image = matches!(input.ty, FeatureType::Image { .. });
        let number = |_| if is_image { (unit(random) * 255.0).round() } else { unit(random) * 2.0 - 1.0 };
        let tensor = Tensor::from_vec(&shape, (0..elements).map(number).collect());
        request = request.input(&input.name, tensor.map_err(|e| Error::invalid(e.to_string()))?);
    }
    Ok(request)
}

/// The shape to draw for an input: what the program fixes, then what the description gives as the default.
pub(crate) fn default_shape(ty: &TensorType, feature: Option<&FeatureType>) -> Vec<usize> {
    let (default, flexibility): (Vec<u64>, _) = match feature {
        Some(FeatureType::MultiArray { shape, flexibility, .. }) => (shape.clone(), Some(flexibility)),
        Some(FeatureType::Image { width, height, .. }) => (vec![1, 1, *height, *width], None),
        _ => (Vec::new(), None),
    };
    let axis = |declared: usize, d: usize| declared_axis(ty.rank(), declared, d);
    let lowest = |d: usize| match flexibility {
        Some(Flexibility::Range { dimensions }) => dimensions.get(axis(dimensions.len(), d)?).map(|r| r.0),
        Some(Flexibility::Enumerated { shapes }) => {
            shapes.first().and_then(|s| s.get(axis(s.len(), d)?)).copied()
        }
        _ => None,
    };
    let size = |(d, dim): (usize, &Dim)| {
        let declared = axis(default.len(), d).and_then(|d| default.get(d)).copied().filter(|&n| n > 0);
        dim.fixed().unwrap_or_else(|| declared.or(lowest(d)).unwrap_or(1).max(1) as usize)
    };
    ty.shape.iter().enumerate().map(size).collect()
}

fn draw(
    program: &Function,
    input: ValueId,
    dtype: DType,
    shape: &[usize],
    feature: Option<&FeatureType>,
    random: &mut Xoshiro256PlusPlus,
) -> Result<Tensor> {
    let too_large = || Error::invalid(format!("an input of shape {shape:?} is too large to draw"));
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let elements = elements.filter(|&n| n <= 1 << 30).ok_or_else(too_large)?;
    let unit = |random: &mut Xoshiro256PlusPlus| (random.next_u64() >> 40) as f32 / (1u64 << 24) as f32;
    let tensor = if matches!(feature, Some(FeatureType::Image { .. })) {
        let pixels = (0..elements).map(|_| (random.next_u64() >> 56) as f32).collect::<Vec<_>>();
        Tensor::from_vec(shape, pixels)
    } else if dtype.is_float() {
        Tensor::from_vec(shape, (0..elements).map(|_| unit(random) * 2.0 - 1.0).collect::<Vec<_>>())
    } else if dtype == DType::Bool {
        Tensor::from_bools(shape, &(0..elements).map(|_| random.next_u64() >> 63 == 1).collect::<Vec<_>>())
    } else if dtype.is_int() {
        let limit = table_size(program, input).unwrap_or(2).clamp(1, i32::MAX as usize) as u64;
        let draws = (0..elements).map(|_| ((random.next_u64() >> 33) % limit) as i32);
        Tensor::from_vec(shape, draws.collect::<Vec<_>>())
    } else {
        return Err(Error::invalid(format!("inputs of type {dtype} cannot be drawn"))
            .with_hint("give inputs with --inputs"));
    };
    tensor.map_err(|e| Error::invalid(e.to_string()))
}

/// The number of rows of the smallest constant table that an integer input indexes.
fn table_size(program: &Function, input: ValueId) -> Option<usize> {
    let mut same: HashSet<ValueId> = HashSet::from([input]);
    let mut smallest = None;
    for op in program.walk() {
        let op = &program[op];
        match op.kind.name() {
            "gather" if op.value("indices").is_some_and(|v| same.contains(&v)) => {
                let table = op.value("x").and_then(|v| program[v].ty.as_tensor());
                let axis = op.value("axis").and_then(|v| program.const_value(v));
                let axis = axis.and_then(|v| v.as_tensor()?.to_i64()?.first().copied()).unwrap_or(0);
                let rows = table.and_then(|t| {
                    let axis = if axis < 0 { axis + t.rank() as i64 } else { axis };
                    t.shape.get(usize::try_from(axis).ok()?)?.fixed()
                });
                smallest = smallest.min(rows).or(rows);
            }
            // Ops that hand their elements on.
            "cast" | "reshape" | "expand_dims" | "squeeze" | "transpose" | "identity" | "slice_by_index"
            | "slice_by_size" | "concat" | "stack" | "split" | "tile" | "greater_equal" | "select"
            | "add"
                if op.values().any(|v| same.contains(&v)) && op.kind != OpKind::Const =>
            {
                same.extend(&op.outputs);
            }
            _ => {}
        }
    }
    smallest
}
