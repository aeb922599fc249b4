//! Writing models, complete or not at all: each is a staged write, see [`StagedFolder`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::blob::{BlobType, BlobWriter};
use crate::carried::Carried;
use crate::compiled::is_ours as is_written_compiled;
use crate::limits::{MAX_MANIFEST_BYTES, MAX_SPEC_BYTES};
use crate::manifest::{self, DATA_FOLDER, MODEL_FILE, MODEL_FOLDER, MODEL_PATH, Manifest, WEIGHTS_FOLDER};
use crate::proto::Model;
use crate::proto::mil_spec::value::BlobFileValue;
use crate::{Container, Error, Package, Result, open_regular, references};
use milwright_files::check_destination;
use milwright_files::disk::{self, NewFile};
use milwright_files::{Existing, StagedFile, StagedFolder, is_empty};

const WEIGHT_FILE: &str = "weight.bin";
const BUFFER: usize = 1 << 20;

/// Writes a model as a single `.mlmodel` file. An existing file is replaced atomically.
///
/// # Errors
///
/// If the file cannot be written, or the model refers to weights in other files.
pub fn write_mlmodel(path: impl AsRef<Path>, model: &Model) -> Result<()> {
    let path = path.as_ref();
    if let Some(name) = references::weight_files(model).first() {
        return Err(Error::invalid(format!(
            "the model keeps weights in {name:?}, which an .mlmodel cannot have"
        ))
        .with_hint("write it as an .mlpackage")
        .at(path));
    }
    let data = encode(model).map_err(|error| error.at(path))?;
    let mut file = StagedFile::create(path)?;
    file.write_all(&data).map_err(|error| Error::io("write it", error).at(path))?;
    file.sync()?;
    file.commit()
}

/// Builds an `.mlpackage`: first the weights, one by one, then the model that refers to them.
///
/// Dropping it, or the [`StagedPackage`] that it becomes, removes all that was written.
#[derive(Debug)]
pub struct PackageWriter {
    staging: StagedFolder,
    weights: BTreeMap<String, BlobWriter<BufWriter<NewFile>>>,
    carried: Carried,
}

impl PackageWriter {
    /// Starts a package for `destination`. Removes stale files of crashed runs there.
    ///
    /// # Errors
    ///
    /// If the folder of the destination is missing or cannot be written, or if the destination exists and is not a
    /// package.
    pub fn create(destination: impl AsRef<Path>) -> Result<Self> {
        let destination = destination.as_ref();
        check_destination(destination)?;
        if destination.is_file() {
            return Err(Error::invalid("a file of this name is in the way; a package is a folder")
                .with_hint("choose another name")
                .at(destination));
        }
        if destination.is_dir() && !is_package(destination) && !is_empty(destination) {
            return Err(Error::invalid("a folder of this name is in the way, and it is not a model package")
                .with_hint("choose another name")
                .at(destination));
        }
        let staging = StagedFolder::create(destination)?;
        let model_folder = staging.content().join(DATA_FOLDER).join(MODEL_FOLDER);
        let create = || {
            disk::create_folder(staging.content())?;
            disk::create_folder(&staging.content().join(DATA_FOLDER))?;
            disk::create_folder(&model_folder)
        };
        create().map_err(|error| Error::io("write it", error).at(destination))?;
        Ok(Self { staging, weights: BTreeMap::new(), carried: Carried::default() })
    }

    /// Copies the parts of another package that are neither its model nor its weights, with their entries in its
    /// manifest: Xcode's edits, a licence, files of other tools. Links are neither followed nor copied.
    ///
    /// # Errors
    ///
    /// If its folder cannot be read, or has more files than [`MAX_CARRIED_FILES`](crate::limits::MAX_CARRIED_FILES).
    pub fn carry_over(&mut self, package: &Package) -> Result<()> {
        self.carried = Carried::of(package)?;
        Ok(())
    }

    /// Appends `len` packed elements to the weight file and returns the reference to them for the program.
    ///
    /// # Errors
    ///
    /// If writing fails, or `data` has another length than `len` elements have.
    pub fn append(&mut self, dtype: BlobType, len: u64, data: &[u8]) -> Result<BlobFileValue> {
        self.append_to(WEIGHT_FILE, dtype, len, data)
    }

