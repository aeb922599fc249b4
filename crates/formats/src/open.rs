//! Opening models: which container is it, what does it contain, where are its weights?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::blob::{Blob, BlobFile};
use crate::compiled;
use crate::decode::decode;
use crate::limits::{MAX_OVERLAY_BYTES, MAX_SPEC_BYTES, MAX_WEIGHT_FILES};
use crate::manifest::{self, MODEL_PATH, Manifest};
use crate::proto::mil_spec::value::BlobFileValue;
use crate::proto::{Model, ModelDescription};
use crate::{Error, ErrorKind, Result, foreign, lfs_pointer, nearest, overlay, references};
use milwright_files::map_bytes;

/// A Core ML model that was opened: its messages, and the weight files that it refers to.
#[derive(Debug)]
pub struct Package {
    container: Container,
    model: Model,
    /// The program, if it is not in `model`.
    program_text: Option<Arc<str>>,
    /// The weight files, by their names in the model, such as `@model_path/weights/weight.bin`.
    weights: BTreeMap<String, BlobFile>,
    /// Why a weight file could not be opened, by its name in the model.
    unreadable: BTreeMap<String, Error>,
    /// The layers of a compiled network that this crate does not understand.
    unread_layers: Vec<String>,
    /// Its folder, if it has a manifest.
    folder: Option<Folder>,
    /// The models of a compiled pipeline. Each has weight files of its own.
    parts: Vec<Package>,
}

/// The folder of a package.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    manifest: Manifest,
    /// The path of the model file in the folder.
    model: PathBuf,
}

/// Whether a weight file that cannot be opened is an error.
#[derive(Clone, Copy, PartialEq)]
enum Weights {
    /// Yes: the model cannot be opened.
    Required,
    /// No: the model is opened without it.
    Optional,
}

/// The kinds of container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Container {
    /// A single protobuf file, `.mlmodel`.
    Mlmodel,
    /// A folder with a manifest, `.mlpackage`.
    Mlpackage,
    /// A folder with a compiled model, `.mlmodelc`: an ML program, a neural network, or a pipeline of these.
    Mlmodelc,
}

