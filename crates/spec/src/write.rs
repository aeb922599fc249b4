//! Writing models: whole or not at all.
//!
//! A package is built in a temporary folder beside its destination, synced, and put in place by one rename (where
//! there is an older package: by exchanging the two names, if the system can). Whatever happens before that, an error,
//! a full disk, a killed process, the destination is as it was.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prost::Message as _;
use tempfile::{Builder, TempDir};

use crate::blob::{BlobType, BlobWriter};
use crate::manifest::{DATA_FOLDER, FILE_NAME, MODEL_FILE, MODEL_FOLDER, Manifest, WEIGHTS_FOLDER};
use crate::open::MODEL_PATH;
use crate::proto::Model;
use crate::proto::mil_spec::value::BlobFileValue;
use crate::{Error, Result};

const WEIGHT_FILE: &str = "weight.bin";
/// A temporary folder that is older than this was left by a crash.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes a model as a single `.mlmodel` file. An existing file is replaced whole or not at all.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_mlmodel(path: impl AsRef<Path>, model: &Model) -> Result<()> {
    let path = path.as_ref();
    let write = || {
        let folder = parent(path);
        let mut file = Builder::new().prefix(&prefix(path)).tempfile_in(folder)?;
        file.write_all(&model.encode_to_vec())?;
        share(file.path(), 0o666)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_folder(folder)
    };
    write().map_err(|error: std::io::Error| Error::io("write it", error).at(path))
}

/// Builds an `.mlpackage`: weights first, one by one, then the model that refers to them.
///
/// Dropping it, or the [`StagedPackage`] that it becomes, removes everything that was written.
#[derive(Debug)]
pub struct PackageWriter {
    destination: PathBuf,
    staging: TempDir,
    weights: Option<BlobWriter<BufWriter<File>>>,
}

impl PackageWriter {
    /// Starts a package that is to be at `destination`. What earlier runs that crashed left there is cleaned up.
    ///
    /// # Errors
    ///
    /// If the folder of the destination is missing or cannot be written, or a plain file is in the way.
    pub fn create(destination: impl AsRef<Path>) -> Result<Self> {
        let destination = destination.as_ref();
        if destination.is_file() {
            return Err(Error::invalid("a file of this name is in the way; a package is a folder")
                .with_hint("choose a name that ends in .mlpackage")
                .at(destination));
        }
        let folder = parent(destination);
        remove_stale(folder, &prefix(destination));
        let staging = Builder::new().prefix(&prefix(destination)).tempdir_in(folder);
        let staging = staging.map_err(|error| Error::io("write into its folder", error).at(destination))?;
        let io = |error| Error::io("write it", error).at(destination);
        share(staging.path(), 0o777).map_err(io)?;
        fs::create_dir_all(staging.path().join(DATA_FOLDER).join(MODEL_FOLDER)).map_err(io)?;
        Ok(Self { destination: destination.to_owned(), staging, weights: None })
    }

    /// Appends `len` packed elements to the weight file and returns the reference by which the program finds them.
    ///
    /// # Errors
    ///
    /// If writing fails, or `data` is not as long as `len` elements are.
    pub fn append(&mut self, dtype: BlobType, len: u64, data: &[u8]) -> Result<BlobFileValue> {
        let folder = self.model_folder().join(WEIGHTS_FOLDER);
        let mut append = || {
            let writer = match &mut self.weights {
                Some(writer) => writer,
                none => {
                    fs::create_dir_all(&folder)?;
                    let file = File::create_new(folder.join(WEIGHT_FILE))?;
                    none.insert(BlobWriter::new(BufWriter::with_capacity(1 << 20, file))?)
                }
            };
            writer.append(dtype, len, data)
        };
        let offset = append();
        let offset = offset.map_err(|error| Error::io("write it", error).at(&self.destination))?;
        Ok(BlobFileValue { file_name: format!("{MODEL_PATH}{WEIGHTS_FOLDER}/{WEIGHT_FILE}"), offset })
    }

    /// Writes the model and the manifest, and syncs everything to disk. The package is whole then, but not yet at its
    /// destination.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn stage(mut self, model: &Model) -> Result<StagedPackage> {
        let weights = self.weights.take();
        let has_weights = weights.is_some();
        let folder = self.model_folder();
        let write = || {
            if let Some(weights) = weights {
                let file = weights.finish()?.into_inner().map_err(|error| error.into_error())?;
                file.sync_all()?;
                sync_folder(&folder.join(WEIGHTS_FOLDER))?;
            }
            write_synced(&folder.join(MODEL_FILE), &model.encode_to_vec())?;
            sync_folder(&folder)?;
            sync_folder(&self.staging.path().join(DATA_FOLDER))?;
            write_synced(
                &self.staging.path().join(FILE_NAME),
                Manifest::new(has_weights).to_json().as_bytes(),
            )?;
            sync_folder(self.staging.path())
        };
        write().map_err(|error: std::io::Error| Error::io("write it", error).at(&self.destination))?;
        Ok(StagedPackage { destination: self.destination, staging: self.staging })
    }

    fn model_folder(&self) -> PathBuf {
        self.staging.path().join(DATA_FOLDER).join(MODEL_FOLDER)
    }
}