    /// Like [`append`](Self::append), to one of several weight files. `file` is a plain name, such as `0-weight.bin`
    /// for the first model of a pipeline.
    ///
    /// # Errors
    ///
    /// Those of `append`; or `file` is not a plain name.
    pub fn append_to(&mut self, file: &str, dtype: BlobType, len: u64, data: &[u8]) -> Result<BlobFileValue> {
        if Path::new(file).file_name() != Some(OsStr::new(file)) || file.contains(['/', '\\', ':', '\0']) {
            return Err(Error::invalid(format!("{file:?} is not a plain file name")));
        }
        let folder = self.model_folder().join(WEIGHTS_FOLDER);
        let mut append = || {
            if self.weights.is_empty() {
                disk::create_folder(&folder)?;
            }
            if !self.weights.contains_key(file) {
                let new = NewFile::create(&folder.join(file))?;
                let writer = BlobWriter::new(BufWriter::with_capacity(BUFFER, new))?;
                self.weights.insert(file.to_owned(), writer);
            }
            let writer = self.weights.get_mut(file).expect("just inserted");
            writer.append(dtype, len, data)
        };
        let offset = append().map_err(|error| Error::io("write it", error).at(self.staging.destination()))?;
        Ok(BlobFileValue { file_name: format!("{MODEL_PATH}{WEIGHTS_FOLDER}/{file}"), offset })
    }

    /// Writes the model and the manifest, and syncs everything to disk. The package is then complete, but not yet at
    /// its destination.
    ///
    /// # Errors
    ///
    /// If writing fails, or the model refers to a weight file to which nothing was appended.
    pub fn stage(mut self, model: &Model) -> Result<StagedPackage> {
        let weights = std::mem::take(&mut self.weights);
        let prefix = format!("{MODEL_PATH}{WEIGHTS_FOLDER}/");
        for name in references::weight_files(model) {
            if !name.strip_prefix(&prefix).is_some_and(|file| weights.contains_key(file)) {
                return Err(Error::invalid(format!("the model refers to {name:?}, which was not written"))
                    .at(self.staging.destination()));
            }
        }
        let data = encode(model).map_err(|error| error.at(self.staging.destination()))?;
        let manifest = Manifest::new(!weights.is_empty(), &self.carried.items).to_json();
        let package = self.staging.content();
        let folder = self.model_folder();
        let write = || {
            if !weights.is_empty() {
                for writer in weights.into_values() {
                    writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync()?;
                }
                disk::sync_folder(&folder.join(WEIGHTS_FOLDER))?;
            }
            disk::write_synced(&folder.join(MODEL_FILE), &data)?;
            self.carried.copy_to(package)?;
            disk::sync_folder(&folder)?;
            disk::sync_folder(&package.join(DATA_FOLDER))?;
            disk::write_synced(&package.join(manifest::FILE_NAME), manifest.as_bytes())?;
            disk::sync_folder(package)?;
            self.staging.sync()
        };
        write().map_err(|error| Error::io("write it", error).at(self.staging.destination()))?;
        Ok(StagedPackage { staging: self.staging })
    }

    fn model_folder(&self) -> PathBuf {
        self.staging.content().join(DATA_FOLDER).join(MODEL_FOLDER)
    }
}

/// A complete package in a temporary folder: it can be opened and tested before it is moved to its destination.
#[derive(Debug)]
pub struct StagedPackage {
    staging: StagedFolder,
}

impl StagedPackage {
    /// The current path: the destination's name, in a temporary folder.
    pub fn path(&self) -> &Path {
        self.staging.content()
    }

    /// Moves the package to its destination. An existing package is replaced.
    ///
    /// # Errors
    ///
    /// If renaming fails. The destination is then as it was. On Windows renaming fails while anybody, this process
    /// included, has a file of either package open or mapped.
    pub fn commit(self) -> Result<()> {
        self.staging.commit()
    }

    /// Like [`commit`](Self::commit), but replaces a package only if that is wanted.
    ///
    /// # Errors
    ///
    /// If renaming fails, or there is something at the destination that should stay, even if it has been there for a
    /// moment only.
    pub fn commit_over(self, existing: Existing) -> Result<()> {
        self.staging.commit_over(existing)
    }
}

/// Whether writing a model of this kind to `path` would replace anything. An empty folder does not count. A file or
/// folder that is no model of this kind is never replaced: the writers refuse it.
pub fn would_replace(path: impl AsRef<Path>, container: Container) -> bool {
    let path = path.as_ref();
    match container {
        Container::Mlmodel => path.is_file(),
        Container::Mlpackage => path.is_dir() && is_package(path),
        Container::Mlmodelc => path.is_dir() && is_written_compiled(path),
    }
}

