//! Reads samples from files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use milwright_formats::nearest;
use milwright_mil::{DType, Dim, Tensor, TensorType};

use super::{InputValue, SampleSource, Samples};
use crate::image::Fit;
use crate::{Error, FeatureType, InferenceRequest, Model, Result, image, npy, npz};

impl Samples {
    /// Reads samples from a folder, as [`InputFolder`] describes. Images of another size are scaled and cropped to
    /// fit.
    ///
    /// # Errors
    /// A file is missing or cannot be read, or stacks differ in length.
    pub fn read(model: &Model, function: Option<&str>, folder: impl AsRef<Path>) -> Result<Samples> {
        Samples::read_fitted(model, function, folder, Fit::default())
    }

    /// Reads samples as [`read`](Samples::read) does, and makes images fit.
    ///
    /// # Errors
    /// As for `read`.
    pub fn read_fitted(
        model: &Model,
        function: Option<&str>,
        folder: impl AsRef<Path>,
        fit: Fit,
    ) -> Result<Samples> {
        InputFolder::open(model, function, folder)?.read_all(fit)
    }
}

/// A folder of samples. Opening it reads no inputs yet.
///
/// A sample is a folder with one file per input: `NAME.npy`, `NAME.npz`, `NAME.json` or `NAME.txt`; for an image also
/// `NAME.png`, `NAME.jpg` or `NAME.jpeg`; for a dictionary only `NAME.json`. This folder may be a sample, and so may its
/// subfolders. For a model with a single input, every image or array in the folder and in its subfolders is a sample,
/// whatever its name (every `.txt` file for a text, every `.json` file for a dictionary). Hidden files are ignored. An
/// array is a stack of samples if it has one dimension more than the input, or if its first dimension is a multiple of
/// the input's.
#[derive(Clone, Debug)]
pub struct InputFolder {
    root: PathBuf,
    inputs: Vec<Input>,
    sets: Vec<Set>,
    ignored: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
struct Input {
    name: String,
    feature: Option<FeatureType>,
    /// The type of a program's input.
    tensor: Option<TensorType>,
}

#[derive(Clone, Debug)]
enum Set {
    /// A folder with one file for each input, in the order of the inputs.
    Named(PathBuf, Vec<PathBuf>),
    /// A file with the only input.
    File(PathBuf),
}

/// Files that tools leave in folders, and that are never meant as inputs.
const LEFT_BEHIND: &[&str] = &["Thumbs.db", "desktop.ini"];

impl InputFolder {
    /// Finds the samples in a folder.
    ///
    /// # Errors
    /// The folder cannot be read, or contains no samples.
    pub fn open(model: &Model, function: Option<&str>, folder: impl AsRef<Path>) -> Result<InputFolder> {
        let folder = folder.as_ref();
        if folder.is_file() {
            return Err(Error::invalid("a file, not a folder with inputs")
                .with_hint("put it into a folder, named after its input: NAME.npy, or NAME.png for an image")
                .at(folder));
        }
        let inputs = inputs(model, function)?;
        let mut found =
            InputFolder { root: folder.to_owned(), inputs, sets: Vec::new(), ignored: Vec::new() };
        let (files, subfolders) = entries(folder)?;
        let missing = found.add(folder, &files);
        for subfolder in &subfolders {
            let (files, deeper) = entries(subfolder)?;
            let (sets, ignored) = (found.sets.len(), found.ignored.len());
            let missing = found.add(subfolder, &files);
            if !missing.is_empty() && missing.len() < found.inputs.len() {
                return Err(no_file(&missing, subfolder, &files));
            }
            if found.sets.len() == sets {
                // No file of the subfolder is used: list the subfolder instead of its files.
                found.ignored.truncate(ignored);
                found.ignored.push(subfolder.clone());
            } else {
                found.ignored.extend(deeper);
            }
        }
        let some_are_named = missing.len() < found.inputs.len();
        if !missing.is_empty() && (found.sets.is_empty() || some_are_named) {
            return Err(no_file(&missing, folder, &files));
        }
        if found.sets.is_empty() {
            return Err(Error::invalid("there are no inputs in it").at(folder));
        }
        Ok(found)
    }

