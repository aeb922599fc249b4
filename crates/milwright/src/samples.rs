//! Inputs to prove a model with: given as files, or drawn to suit what the model declares.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use milwright_mil::{DType, Dim, Function, OpKind, Tensor, TensorType, Type, ValueId};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::legacy::declared_axis;
use crate::{Error, FeatureType, Flexibility, FunctionInfo, InferenceRequest, Model, Result, image, npy};

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

    /// Reads inputs from a folder: for each input a file `NAME.npy`, or `NAME.png`, `NAME.jpg` or `NAME.jpeg` for
    /// images. Subfolders are further sets. An array with one dimension more than the input, or whose first
    /// dimension is a multiple of the input's, is a stack of sets.
    ///
    /// # Errors
    /// A file is missing or cannot be read, or stacks differ in height.
    pub fn read(model: &Model, function: Option<&str>, folder: impl AsRef<Path>) -> Result<Samples> {
        let folder = folder.as_ref();
        let program = model.function(function)?;
        let info = model.info().function(function);
        let mut folders = vec![folder.to_owned()];
        let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
        let mut subfolders: Vec<PathBuf> =
            entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.is_dir()).collect();
        subfolders.sort();
        folders.extend(subfolders);
        let mut samples = Samples::default();
        for (i, folder) in folders.iter().enumerate() {
            let found = read_folder(program, info, folder)?;
            let missing: Vec<&str> =
                program_inputs(program).map(|(n, _)| n).filter(|n| !found.contains_key(*n)).collect();
            if missing.is_empty() {
                samples.requests.extend(unstack(program, found, folder)?);
            } else if !found.is_empty() || (i == 0 && folders.len() == 1) {
                return Err(Error::invalid(format!("there is no file for the input {}", missing.join(", ")))
                    .with_hint("name each file after its input: NAME.npy, or NAME.png for an image")
                    .at(folder));
            }
        }
        if samples.requests.is_empty() {
            return Err(Error::invalid("it has no inputs").at(folder));
        }
        Ok(samples)
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

fn program_inputs(program: &Function) -> impl Iterator<Item = (&str, &TensorType)> {
    let inputs = program.inputs.iter().map(|&v| &program[v]);
    inputs.filter_map(|v| v.ty.as_tensor().map(|t| (v.name.as_str(), t)))
}

/// Reads `NAME.npy`, or an image file for an image input.
///
/// # Errors
/// The file cannot be read.
pub fn read_file(path: &Path, ty: Option<&FeatureType>) -> Result<Tensor> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "npy" => npy::read(path),
        "png" | "jpg" | "jpeg" => image::read(path, ty.unwrap_or(&FeatureType::Unknown)),
        _ => Err(Error::invalid("not a kind of file that inputs come in")
            .with_hint("inputs are .npy files, and .png or .jpg for images")
            .at(path)),
    }
}

fn read_folder(
    program: &Function,
    info: Option<&FunctionInfo>,
    folder: &Path,
) -> Result<BTreeMap<String, Tensor>> {
    let mut found = BTreeMap::new();
    for (name, _) in program_inputs(program) {
        let feature = info.and_then(|f| f.inputs.iter().find(|i| i.name == name));
        let file = ["npy", "png", "jpg", "jpeg"].map(|e| folder.join(format!("{name}.{e}")));
        if let Some(file) = file.iter().find(|f| f.is_file()) {
            found.insert(name.to_owned(), read_file(file, feature.map(|f| &f.ty))?);
        }
    }
    Ok(found)
}

/// Takes stacks of inputs apart.
fn unstack(
    program: &Function,
    inputs: BTreeMap<String, Tensor>,
    folder: &Path,
) -> Result<Vec<InferenceRequest>> {
    let mut stacks: Vec<(String, Vec<Tensor>)> = Vec::new();
    for (name, tensor) in inputs {
        let ty = program_inputs(program).find(|(n, _)| *n == name).map(|(_, t)| t);
        let parts = ty.and_then(|ty| split(&tensor, ty)).unwrap_or_else(|| vec![tensor]);
        stacks.push((name, parts));
    }
    let height = stacks.iter().map(|(_, p)| p.len()).max().unwrap_or(0);
    if let Some((name, parts)) = stacks.iter().find(|(_, p)| p.len() != height) {
        let message = format!("the input `{name}` has {} sets, another input has {height}", parts.len());
        return Err(Error::invalid(message).at(folder));
    }
    let request = |i: usize| {
        stacks.iter().fold(InferenceRequest::new(), |r, (name, parts)| r.input(name, parts[i].clone()))
    };
    Ok((0..height).map(request).collect())
}

fn split(tensor: &Tensor, ty: &TensorType) -> Option<Vec<Tensor>> {
    let fits = |shape: &[usize]| {
        shape.len() == ty.rank() && shape.iter().zip(&ty.shape).all(|(n, d)| d.agrees(Dim::Fixed(*n)))
    };
    let shape = tensor.shape();
    if fits(shape) || tensor.dtype().is_sub_byte() || shape.is_empty() {
        return None;
    }
    let part: Vec<usize> = if fits(&shape[1..]) {
        shape[1..].to_vec()
    } else {
        let mut part = shape.to_vec();
        part[0] = ty.shape.first()?.fixed().filter(|&n| shape[0].is_multiple_of(n) && n > 0)?;
        part
    };
    if !fits(&part) {
        return None;
    }
    let bytes = tensor.dtype().byte_len(part.iter().product())?;
    let all = tensor.shared_bytes();
    let parts = (0..all.len() / bytes.max(1)).map(|i| all.slice(i * bytes..(i + 1) * bytes));
    parts.map(|b| Tensor::from_bytes(tensor.dtype(), &part, b).ok()).collect()
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