/// Whether a folder is a package, even a damaged one, and not somebody's other data: many kinds of programs have a
/// `manifest.json`, which some file systems do not distinguish from `Manifest.json`.
fn is_package(folder: &Path) -> bool {
    let manifest = folder.join(manifest::FILE_NAME);
    let is_ours = || {
        let mut text = Vec::new();
        let read = open_regular(&manifest).map(|file| file.take(MAX_MANIFEST_BYTES).read_to_end(&mut text));
        matches!(read, Ok(Ok(_))) && text.windows(15).any(|part| part == b"itemInfoEntries")
    };
    let has_name = folder.extension().is_some_and(|e| e.eq_ignore_ascii_case("mlpackage"));
    manifest.is_file() && (has_name || is_ours())
}

fn encode(model: &Model) -> Result<Vec<u8>> {
    let len = model.encoded_len() as u64;
    if len > MAX_SPEC_BYTES {
        return Err(Error::limit(format!(
            "the model takes {len} bytes without its weights; the limit is {MAX_SPEC_BYTES}"
        ))
        .with_hint("keep large constants in weight files"));
    }
    Ok(model.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::proto::{Identity, ModelDescription, mil_spec, model};
    use milwright_files::faults::{self, Fault};

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
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
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

    /// Windows does not rename over an open file, and removes it only when it is closed.
    #[test]
    fn replaces_a_file_that_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.npy");
        let write = |text: &str| {
            let mut file = StagedFile::create(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.sync().unwrap();
            file.commit().unwrap();
        };
        write("one");
        let open = fs::File::open(&path).unwrap();
        write("two");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(io::read_to_string(&open).unwrap(), "one");
        drop(open);
        write("three");
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), ("three", 1));
    }

    /// Windows neither renames over a read-only file nor removes it at the first attempt.
    #[test]
    fn replaces_what_is_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let (package, file) = (folder.path().join("m.mlpackage"), folder.path().join("out.npy"));
        write(&package, 1).unwrap().commit().unwrap();
        fs::write(&file, "one").unwrap();
        for path in
            [&file, &package.join("Manifest.json"), &package.join("Data/com.apple.CoreML/weights/weight.bin")]
        {
            let mut permissions = fs::metadata(path).unwrap().permissions();
            permissions.set_readonly(true);
            fs::set_permissions(path, permissions).unwrap();
        }
        write(&package, 2).unwrap().commit().unwrap();
        let mut staged = StagedFile::create(&file).unwrap();
        staged.write_all(b"two").unwrap();
        staged.sync().unwrap();
        staged.commit().unwrap();
        assert_eq!((weight(&package), fs::read_to_string(&file).unwrap().as_str()), (2, "two"));
        assert_eq!(names(folder.path()), ["m.mlpackage", "out.npy"]);
    }

    #[test]
    fn keeps_folders_that_are_no_packages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents");
        fs::create_dir(&path).unwrap();
        assert!(PackageWriter::create(&path).is_ok(), "an empty folder may be replaced");
        fs::write(path.join("thesis.txt"), "keep me").unwrap();
        let error = PackageWriter::create(&path).unwrap_err();
        assert!(error.to_string().contains("not a model package"), "{error}");
        assert_eq!(names(&path), ["thesis.txt"]);
    }

    #[test]
    fn checks_references() {
        let folder = tempfile::tempdir().unwrap();
        let reference = BlobFileValue { file_name: "@model_path/weights/other.bin".into(), offset: 64 };
        let model = program(reference);
        let writer = PackageWriter::create(folder.path().join("m.mlpackage")).unwrap();
        assert!(writer.stage(&model).unwrap_err().to_string().contains("other.bin"));
        assert!(write_mlmodel(folder.path().join("m.mlmodel"), &model).is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn several_weight_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.mlpackage");
        let mut writer = PackageWriter::create(&path).unwrap();
        writer.append_to("0-weight.bin", BlobType::UInt8, 1, &[7]).unwrap();
        let reference = writer.append_to("1-weight.bin", BlobType::UInt8, 1, &[8]).unwrap();
        assert!(writer.append_to("../up.bin", BlobType::UInt8, 1, &[8]).is_err());
        writer.stage(&program(reference.clone())).unwrap().commit().unwrap();
        let package = Package::open(&path).unwrap();
        assert_eq!(package.weight_files().keys().collect::<Vec<_>>(), ["@model_path/weights/1-weight.bin"]);
        assert_eq!(&package.blob(&reference).unwrap().data[..], [8]);
    }

    #[cfg(unix)]
    #[test]
    fn follows_a_link_at_the_destination() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.mlpackage"), folder.path().join("link.mlpackage"));
        write(&real, 1).unwrap().commit().unwrap();
        std::os::unix::fs::symlink("real.mlpackage", &link).unwrap();
        write(&link, 2).unwrap().commit().unwrap();
        assert!(link.is_symlink());
        assert_eq!((weight(&real), names(folder.path()).len()), (2, 2));
    }

    /// A folder is removed file by file, so a process may end in between.
    #[test]
    fn what_was_removed_in_part_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.mlpackage");
        let left = folder.path().join(".m.mlpackage.milwright-1-0");
        fs::create_dir_all(left.join("m.mlpackage/Data")).unwrap();
        let live = folder.path().join(".m.mlpackage.milwright-1-1");
        fs::create_dir(&live).unwrap();
        let lock = NewFile::create(&live.join("lock")).unwrap();
        lock.lock();
        write(&path, 1).unwrap().commit().unwrap();
        assert_eq!(names(folder.path()), [".m.mlpackage.milwright-1-1", "m.mlpackage"]);
        drop(lock);
        write(&path, 2).unwrap().commit().unwrap();
        assert_eq!(names(folder.path()), ["m.mlpackage"]);
    }

    /// Fails, or ends the process, at every change of the disk in turn: for a first and a second package, and with and
    /// without a system that can exchange names.
    #[test]
    fn survives_a_fault_at_every_step() {
        for (fault, exchange, replaces) in [Fault::Full, Fault::Killed].into_iter().flat_map(|fault| {
            [(true, true), (true, false), (false, true)]
                .map(|(exchange, replaces)| (fault, exchange, replaces))
        }) {
            for at in 0.. {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("m.mlpackage");
                if replaces {
                    write(&path, 1).unwrap().commit().unwrap();
                }
                let (result, reached) =
                    faults::with(fault, at, exchange, || write(&path, 2).and_then(StagedPackage::commit));
                let case = format!("{fault:?} at {at}, exchange {exchange}, replaces {replaces}");
                if let (Fault::Full, Err(error)) = (fault, result) {
                    assert!(error.hint().is_some_and(|hint| hint.contains("space")), "{case}");
                    let left = names(folder.path());
                    assert!(left.iter().all(|name| name == "m.mlpackage"), "{case}: {left:?}");
                }
                // The one gap, on systems that cannot exchange names: a crash between two renames. The next write
                // closes it first.
                let gap = !(exchange && faults::EXCHANGES) && fault == Fault::Killed;
                if gap && !path.exists() {
                    drop(PackageWriter::create(&path).unwrap());
                }
                match path.exists() {
                    true => assert!([1, 2].contains(&weight(&path)), "{case}"),
                    false => assert!(!replaces, "{case}: nothing is left"),
                }
                // The next write works, and removes stale files.
                write(&path, 3).unwrap().commit().unwrap();
                assert_eq!(
                    (weight(&path), names(folder.path())),
                    (3, vec!["m.mlpackage".to_owned()]),
                    "{case}"
                );
                if !reached {
                    break;
                }
            }
        }
    }

    #[test]
    fn single_files_survive_a_fault_at_every_step() {
        let identity = |version| Model {
            specification_version: version,
            r#type: Some(model::Type::Identity(Identity::default())),
            ..Model::default()
        };
        for fault in [Fault::Full, Fault::Killed] {
            for at in 0.. {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("m.mlmodel");
                write_mlmodel(&path, &identity(1)).unwrap();
                let (_, reached) = faults::with(fault, at, true, || write_mlmodel(&path, &identity(2)));
                let version = Package::open(&path).unwrap().model().specification_version;
                assert!([1, 2].contains(&version), "{fault:?} at {at}");
                write_mlmodel(&path, &identity(3)).unwrap();
                assert_eq!(names(folder.path()), ["m.mlmodel"], "{fault:?} at {at}");
                if !reached {
                    break;
                }
            }
        }
    }
}