    /// The path of the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The number of files or folders with samples.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether there are no samples. An opened folder always has some.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The path of a file or folder with samples.
    pub fn path(&self, set: usize) -> &Path {
        match &self.sets[set] {
            Set::Named(path, _) | Set::File(path) => path,
        }
    }

    /// Files that are not inputs, and folders without any.
    pub fn ignored(&self) -> &[PathBuf] {
        &self.ignored
    }

    /// The origin of samples from this folder.
    pub fn source(&self) -> SampleSource {
        SampleSource::Given { folder: Some(self.root.clone()), ignored: self.ignored.clone() }
    }

    /// Reads all samples.
    ///
    /// # Errors
    /// A file cannot be read, or stacks differ in length.
    pub fn read_all(&self, fit: Fit) -> Result<Samples> {
        let mut samples = Samples { requests: Vec::new(), source: self.source(), ..Samples::default() };
        for set in 0..self.len() {
            samples.requests.extend(self.read(set, fit)?);
        }
        Ok(samples)
    }

    /// Reads a file or folder: one sample, or a stack of samples.
    ///
    /// # Errors
    /// A file cannot be read, or stacks differ in length.
    pub fn read(&self, set: usize, fit: Fit) -> Result<Vec<InferenceRequest>> {
        let files = match &self.sets[set] {
            Set::File(path) => vec![(&self.inputs[0], path)],
            Set::Named(_, files) => self.inputs.iter().zip(files).collect(),
        };
        let mut found = BTreeMap::new();
        for (input, file) in &files {
            found.insert(input.name.clone(), read_input(file, input, fit)?);
        }
        let mut requests = unstack(&self.inputs, found, self.path(set))?;
        for request in &mut requests {
            *request = files.iter().fold(std::mem::take(request), |r, (i, file)| r.read_from(&i.name, *file));
        }
        Ok(requests)
    }

    /// Adds the samples of one folder. Returns the names of inputs without a file there; empty if no file is needed.
    fn add(&mut self, folder: &Path, files: &[PathBuf]) -> Vec<String> {
        let named: Vec<Option<PathBuf>> = self.inputs.iter().map(|i| named_file(files, i)).collect();
        let missing = self.inputs.iter().zip(&named).filter(|(_, file)| file.is_none());
        let missing: Vec<String> = missing.map(|(i, _)| i.name.clone()).collect();
        let named: Vec<PathBuf> = named.into_iter().flatten().collect();
        let others = files.iter().filter(|f| !named.contains(f)).cloned();
        if missing.is_empty() {
            self.ignored.extend(others);
            self.sets.push(Set::Named(folder.to_owned(), named));
            return missing;
        }
        let [input] = &self.inputs[..] else {
            self.ignored.extend(others);
            return missing;
        };
        let extensions = input.extensions_of_any_name();
        let is_input = |f: &PathBuf| extensions.contains(&extension(f).as_str());
        let (inputs, others): (Vec<PathBuf>, Vec<PathBuf>) = others.partition(is_input);
        self.ignored.extend(others);
        let is_missing = inputs.is_empty();
        self.sets.extend(inputs.into_iter().map(Set::File));
        if is_missing { missing } else { Vec::new() }
    }
}

/// The error that lists the inputs without a file in a folder, and the files that are there instead.
fn no_file(missing: &[String], folder: &Path, files: &[PathBuf]) -> Error {
    /// The largest number of files to list.
    const SHOWN: usize = 4;
    let name = |p: &PathBuf| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut names: Vec<String> = files.iter().take(SHOWN).map(name).collect();
    if files.len() > SHOWN {
        names.push("…".to_owned());
    }
    let instead = match &names[..] {
        [] => "the folder has no files: ".to_owned(),
        names => format!("there is {}: ", names.join(", ")),
    };
    let stem = |p: &PathBuf| p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let stems: Vec<String> = files.iter().map(stem).collect();
    let near = missing.iter().find_map(|m| Some((nearest(m, stems.iter().map(String::as_str))?, m)));
    let near = near.map_or(String::new(), |(stem, name)| format!("; is `{stem}` meant for `{name}`?"));
    let other_images = files
        .iter()
        .any(|f| ["gif", "webp", "heic", "heif", "bmp", "tif", "tiff", "avif"].contains(&&*extension(f)));
    let images = if other_images { "; images are read as PNG and JPEG" } else { "" };
    Error::invalid(format!("there is no file for the input {}", missing.join(", ")))
        .with_hint(format!(
            "{instead}name each file after its input: NAME.npy, NAME.png for an image, or NAME.json for a dictionary{images}{near}"
        ))
        .at(folder)
}

impl Input {
    /// The extensions of files with the name of this input, the preferred one first.
    fn extensions(&self) -> &'static [&'static str] {
        match self.feature {
            Some(FeatureType::Image { .. }) => &["npy", "npz", "png", "jpg", "jpeg", "json", "txt"],
            Some(FeatureType::Dictionary { .. }) => &["json"],
            // Images are found here to be refused.
            _ => &["npy", "npz", "json", "txt", "png", "jpg", "jpeg"],
        }
    }

