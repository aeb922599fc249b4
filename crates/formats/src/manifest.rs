//! `Manifest.json`, the table of contents of an `.mlpackage`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_MANIFEST_BYTES, MAX_MANIFEST_ITEMS};
use crate::{Error, ErrorKind, Result, lfs_pointer, open_regular};

pub(crate) const FILE_NAME: &str = "Manifest.json";
/// The prefix of references to weight files. It stands for the model file's folder.
pub(crate) const MODEL_PATH: &str = "@model_path/";
/// The folder that item paths are relative to.
pub(crate) const DATA_FOLDER: &str = "Data";
/// The folder inside `Data` where our packages keep the model and its weights.
pub(crate) const MODEL_FOLDER: &str = "com.apple.CoreML";
pub(crate) const MODEL_FILE: &str = "model.mlmodel";
pub(crate) const WEIGHTS_FOLDER: &str = "weights";

/// Advice for missing or damaged parts.
pub(crate) const COPY_AGAIN: &str = "the package is damaged or incomplete: copy or download it again";

/// Advice for links out of a package. Download caches (such as Hugging Face's) build packages from links to other
/// folders.
const LINKS: &str = "nothing outside is read: copy the package with its links resolved (`cp -RL PACKAGE COPY`) and open \
                     the copy, or download it into a plain folder (`hf download … --local-dir FOLDER`)";

/// Identifiers only need to be unique within one manifest; fixed ones keep the written bytes deterministic.
const MODEL_ID: &str = "5C0F7A1E-8D3B-5E41-9A6C-2B7E40D19F01";
const WEIGHTS_ID: &str = "5C0F7A1E-8D3B-5E41-9A6C-2B7E40D19F02";

/// A manifest whose structure has been checked; its paths have not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    file_format_version: String,
    item_info_entries: BTreeMap<String, Item>,
    root_model_identifier: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    author: String,
    pub(crate) description: String,
    pub(crate) name: String,
    pub(crate) path: String,
}

impl Manifest {
    /// Creates the manifest of a new package, with items carried over from another one.
    pub(crate) fn new(has_weights: bool, others: &[(String, Item)]) -> Self {
        let item = |name: &str, description: &str| Item {
            author: MODEL_FOLDER.to_owned(),
            description: description.to_owned(),
            name: name.to_owned(),
            path: format!("{MODEL_FOLDER}/{name}"),
        };
        let mut items =
            BTreeMap::from([(MODEL_ID.to_owned(), item(MODEL_FILE, "CoreML Model Specification"))]);
        if has_weights {
            items.insert(WEIGHTS_ID.to_owned(), item(WEIGHTS_FOLDER, "CoreML Model Weights"));
        }
        for (id, other) in others {
            items.entry(id.clone()).or_insert_with(|| other.clone());
        }
        Self {
            file_format_version: "1.0.0".to_owned(),
            item_info_entries: items,
            root_model_identifier: MODEL_ID.to_owned(),
        }
    }

    /// Serializes the manifest, with a final line break.
    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and maps of strings serialize");
        text.push('\n');
        text
    }

    /// The items by identifier.
    pub(crate) fn items(&self) -> impl Iterator<Item = (&String, &Item)> {
        self.item_info_entries.iter()
    }

    /// Reads and checks the manifest of `package`. Returns the path of the model file (below `package`, as the caller
    /// wrote it), the manifest, and the first missing item.
    ///
    /// Every item must be inside `Data`, with symbolic links resolved. The model must exist. The other items are not
    /// always needed, so a missing one is not an error yet.
    pub(crate) fn find_model(package: &Path) -> Result<(PathBuf, Self, Option<Missing>)> {
        let path = beside(package, FILE_NAME)?;
        let mut text = Vec::new();
        open_regular(&path)?
            .take(MAX_MANIFEST_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(|error| Error::io("read it", error).at(&path))?;
        if text.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(Error::limit(format!("more than {MAX_MANIFEST_BYTES} bytes")).at(path));
        }
        let found = Self::parse(&text).and_then(|manifest| {
            let (model, missing) = manifest.resolve(package)?;
            let missing = missing.map(|missing| Missing { error: missing.error.at(&path), ..missing });
            Ok((model, manifest, missing))
        });
        found.map_err(|error| error.at(&path))
    }

    fn parse(text: &[u8]) -> Result<Self> {
        if let Some(error) = lfs_pointer(text) {
            return Err(error);
        }
        let manifest: Self = serde_json::from_slice(text).map_err(|error| {
            Error::malformed(format!("not a package manifest: {error}"))
                .with_hint(COPY_AGAIN)
                .with_source(error)
        })?;
        let version = &manifest.file_format_version;
        if !is_supported(version) {
            return Err(Error::unsupported(format!("package format version {version:?}; 1.0.0 is known")));
        }
        if manifest.item_info_entries.len() > MAX_MANIFEST_ITEMS {
            return Err(Error::limit(format!("more than {MAX_MANIFEST_ITEMS} items")));
        }
        Ok(manifest)
    }

    fn resolve(&self, package: &Path) -> Result<(PathBuf, Option<Missing>)> {
        let real = fs::canonicalize(package).map_err(|error| Error::io("open it", error).at(package))?;
        let data = inside(&real, DATA_FOLDER)?;
        let (mut model, mut missing) = (None, None);
        for (id, item) in &self.item_info_entries {
            let is_model = *id == self.root_model_identifier;
            let path = match inside(&data, &item.path) {
                Err(error) if !is_model && error.kind() == ErrorKind::NotFound => {
                    let is_weights = Path::new(&item.path).ends_with(WEIGHTS_FOLDER);
                    missing.get_or_insert(Missing { is_weights, error });
                    continue;
                }
                path => path?,
            };
            if is_model {
                if path.is_dir() {
                    let error = Error::malformed("rootModelIdentifier names a folder, not a model file");
                    return Err(error.with_hint(COPY_AGAIN));
                }
                model = Some(package.join(DATA_FOLDER).join(&item.path));
            }
        }
        let model = model.ok_or_else(|| {
            Error::malformed(format!("rootModelIdentifier {:?} names no item", self.root_model_identifier))
        })?;
        Ok((model, missing))
    }
}

