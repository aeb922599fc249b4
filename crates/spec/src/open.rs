//! Opening models: which container is it, what is in it, where are its weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use crate::blob::{Blob, BlobFile};
use crate::limits::{MAX_SPEC_BYTES, MAX_WEIGHT_FILES, NEWEST_SPECIFICATION_VERSION};
use crate::manifest::{self, Manifest};
use crate::map::map_file;
use crate::proto::Model;
use crate::proto::mil_spec::value::BlobFileValue;
use crate::{Error, ErrorKind, Result, references};

/// How references to weight files start: the folder of the model file.
pub(crate) const MODEL_PATH: &str = "@model_path/";

/// A Core ML model that was opened: its messages, and the weight files that it refers to.
#[derive(Debug)]
pub struct Package {
    container: Container,
    model: Model,
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
}

impl Package {
    /// Opens an `.mlmodel` file or an `.mlpackage` folder. What it is is decided by content, not by its name.
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

    /// Reads a serialized model with the contents of its weight files, by their names in the model (such as
    /// `@model_path/weights/weight.bin`). Files that the model does not refer to are ignored.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn from_bytes(model: Bytes, weights: &BTreeMap<String, Bytes>) -> Result<Self> {
        let container = if weights.is_empty() { Container::Mlmodel } else { Container::Mlpackage };
        let model = decode(model)?;
        let weights = load_weights(&model, |name| match weights.get(name) {
            Some(data) => BlobFile::from_bytes(data.clone()),
            None => Err(Error::new(ErrorKind::NotFound, "the model refers to it, but it is missing")),
        })?;
        Ok(Self { container, model, weights })
    }

    /// What kind of container it was.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
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
        let file = self.weights.get(&value.file_name).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no weight file {:?}", value.file_name))
        })?;
        file.blob(value.offset).map_err(|error| error.at(&value.file_name))
    }
}

fn open_folder(path: &Path) -> Result<Package> {
    if path.join(manifest::FILE_NAME).exists() {
        let file = Manifest::find_model(path)?;
        let model = map_file(&file, MAX_SPEC_BYTES).and_then(decode).map_err(|error| error.at(&file))?;
        let folder = file.parent().unwrap_or(path);
        let weights = load_weights(&model, |name| {
            let relative = name
                .strip_prefix(MODEL_PATH)
                .ok_or_else(|| Error::malformed(format!("the path does not start with {MODEL_PATH:?}")))?;
            BlobFile::open(manifest::inside(folder, relative)?)
        })?;
        return Ok(Package { container: Container::Mlpackage, model, weights });
    }
    if has_extension(path, "mlmodelc") || path.join("coremldata.bin").exists() {
        return Err(Error::unsupported("a compiled model (.mlmodelc), which is not read yet")
            .with_hint("open the .mlpackage or .mlmodel that it was compiled from"));
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

fn open_file(path: &Path) -> Result<Package> {
    if let Some(package) = enclosing_package(path) {
        return Err(Error::malformed("a part of a package").with_hint(open_instead(&package)));
    }
    let data = map_file(path, MAX_SPEC_BYTES)?;
    if let Some(error) = recognise_foreign(&data) {
        return Err(error);
    }
    let model = decode(data)?;
    let weights = load_weights(&model, |_| {
        Err(Error::malformed("the model keeps weights in a separate file, which an .mlmodel cannot have")
            .with_hint("an ML program with weights comes as an .mlpackage folder: open that"))
    })?;
    Ok(Package { container: Container::Mlmodel, model, weights })
}

fn decode(data: Bytes) -> Result<Model> {
    if data.len() as u64 > MAX_SPEC_BYTES {
        return Err(Error::limit(format!("{} bytes, more than the limit of {MAX_SPEC_BYTES}", data.len())));
    }
    if data.is_empty() {
        return Err(Error::malformed("the model file is empty"));
    }
    let model = Model::decode(data).map_err(|error| {
        Error::malformed(format!("not a Core ML model, or a damaged one: {error}")).with_source(error)
    })?;
    let version = model.specification_version;
    if version < 1 {
        return Err(Error::malformed("not a Core ML model: it has no specification version"));
    }
    if version > NEWEST_SPECIFICATION_VERSION {
        return Err(Error::unsupported(format!(
            "specification version {version}; versions up to {NEWEST_SPECIFICATION_VERSION} are known"
        ))
        .with_hint("a newer Milwright may read it"));
    }
    if model.r#type.is_none() {
        return Err(Error::malformed("the model has none of the known model types"));
    }
    Ok(model)
}

/// Opens each weight file that the model refers to, once.
fn load_weights(
    model: &Model,
    open: impl Fn(&str) -> Result<BlobFile>,
) -> Result<BTreeMap<String, BlobFile>> {
    let mut files = BTreeMap::new();
    for name in references::weight_files(model) {
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