impl Package {
    /// Opens an `.mlmodel` file, or an `.mlpackage` or `.mlmodelc` folder. The content, not the name, decides which it
    /// is.
    ///
    /// Reads only the model's structure; weights are memory-mapped.
    ///
    /// # Errors
    ///
    /// If there is no such file, if it is damaged or not a Core ML model, or if a weight file that the model refers to
    /// is missing. Weights themselves are checked by [`blob`](Self::blob).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), Weights::Required)
    }

    /// Like [`open`](Self::open), for callers that only describe the model and do not run it.
    /// [`unreadable_weights`](Self::unreadable_weights) lists weight files that are missing, damaged, or not fetched
    /// yet (Git LFS pointers). Also opens the specification of a package without its package.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), except for weight files.
    pub fn open_without_weights(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), Weights::Optional)
    }

    fn open_with(path: &Path, mode: Weights) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|error| missing(path, error))?;
        let opened = if metadata.is_dir() { open_folder(path, mode) } else { open_file(path, mode) };
        opened.map_err(|error| error.at(path))
    }

    /// Creates a compiled model from its text and the contents of its weight files, by their names in the text.
    ///
    /// # Errors
    ///
    /// If the version is unknown, or a weight file that the text refers to is missing.
    pub fn from_text(
        specification_version: i32,
        description: ModelDescription,
        text: String,
        weights: &BTreeMap<String, Bytes>,
    ) -> Result<Self> {
        let model = compiled::shell(specification_version, description)?;
        let names = compiled::weight_files(&text);
        let (weights, unreadable) =
            load_weights(names, Weights::Required, |name| from_memory(weights, name))?;
        let (container, program_text) = (Container::Mlmodelc, Some(text.into()));
        Ok(Self {
            container,
            model,
            program_text,
            weights,
            unreadable,
            unread_layers: Vec::new(),
            folder: None,
            parts: Vec::new(),
        })
    }

    /// Reads a serialized model. `weights` has the contents of its weight files, by their names in the model (such as
    /// `@model_path/weights/weight.bin`). Files that the model does not refer to are ignored.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn from_bytes(model: Bytes, weights: &BTreeMap<String, Bytes>) -> Result<Self> {
        let container = if weights.is_empty() { Container::Mlmodel } else { Container::Mlpackage };
        let model = decode(model)?;
        let names = references::weight_files(&model);
        let (weights, unreadable) =
            load_weights(names, Weights::Required, |name| from_memory(weights, name))?;
        Ok(Self {
            container,
            model,
            program_text: None,
            weights,
            unreadable,
            unread_layers: Vec::new(),
            folder: None,
            parts: Vec::new(),
        })
    }

    /// The kind of container it was read from.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The model. For an `.mlmodelc` its program is empty: see [`program_text`](Self::program_text).
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The program of an `.mlmodelc`, in the syntax of `model.mil`. The programs of a compiled pipeline are in its
    /// [parts](Self::part).
    pub fn program_text(&self) -> Option<&str> {
        self.program_text.as_deref()
    }

    /// The layers of a compiled network that this crate does not understand, each with the reason. They have no content
    /// in [`model`](Self::model), so that the model can be described but not run.
    pub fn unread_layers(&self) -> &[String] {
        &self.unread_layers
    }

    /// Returns a model of this pipeline, by its number and its message, as a package of its own. Weights are shared.
    pub fn part(&self, index: usize, model: &Model) -> Self {
        self.parts.get(index).map_or_else(|| self.with_model(model), Self::again)
    }

    /// Returns a package with the same weights and another model.
    pub fn with_model(&self, model: &Model) -> Self {
        let names = references::weight_files(model);
        let weights = self.weights.iter().filter(|(name, _)| names.contains(name.as_str()));
        let weights = weights.map(|(name, file)| (name.clone(), file.clone())).collect();
        let unreadable = self.unreadable.iter().filter(|(name, _)| names.contains(name.as_str()));
        let unreadable = unreadable.map(|(name, error)| (name.clone(), error.again())).collect();
        let (container, model) = (self.container, model.clone());
        Self {
            container,
            model,
            program_text: None,
            weights,
            unreadable,
            unread_layers: Vec::new(),
            folder: None,
            parts: Vec::new(),
        }
    }

    /// A copy of this compiled model, which shares its text and weights.
    fn again(&self) -> Self {
        let unreadable = self.unreadable.iter().map(|(name, error)| (name.clone(), error.again()));
        Self {
            container: self.container,
            model: self.model.clone(),
            program_text: self.program_text.clone(),
            weights: self.weights.clone(),
            unreadable: unreadable.collect(),
            unread_layers: self.unread_layers.clone(),
            folder: None,
            parts: self.parts.iter().map(Self::again).collect(),
        }
    }

    /// The model and its weight files, by their names in the model.
    pub fn into_parts(self) -> (Model, BTreeMap<String, BlobFile>) {
        (self.model, self.weights)
    }

    /// The weight files that the model refers to, by their names in it (such as `@model_path/weights/weight.bin`).
    pub fn weight_files(&self) -> &BTreeMap<String, BlobFile> {
        &self.weights
    }

    /// The weight files that [`open_without_weights`](Self::open_without_weights) could not open, and why, by their
    /// names in the model.
    pub fn unreadable_weights(&self) -> &BTreeMap<String, Error> {
        &self.unreadable
    }

    /// The package's folder, its manifest, and the path of the model file in it; `None` if it has no manifest.
    pub(crate) fn folder(&self) -> Option<(&Path, &Manifest, &Path)> {
        self.folder.as_ref().map(|folder| (&*folder.path, &folder.manifest, &*folder.model))
    }

    /// Whether `path`, in the package's folder, is a weight file that the model refers to.
    pub(crate) fn is_weight_file(&self, path: &Path) -> bool {
        let Some(beside) = self.folder.as_ref().and_then(|folder| folder.model.parent()) else {
            return false;
        };
        let names = self.weights.keys().chain(self.unreadable.keys());
        names.filter_map(|name| name.strip_prefix(MODEL_PATH)).any(|name| beside.join(name) == path)
    }

    /// Returns the weights that a value of the program refers to, without copying them.
    ///
    /// # Errors
    ///
    /// If the value is not from this model, or the blob that it refers to is damaged.
    pub fn blob(&self, value: &BlobFileValue) -> Result<Blob> {
        self.blob_at(&value.file_name, value.offset)
    }

    /// Returns the weights at an offset of a weight file, by its name in the model, without copying them.
    ///
    /// # Errors
    ///
    /// If there is no such file, or the blob is damaged.
    pub fn blob_at(&self, file_name: &str, offset: u64) -> Result<Blob> {
        if let Some(error) = self.unreadable.get(file_name) {
            return Err(error.again());
        }
        let file = self.weights.get(file_name);
        let file =
            file.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no weight file {file_name:?}")))?;
        file.blob(offset).map_err(|error| error.at(file_name))
    }

    /// Returns the memory of mapped weights to the system. They are read from their files again when accessed.
    pub fn release_memory(&self) {
        self.weights.values().for_each(BlobFile::release_memory);
        self.parts.iter().for_each(Package::release_memory);
    }
}