/// A missing item of a package.
pub(crate) struct Missing {
    /// Whether it is the weights folder. Git, for example, does not keep an empty folder.
    pub is_weights: bool,
    /// The error to report.
    pub error: Error,
}

/// Returns the path of `relative` in `folder` (the path that the user gave); refuses what [`inside`] refuses.
pub(crate) fn beside(folder: &Path, relative: &str) -> Result<PathBuf> {
    let path = folder.join(relative);
    let real = fs::canonicalize(folder).map_err(|error| Error::io("open it", error));
    real.and_then(|real| inside(&real, relative)).map_err(|error| error.at(&path))?;
    Ok(path)
}

/// Returns the real path of `relative` inside the canonical folder `root`; refuses every path that leads out of it.
pub(crate) fn inside(root: &Path, relative: &str) -> Result<PathBuf> {
    let plain = Path::new(relative).components().all(|part| matches!(part, Component::Normal(_)));
    if relative.is_empty() || !plain || relative.contains(['\0', '\\']) {
        let error = Error::malformed(format!("the path {relative:?} leads out of the package"));
        return Err(error.with_hint("nothing outside is read: ask the author of the package for a sound one"));
    }
    let path = root.join(relative);
    let real = fs::canonicalize(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::NotFound, format!("{relative:?} is missing from the package"))
                .with_hint(COPY_AGAIN)
        }
        _ => Error::io("open it", error).at(&path),
    })?;
    if !real.starts_with(root) {
        return Err(Error::malformed(format!(
            "{relative:?} is a symbolic link that leads out of the package"
        ))
        .with_hint(LINKS));
    }
    Ok(real)
}

/// Whether a version is at most 1.0.0, as in the format's own library.
fn is_supported(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => (major, minor, patch) <= (1, 0, 0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, supported) in [
            ("1.0.0", true),
            ("0.9.0", true),
            ("1.0.1", false),
            ("2.0.0", false),
            ("1.0", false),
            ("", false),
        ] {
            assert_eq!(is_supported(version), supported, "{version}");
        }
    }

    #[test]
    fn refuses_paths_that_lead_out() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("Data");
        fs::create_dir(&data).unwrap();
        fs::write(folder.path().join("secret"), "x").unwrap();
        fs::write(data.join("ok"), "x").unwrap();
        let data = data.canonicalize().unwrap();
        assert!(inside(&data, "ok").is_ok());
        for bad in ["", "/etc/hosts", "../secret", "a/../../secret", "./ok", "a\\b", "a\0b"] {
            assert_eq!(inside(&data, bad).unwrap_err().kind(), ErrorKind::Malformed, "{bad:?}");
        }
        assert_eq!(inside(&data, "missing").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn refuses_symbolic_links_that_lead_out() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("Data");
        fs::create_dir(&data).unwrap();
        fs::write(folder.path().join("secret"), "x").unwrap();
        fs::write(data.join("ok"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", data.join("out")).unwrap();
        std::os::unix::fs::symlink("ok", data.join("in")).unwrap();
        std::os::unix::fs::symlink("loop", data.join("loop")).unwrap();
        let data = data.canonicalize().unwrap();
        assert!(inside(&data, "in").is_ok());
        assert_eq!(inside(&data, "out").unwrap_err().kind(), ErrorKind::Malformed);
        assert_eq!(inside(&data, "loop").unwrap_err().kind(), ErrorKind::Io);
    }
}
