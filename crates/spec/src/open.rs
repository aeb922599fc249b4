//! Opening models: which container is it, what is in it, where are its weights.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use crate::blob::{Blob, BlobFile};
use crate::compiled;
use crate::limits::{MAX_MESSAGE_DEPTH, MAX_SPEC_BYTES, MAX_WEIGHT_FILES, NEWEST_SPECIFICATION_VERSION};
use crate::manifest::{self, Manifest};
use crate::map::map_bytes;
use crate::proto::mil_spec::value::BlobFileValue;
use crate::proto::{Model, ModelDescription};
use crate::{Error, ErrorKind, Result, references};

/// How references to weight files start: the folder of the model file.
pub(crate) const MODEL_PATH: &str = "@model_path/";

/// A Core ML model that was opened: its messages, and the weight files that it refers to.
#[derive(Debug)]
pub struct Package {
    container: Container,
    model: Model,
    /// The program, where it is not in `model`.
    program_text: Option<String>,
    /// By the name in the model, such as `@model_path/weights/weight.bin`.
    weights: BTreeMap<String, BlobFile>,
}

/// The kinds of container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Container {
    /// A single protobuf file, `.mlmodel`.
    Mlmodel,
    /// A folder with a manifest, `.mlpackage`.
    Mlpackage,
    /// A folder with a compiled ML program, `.mlmodelc`.
    Mlmodelc,
}

impl Package {
    /// Opens an `.mlmodel` file, or an `.mlpackage` or `.mlmodelc` folder. What it is is decided by content, not by
    /// its name.
    ///
    /// Nothing is read but the model's structure; weights are memory-mapped.
    ///
    /// # Errors
    ///
    /// If there is no such file, if it is not a Core ML model, or a damaged one, or if a weight file that the model
    /// refers to is missing. Weights themselves are checked by [`blob`](Self::blob).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata = fs::metadata(path).map_err(|error| Error::io("open it", error).at(path))?;
        let opened = if metadata.is_dir() { open_folder(path) } else { open_file(path) };
        opened.map_err(|error| error.at(path))
    }

    /// A compiled model with the contents of its weight files, by their names in the program's text.
    ///
    /// # Errors
    ///
    /// If the version is not known, or a weight file that the text refers to is missing.
    pub fn from_text(
        specification_version: i32,
        description: ModelDescription,
        text: String,
        weights: &BTreeMap<String, Bytes>,
    ) -> Result<Self> {
        let model = compiled::shell(specification_version, description)?;
        let weights = load_weights(compiled::weight_files(&text), |name| from_memory(weights, name))?;
        Ok(Self { container: Container::Mlmodelc, model, program_text: Some(text), weights })
    }

    /// Reads a serialized model with the contents of its weight files, by their names in the model (such as
    /// `@model_path/weights/weight.bin`). Files that the model does not refer to are ignored.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn from_bytes(model: Bytes, weights: &BTreeMap<String, Bytes>) -> Result<Self> {
        let container = if weights.is_empty() { Container::Mlmodel } else { Container::Mlpackage };
        let model = decode(model)?;
        let weights = load_weights(references::weight_files(&model), |name| from_memory(weights, name))?;
        Ok(Self { container, model, program_text: None, weights })
    }

    /// What kind of container it was.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The model. That of an `.mlmodelc` has an empty program: see [`program_text`](Self::program_text).
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The program of an `.mlmodelc`, as text in the syntax of `model.mil`.
    pub fn program_text(&self) -> Option<&str> {
        self.program_text.as_deref()
    }

    /// A model of the pipeline that this is, as a package of its own. Weights are shared.
    pub fn part(&self, model: &Model) -> Self {
        let names = references::weight_files(model);
        let weights = self.weights.iter().filter(|(name, _)| names.contains(name.as_str()));
        let weights = weights.map(|(name, file)| (name.clone(), file.clone())).collect();
        Self { container: self.container, model: model.clone(), program_text: None, weights }
    }

    /// The model and its weight files, by their names in the model.
    pub fn into_parts(self) -> (Model, BTreeMap<String, BlobFile>) {
        (self.model, self.weights)
    }

    /// The weight files that the model refers to, by their names in it (such as `@model_path/weights/weight.bin`).
    pub fn weight_files(&self) -> &BTreeMap<String, BlobFile> {
        &self.weights
    }

    /// The weights that a value of the program refers to. Not a copy.
    ///
    /// # Errors
    ///
    /// If the value is not from this model, or the blob that it points to is damaged.
    pub fn blob(&self, value: &BlobFileValue) -> Result<Blob> {
        self.blob_at(&value.file_name, value.offset)
    }

    /// The weights at an offset of a weight file, by its name in the model. Not a copy.
    ///
    /// # Errors
    ///
    /// If there is no such file, or the blob is damaged.
    pub fn blob_at(&self, file_name: &str, offset: u64) -> Result<Blob> {
        let file = self.weights.get(file_name);
        let file =
            file.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no weight file {file_name:?}")))?;
        file.blob(offset).map_err(|error| error.at(file_name))
    }

    /// Gives the memory that mapped weights take back to the system. They are read from their files again when they
    /// are looked at again.
    pub fn release_memory(&self) {
        self.weights.values().for_each(BlobFile::release_memory);
    }
}