    /// The extensions of files that are taken for this input, if it is the only one, whatever their names.
    fn extensions_of_any_name(&self) -> &'static [&'static str] {
        match self.feature {
            Some(FeatureType::Image { .. }) => &["npy", "npz", "png", "jpg", "jpeg"],
            Some(FeatureType::Dictionary { .. }) => &["json"],
            Some(FeatureType::String) => &["npy", "npz", "txt"],
            _ => &["npy", "npz"],
        }
    }
}

/// The inputs of a function: those of its program, or else the declared ones.
fn inputs(model: &Model, function: Option<&str>) -> Result<Vec<Input>> {
    let info = model.info().function(function);
    let feature = |name: &str| info.and_then(|f| f.inputs.named(name)).map(|i| i.ty.clone());
    if model.program().is_err() {
        let declared = info.map_or(&[][..], |f| &f.inputs).iter();
        return Ok(declared
            .map(|i| Input { name: i.name.clone(), feature: Some(i.ty.clone()), tensor: None })
            .collect());
    }
    let program = model.function(function)?;
    let values = program.inputs.iter().map(|&v| &program[v]);
    let tensors = values.filter_map(|v| v.ty.as_tensor().map(|t| (v.name.clone(), t.clone())));
    Ok(tensors.map(|(name, t)| Input { feature: feature(&name), name, tensor: Some(t) }).collect())
}

/// The files and folders in a folder, sorted, without hidden files and those that tools leave behind.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
    let is_meant = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with('.') && !LEFT_BEHIND.contains(&&*name)
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).filter(is_meant).collect();
    paths.sort();
    let (folders, files) = paths.into_iter().partition(|p| p.is_dir());
    Ok((files, folders))
}

/// The file that is named after an input.
fn named_file(files: &[PathBuf], input: &Input) -> Option<PathBuf> {
    let rank = |file: &Path| {
        let is_named = file.file_stem().is_some_and(|stem| stem.to_string_lossy() == input.name);
        let extension = extension(file);
        let rank = input.extensions().iter().position(|e| *e == extension);
        rank.filter(|_| is_named)
    };
    files.iter().filter(|file| rank(file).is_some()).min_by_key(|file| rank(file)).cloned()
}

fn read_input(path: &Path, input: &Input, fit: Fit) -> Result<InputValue> {
    if matches!(extension(path).as_str(), "json" | "txt") {
        let shape = input.tensor.as_ref().and_then(TensorType::fixed_shape);
        return InputValue::read(path, &input.name, input.feature.as_ref(), shape.as_deref());
    }
    read_array(path, input, fit).map(InputValue::Tensor)
}