/// The error for a path without a model. Suggests a similar name.
fn missing(path: &Path, error: std::io::Error) -> Error {
    /// How many names of a folder are compared.
    const MAX_NAMES: usize = 1000;
    let is_missing = error.kind() == std::io::ErrorKind::NotFound;
    let error = Error::io("open it", error).at(path);
    let stem = |name: &Path| name.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    let wanted = stem(path);
    if !is_missing || wanted.is_empty() {
        return error;
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(listed).into_iter().flatten().flatten().take(MAX_NAMES);
    let is_model =
        |name: &PathBuf| ["mlmodel", "mlpackage", "mlmodelc"].iter().any(|e| has_extension(name, e));
    let mut models: Vec<PathBuf> =
        entries.map(|entry| PathBuf::from(entry.file_name())).filter(is_model).collect();
    models.sort();
    let stems: Vec<String> = models.iter().map(|name| stem(name)).collect();
    let near = nearest(&wanted, stems.iter().map(String::as_str));
    match near.and_then(|near| models.iter().find(|name| stem(name) == near)) {
        Some(near) => error.with_hint(format!("check the path; there is {}", folder.join(near).display())),
        None => error,
    }
}

fn open_folder(path: &Path, mode: Weights) -> Result<Package> {
    // A broken link counts, too: the error then names the missing file.
    if path.join(manifest::FILE_NAME).symlink_metadata().is_ok() {
        let (file, manifest, missing) = Manifest::find_model(path)?;
        let mut model = map_bytes(&file, MAX_SPEC_BYTES).and_then(decode).map_err(|error| error.at(&file))?;
        apply_overlays(&mut model, path, &manifest)?;
        let folder = file.parent().unwrap_or(path);
        let names = references::weight_files(&model);
        // A weights folder may be missing if the model has no weights.
        if let Some(missing) = missing
            && mode != Weights::Optional
            && !(missing.is_weights && names.is_empty())
        {
            return Err(missing.error);
        }
        let (weights, unreadable) = load_weights(names, mode, |name| open_beside(folder, name))?;
        let model_file = file.strip_prefix(path).unwrap_or(&file).to_owned();
        let folder = Some(Folder { path: path.to_owned(), manifest, model: model_file });
        let container = Container::Mlpackage;
        let unread_layers = Vec::new();
        return Ok(Package {
            container,
            model,
            program_text: None,
            weights,
            unreadable,
            unread_layers,
            folder,
            parts: Vec::new(),
        });
    }
    if compiled::is_compiled(path) {
        return compiled_package(compiled::open(path)?, mode);
    }
    if has_extension(path, "mlmodelc") {
        return Err(Error::malformed("not a compiled model: it has no coremldata.bin")
            .with_hint("the folder is incomplete: copy or download the whole folder again"));
    }
    if let Some(package) = enclosing_package(path) {
        return Err(Error::malformed("a part of a package").with_hint(open_instead(&package)));
    }
    if let Some(error) = foreign::recognise_folder(path) {
        return Err(error);
    }
    let error = Error::malformed("not a Core ML package: it has no Manifest.json");
    Err(if has_extension(path, "mlpackage") {
        error.with_hint("the package is incomplete: copy or download the whole folder again")
    } else {
        error.with_hint("give the path of an .mlpackage folder or an .mlmodel file")
    })
}

/// Creates the package of a compiled model, with its weight files. The reader has bounded how deep pipelines nest.
fn compiled_package(opened: compiled::Opened, mode: Weights) -> Result<Package> {
    let compiled::Opened { folder, model, text, unread: unread_layers, parts } = opened;
    let names = text.as_deref().map(compiled::weight_files).unwrap_or_default();
    let (weights, mut unreadable) = load_weights(names, mode, |name| open_beside(&folder, name))?;
    let part = |part: compiled::Opened| {
        let folder = part.folder.clone();
        compiled_package(part, mode).map_err(|error| error.at(folder))
    };
    let parts = parts.into_iter().map(part).collect::<Result<Vec<_>>>()?;
    for (i, part) in parts.iter().enumerate() {
        unreadable.extend(part.unreadable.iter().map(|(name, error)| {
            let inside = name.strip_prefix(MODEL_PATH).unwrap_or(name);
            (format!("{MODEL_PATH}{}/{inside}", compiled::part_folder(i)), error.again())
        }));
    }
    let program_text = text.map(Arc::from);
    let (container, folder) = (Container::Mlmodelc, None);
    Ok(Package { container, model, program_text, weights, unreadable, unread_layers, folder, parts })
}

/// Applies the latest texts of the package's author, as edited in Xcode.
fn apply_overlays(model: &mut Model, package: &Path, manifest: &Manifest) -> Result<()> {
    type Apply = fn(&mut ModelDescription, &[u8]) -> Result<()>;
    let overlays: [(&str, Apply); 2] =
        [(overlay::METADATA, overlay::metadata), (overlay::FEATURES, overlay::features)];
    for (kind, apply) in overlays {
        for (_, item) in
            manifest.items().filter(|(_, item)| [&item.description, &item.name].contains(&&kind.to_owned()))
        {
            // `find_model` has checked that the path stays inside the package.
            let file = package.join(manifest::DATA_FOLDER).join(&item.path);
            if !file.exists() {
                continue;
            }
            let json = map_bytes(&file, MAX_OVERLAY_BYTES)?;
            apply(model.description.get_or_insert_default(), &json).map_err(|error| error.at(file))?;
        }
    }
    Ok(())
}

fn from_memory(files: &BTreeMap<String, Bytes>, name: &str) -> Result<BlobFile> {
    match files.get(name) {
        Some(data) => BlobFile::from_bytes(data.clone()),
        None => Err(Error::new(ErrorKind::NotFound, "the model refers to it, but it is missing")),
    }
}

/// Opens a weight file by its name in the model, whose file is in `folder`.
fn open_beside(folder: &Path, name: &str) -> Result<BlobFile> {
    let relative = name
        .strip_prefix(MODEL_PATH)
        .ok_or_else(|| Error::malformed(format!("the path does not start with {MODEL_PATH:?}")))?;
    BlobFile::open(manifest::beside(folder, relative)?)
}

fn open_file(path: &Path, mode: Weights) -> Result<Package> {
    if let Some(package) = enclosing_package(path) {
        return Err(Error::malformed("a part of a package").with_hint(open_instead(&package)));
    }
    if let Some(folder) = path.parent().filter(|_| compiled::is_part(path)) {
        return Err(Error::malformed("a part of a compiled model")
            .with_hint(format!("open the folder that it is in: {}", folder.display())));
    }
    if let Some(error) = foreign::recognise(path) {
        return Err(error);
    }
    // If the content does not tell what it is, the name may.
    let by_name = |error: Error| match error.kind() {
        ErrorKind::Malformed | ErrorKind::Unsupported | ErrorKind::LimitExceeded => {
            foreign::by_name(path).unwrap_or(error)
        }
        _ => error,
    };
    let data = map_bytes(path, MAX_SPEC_BYTES).map_err(by_name)?;
    if let Some(error) = lfs_pointer(&data) {
        return Err(error);
    }
    let model = decode(data).map_err(by_name)?;
    let (weights, unreadable) = load_weights(references::weight_files(&model), mode, |_| {
        Err(Error::malformed("the model keeps weights in a separate file, which an .mlmodel cannot have")
            .with_hint("an ML program with weights comes as an .mlpackage folder: open that"))
    })?;
    let (container, unread_layers, parts) = (Container::Mlmodel, Vec::new(), Vec::new());
    Ok(Package {
        container,
        model,
        program_text: None,
        weights,
        unreadable,
        unread_layers,
        folder: None,
        parts,
    })
}

/// Opens each weight file that the model refers to, once.
fn load_weights(
    names: BTreeSet<&str>,
    mode: Weights,
    open: impl Fn(&str) -> Result<BlobFile>,
) -> Result<(BTreeMap<String, BlobFile>, BTreeMap<String, Error>)> {
    let (mut files, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
    for name in names {
        if files.len() + unreadable.len() == MAX_WEIGHT_FILES {
            return Err(Error::limit(format!(
                "the model refers to more than {MAX_WEIGHT_FILES} weight files"
            )));
        }
        match open(name).map_err(|error| error.at(name)) {
            Ok(file) => drop(files.insert(name.to_owned(), file)),
            Err(error) if mode == Weights::Optional => drop(unreadable.insert(name.to_owned(), error)),
            Err(error) => return Err(error),
        }
    }
    Ok((files, unreadable))
}

/// Returns the package folder that contains `path`, if there is one.
fn enclosing_package(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    absolute
        .ancestors()
        .skip(1)
        .take(4)
        .find(|folder| {
            folder.join(manifest::FILE_NAME).is_file() && folder.join(manifest::DATA_FOLDER).is_dir()
        })
        .map(Path::to_owned)
}

fn open_instead(package: &Path) -> String {
    format!("open the package itself: {}", package.display())
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}