fn open_folder(path: &Path) -> Result<Package> {
    if path.join(manifest::FILE_NAME).exists() {
        let file = Manifest::find_model(path)?;
        let model = map_bytes(&file, MAX_SPEC_BYTES).and_then(decode).map_err(|error| error.at(&file))?;
        let folder = file.parent().unwrap_or(path);
        let weights = load_weights(references::weight_files(&model), |name| open_beside(folder, name))?;
        return Ok(Package { container: Container::Mlpackage, model, program_text: None, weights });
    }
    if compiled::is_compiled(path) {
        let (model, text) = compiled::open(path)?;
        let weights = load_weights(compiled::weight_files(&text), |name| open_beside(path, name))?;
        return Ok(Package { container: Container::Mlmodelc, model, program_text: Some(text), weights });
    }
    if has_extension(path, "mlmodelc") {
        return Err(Error::malformed("not a compiled model: it has no coremldata.bin")
            .with_hint("the folder is incomplete: copy or download the whole folder again"));
    }
    if let Some(package) = enclosing_package(path) {
        return Err(Error::malformed("a part of a package").with_hint(open_instead(&package)));
    }
    let error = Error::malformed("not a Core ML package: it has no Manifest.json");
    Err(if has_extension(path, "mlpackage") {
        error.with_hint("the package is incomplete: copy or download the whole folder again")
    } else {
        error.with_hint("give the path of an .mlpackage folder or an .mlmodel file")
    })
}

fn from_memory(files: &BTreeMap<String, Bytes>, name: &str) -> Result<BlobFile> {
    match files.get(name) {
        Some(data) => BlobFile::from_bytes(data.clone()),
        None => Err(Error::new(ErrorKind::NotFound, "the model refers to it, but it is missing")),
    }
}

/// Opens a weight file by its name in the model, which lies in `folder`.
fn open_beside(folder: &Path, name: &str) -> Result<BlobFile> {
    let relative = name
        .strip_prefix(MODEL_PATH)
        .ok_or_else(|| Error::malformed(format!("the path does not start with {MODEL_PATH:?}")))?;
    BlobFile::open(manifest::beside(folder, relative)?)
}

fn open_file(path: &Path) -> Result<Package> {
    if let Some(package) = enclosing_package(path) {
        return Err(Error::malformed("a part of a package").with_hint(open_instead(&package)));
    }
    if let Some(folder) = path.parent().filter(|_| compiled::is_part(path)) {
        return Err(Error::malformed("a part of a compiled model")
            .with_hint(format!("open the folder that it is in: {}", folder.display())));
    }
    let data = map_bytes(path, MAX_SPEC_BYTES)?;
    if let Some(error) = recognise_foreign(&data) {
        return Err(error);
    }
    let model = decode(data)?;
    let weights = load_weights(references::weight_files(&model), |_| {
        Err(Error::malformed("the model keeps weights in a separate file, which an .mlmodel cannot have")
            .with_hint("an ML program with weights comes as an .mlpackage folder: open that"))
    })?;
    Ok(Package { container: Container::Mlmodel, model, program_text: None, weights })
}

fn decode(data: Bytes) -> Result<Model> {
    if data.len() as u64 > MAX_SPEC_BYTES {
        return Err(Error::limit(format!("{} bytes, more than the limit of {MAX_SPEC_BYTES}", data.len())));
    }
    if data.is_empty() {
        return Err(Error::malformed("the model file is empty").with_hint(manifest::COPY_AGAIN));
    }
    let model = Model::decode(data).map_err(not_decoded)?;
    check_version(model.specification_version)?;
    if model.r#type.is_none() {
        return Err(Error::malformed("the model has none of the known model types"));
    }
    Ok(model)
}

/// Refuses specification versions that are not known.
pub(crate) fn check_version(version: i32) -> Result<()> {
    if version < 1 {
        return Err(Error::malformed("not a Core ML model: it has no specification version"));
    }
    if version > NEWEST_SPECIFICATION_VERSION {
        return Err(Error::unsupported(format!(
            "specification version {version}; versions up to {NEWEST_SPECIFICATION_VERSION} are known"
        ))
        .with_hint("a newer Milwright may read it"));
    }
    Ok(())
}

fn not_decoded(error: prost::DecodeError) -> Error {
    // It names every message that it was in, the innermost first.
    let text = error.to_string();
    if text.ends_with("recursion limit reached") {
        let error =
            Error::limit(format!("messages are nested too deep: the recursion limit is {MAX_MESSAGE_DEPTH}"));
        return error
            .with_hint("a model that was made by a converter is not: this file is damaged or made to harm");
    }
    let what = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    Error::malformed(format!("not a Core ML model, or a damaged one: {what}"))
        .with_hint(
            "give an .mlpackage folder or an .mlmodel file; if it is one, copy, download or export it again",
        )
        .with_source(error)
}

/// Opens each weight file that the model refers to, once.
fn load_weights(
    names: BTreeSet<&str>,
    open: impl Fn(&str) -> Result<BlobFile>,
) -> Result<BTreeMap<String, BlobFile>> {
    let mut files = BTreeMap::new();
    for name in names {
        if files.len() == MAX_WEIGHT_FILES {
            return Err(Error::limit(format!(
                "the model refers to more than {MAX_WEIGHT_FILES} weight files"
            )));
        }
        let file = open(name).map_err(|error| error.at(name))?;
        files.insert(name.to_owned(), file);
    }
    Ok(files)
}

/// An error for files that people mistake for models.
fn recognise_foreign(data: &[u8]) -> Option<Error> {
    let (what, hint) = if data.starts_with(b"version https://git-lfs") {
        ("a Git LFS pointer, not the model itself", "fetch the file with `git lfs pull`")
    } else if data.starts_with(b"PK\x03\x04") {
        ("a zip archive", "unpack it and open the .mlpackage or .mlmodel inside")
    } else if data.starts_with(b"{") && data.windows(17).take(4096).any(|part| part == b"itemInfoEntries\":")
    {
        ("the manifest of a package", "open the .mlpackage folder that it is in")
    } else {
        return None;
    };
    Some(Error::malformed(what).with_hint(hint))
}

/// The package folder that `path` lies inside, if it does.
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