fn read_array(path: &Path, input: &Input, fit: Fit) -> Result<Tensor> {
    let is_image = matches!(extension(path).as_str(), "png" | "jpg" | "jpeg");
    if is_image && !matches!(input.feature, Some(FeatureType::Image { .. })) {
        let message =
            format!("the input `{}`: the file is an image, and the model takes something else", input.name);
        return Err(Error::invalid(message).with_hint("give a .npy file").at(path));
    }
    if extension(path) != "npz" {
        return read_file_fitted(path, input.feature.as_ref(), fit);
    }
    let arrays = npz::read(path)?;
    let only = arrays.len() == 1;
    let array = arrays.into_iter().find(|(name, _)| only || *name == input.name);
    array.map(|(_, tensor)| tensor).ok_or_else(|| {
        Error::invalid(format!("it holds no array `{}`", input.name))
            .with_hint("name the arrays after the inputs: numpy.savez(file, NAME=array)")
            .at(path)
    })
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

/// Reads `NAME.npy`, or for an image input an image file, which must have the size that the model takes.
///
/// # Errors
/// The file cannot be read.
pub fn read_file(path: &Path, ty: Option<&FeatureType>) -> Result<Tensor> {
    read_file_fitted(path, ty, Fit::Exact)
}

/// Reads a file as [`read_file`] does, and makes images fit.
///
/// # Errors
/// The file cannot be read.
pub fn read_file_fitted(path: &Path, ty: Option<&FeatureType>, fit: Fit) -> Result<Tensor> {
    match extension(path).as_str() {
        "npy" => npy::read(path),
        "png" | "jpg" | "jpeg" => image::read_fitted(path, ty.unwrap_or(&FeatureType::Unknown), fit),
        // The image reader lists the formats that it supports.
        "gif" | "webp" | "heic" | "heif" | "avif" | "bmp" | "tif" | "tiff"
            if matches!(ty, Some(FeatureType::Image { .. })) =>
        {
            image::read_fitted(path, ty.unwrap_or(&FeatureType::Unknown), fit)
        }
        _ => Err(Error::invalid("not a kind of file that inputs come in")
            .with_hint("inputs are .npy, .npz, .json and .txt files, and .png or .jpg for images")
            .at(path)),
    }
}

/// Splits stacks into samples.
fn unstack(
    declared: &[Input],
    inputs: BTreeMap<String, InputValue>,
    folder: &Path,
) -> Result<Vec<InferenceRequest>> {
    let mut stacks: Vec<(String, Vec<InputValue>)> = Vec::new();
    for (name, value) in inputs {
        let ty = declared.iter().find(|i| i.name == name).and_then(|i| i.tensor.as_ref());
        let parts = match (&value, ty) {
            (InputValue::Tensor(tensor), Some(ty)) => split(tensor, ty),
            _ => None,
        };
        let parts = parts.map(|parts| parts.into_iter().map(InputValue::Tensor).collect());
        stacks.push((name, parts.unwrap_or_else(|| vec![value])));
    }
    let height = stacks.iter().map(|(_, p)| p.len()).max().unwrap_or(0);
    if let Some((name, parts)) = stacks.iter().find(|(_, p)| p.len() != height) {
        let message = format!("the input `{name}` has {} sets, another input has {height}", parts.len());
        return Err(Error::invalid(message).at(folder));
    }
    let request = |i: usize| {
        stacks.iter().fold(InferenceRequest::new(), |r, (name, parts)| parts[i].clone().add_to(r, name))
    };
    Ok((0..height).map(request).collect())
}

fn split(tensor: &Tensor, ty: &TensorType) -> Option<Vec<Tensor>> {
    let fits = |shape: &[usize]| {
        shape.len() == ty.rank() && shape.iter().zip(&ty.shape).all(|(n, d)| d.agrees(Dim::Fixed(*n)))
    };
    let shape = tensor.shape();
    let is_text = tensor.dtype() == DType::String;
    if fits(shape) || tensor.dtype().is_sub_byte() || is_text || shape.is_empty() {
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
