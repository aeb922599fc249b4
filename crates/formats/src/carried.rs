//! The parts of a package that are neither its specification nor its weights: Xcode's edits, and files of other tools.
//! A rewritten package keeps them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::limits::{MAX_CARRIED_FILES, MAX_FOLDER_DEPTH};
use crate::manifest::{DATA_FOLDER, FILE_NAME, Item, MODEL_FOLDER, WEIGHTS_FOLDER};
use crate::{Error, Package, Result, open_regular};
use milwright_files::disk::{self, NewFile};

/// Parts of a package that are copied into another one.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// The package they come from.
    package: PathBuf,
    /// Their paths in the package.
    files: Vec<PathBuf>,
    /// Their entries in the manifest, by identifier.
    pub(crate) items: Vec<(String, Item)>,
}

impl Carried {
    /// Collects every regular file in a package's folder that our writer does not write itself. Skips links and
    /// anything else that is not a file.
    pub(crate) fn of(package: &Package) -> Result<Self> {
        let Some((folder, manifest, model)) = package.folder() else { return Ok(Self::default()) };
        let own = [DATA_FOLDER, MODEL_FOLDER].iter().collect::<PathBuf>();
        let weights = own.join(WEIGHTS_FOLDER);
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(relative) = folders.pop() {
            let entries = fs::read_dir(folder.join(&relative));
            for entry in entries.map_err(|error| Error::io("read it", error).at(folder.join(&relative)))? {
                let entry = entry.map_err(|error| Error::io("read it", error).at(folder))?;
                let path = relative.join(entry.file_name());
                let Ok(found) = entry.file_type() else { continue };
                // Weights that the model does not use are dropped, and so are the files that Finder leaves everywhere.
                let is_known = path == Path::new(FILE_NAME)
                    || path == model
                    || path.starts_with(&weights)
                    || package.is_weight_file(&path)
                    || entry.file_name() == ".DS_Store";
                if is_known {
                    continue;
                }
                if found.is_dir() && path.components().count() < MAX_FOLDER_DEPTH {
                    folders.push(path);
                } else if found.is_file() {
                    files.push(path);
                }
                if files.len() + folders.len() > MAX_CARRIED_FILES {
                    let error =
                        format!("more than {MAX_CARRIED_FILES} files besides the model and its weights");
                    return Err(Error::limit(error)
                        .with_hint("they would all be kept: remove those that do not belong to the model")
                        .at(folder));
                }
            }
        }
        files.sort();
        let is_carried = |item: &Item| {
            let path = Path::new(DATA_FOLDER).join(&item.path);
            files.iter().any(|file| file.starts_with(&path))
                && path != own
                && path != Path::new(DATA_FOLDER)
                && path != own.join(WEIGHTS_FOLDER)
        };
        let items = manifest.items().filter(|(_, item)| is_carried(item));
        let items = items.map(|(id, item)| (id.clone(), item.clone())).collect();
        Ok(Self { package: folder.to_owned(), files, items })
    }

    /// Copies the files into a new package that has its model and weights. Existing files there stay.
    pub(crate) fn copy_to(&self, package: &Path) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for file in &self.files {
            let parents: Vec<&Path> = file.ancestors().skip(1).filter(|p| *p != Path::new("")).collect();
            for parent in parents.into_iter().rev() {
                let folder = package.join(parent);
                if !folder.is_dir() {
                    disk::create_folder(&folder)?;
                    folders.insert(folder);
                }
            }
            let to = package.join(file);
            if to.exists() {
                continue;
            }
            let mut from = open_regular(self.package.join(file)).map_err(io::Error::other)?;
            let mut copy = NewFile::create(&to)?;
            io::copy(&mut from, &mut copy)?;
            copy.sync()?;
        }
        folders.iter().try_for_each(|folder| disk::sync_folder(folder))
    }
}