/// A package that is whole, in a temporary folder: it can be opened and tried before it takes its place.
#[derive(Debug)]
pub struct StagedPackage {
    destination: PathBuf,
    staging: TempDir,
}

impl StagedPackage {
    /// Where it is now.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Puts the package in its place. An existing package is replaced.
    ///
    /// # Errors
    ///
    /// If renaming fails; what was at the destination is still there then.
    pub fn commit(self) -> Result<()> {
        let Self { destination, staging } = self;
        let commit = || {
            if destination.exists() {
                replace(staging.path(), &destination)?;
            } else {
                fs::rename(staging.path(), &destination)?;
            }
            sync_folder(parent(&destination))
        };
        // When the names were exchanged, dropping `staging` removes the old package.
        commit().map_err(|error: std::io::Error| Error::io("put it in its place", error).at(&destination))
    }
}

/// Makes `new` take the place of `old`; afterwards `new` is the old one, or is gone.
fn replace(new: &Path, old: &Path) -> std::io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(()),
            // Not on this file system.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Two renames: a crash between them leaves the old package under its temporary name.
    let aside = Builder::new().prefix(&prefix(old)).tempdir_in(parent(old))?;
    let aside_path = aside.path().join("old");
    fs::rename(old, &aside_path)?;
    fs::rename(new, old).inspect_err(|_| {
        // Best effort: the first error is the one to report.
        let _ = fs::rename(&aside_path, old);
    })
}

fn write_synced(path: &Path, data: &[u8]) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(data)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How temporary names for this destination start.
fn prefix(destination: &Path) -> String {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.milwright-")
}

/// Temporary files are private to their owner; models are not.
fn share(path: &Path, mode: u32) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // There is no call that only reads the umask, so the usual one stands in for it.
        fs::set_permissions(path, fs::Permissions::from_mode(mode & !0o022))?;
    }
    #[cfg(not(unix))]
    let _ = (path, mode);
    Ok(())
}

fn remove_stale(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        let age = entry.metadata().and_then(|metadata| metadata.modified());
        let age = age.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if ours && age.is_some_and(|age| age > STALE) {
            // Another process may be cleaning too; what cannot be removed now is removed another time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Package;
    use crate::proto::{Identity, ModelDescription, mil_spec, model};

    fn program(reference: BlobFileValue) -> Model {
        let value = mil_spec::Value {
            value: Some(mil_spec::value::Value::BlobFileValue(reference)),
            ..mil_spec::Value::default()
        };
        let program = mil_spec::Program { attributes: [("w".into(), value)].into(), ..Default::default() };
        Model {
            specification_version: 7,
            description: Some(Box::new(ModelDescription::default())),
            is_updatable: false,
            r#type: Some(model::Type::MlProgram(program)),
        }
    }

    fn write(path: &Path, byte: u8) -> Result<StagedPackage> {
        let mut writer = PackageWriter::create(path)?;
        let reference = writer.append(BlobType::UInt8, 100, &[byte; 100])?;
        writer.stage(&program(reference))
    }

    fn weight(path: &Path) -> u8 {
        let package = Package::open(path).unwrap();
        package.weight_files().values().next().unwrap().blob(64).unwrap().data[99]
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replaces_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.mlpackage");
        write(&path, 1).unwrap().commit().unwrap();
        assert_eq!(weight(&path), 1);
        let staged = write(&path, 2).unwrap();
        assert_eq!((weight(&path), weight(staged.path())), (1, 2));
        drop(staged);
        assert_eq!(weight(&path), 1);
        write(&path, 3).unwrap().commit().unwrap();
        assert_eq!(weight(&path), 3);
        assert_eq!(names(folder.path()), ["m.mlpackage"]);
    }

    #[test]
    fn the_same_model_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.mlpackage", "b.mlpackage"].map(|n| folder.path().join(n));
        for path in &paths {
            write(path, 1).unwrap().commit().unwrap();
        }
        let files = ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"];
        for file in files {
            assert_eq!(fs::read(paths[0].join(file)).unwrap(), fs::read(paths[1].join(file)).unwrap());
        }
    }

    #[test]
    fn errors_name_the_destination() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/m.mlpackage");
        let error = PackageWriter::create(&path).unwrap_err();
        assert_eq!(error.path(), Some(path.as_path()));
        let file = folder.path().join("file");
        fs::write(&file, "keep me").unwrap();
        assert!(PackageWriter::create(&file).unwrap_err().to_string().contains("in the way"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "keep me");
    }

    #[test]
    fn single_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.mlmodel");
        let model = Model {
            specification_version: 1,
            r#type: Some(model::Type::Identity(Identity::default())),
            ..Model::default()
        };
        write_mlmodel(&path, &model).unwrap();
        assert_eq!(*Package::open(&path).unwrap().model(), model);
        assert_eq!(names(folder.path()), ["m.mlmodel"]);
    }
}
