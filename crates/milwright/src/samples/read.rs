//! Inputs from files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use milwright_mil::{Dim, Function, Tensor, TensorType};

use super::{SampleSource, Samples};
use crate::{Error, FeatureType, FunctionInfo, InferenceRequest, Model, Result, image, npy};

impl Samples {
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
        samples.source = SampleSource::Given { folder: Some(folder.to_owned()) };
        Ok(samples)
    }
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
