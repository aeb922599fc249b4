//! What is particular to Unix.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use super::{Guard, lock};

pub(super) const RENAMES_FOLDERS_IN_USE: bool = true;

/// Creates folders that only their owner can read.
pub(super) fn create_private_folders(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Creates a folder and locks the folder itself.
pub(super) fn create_locked_folder(path: &Path) -> io::Result<Guard> {
    fs::create_dir(path)?;
    // Some systems cannot open or lock a folder. There, the folder's age decides whether it is stale.
    let folder = match File::open(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Ok(Box::new(())),
        folder => folder?,
    };
    let _ = folder.try_lock();
    if is_at(&folder, path) { Ok(Box::new(folder)) } else { Err(io::ErrorKind::NotFound.into()) }
}

pub(super) fn is_folder_locked(path: &Path) -> io::Result<bool> {
    lock(&File::open(path)?).map(|locked| !locked)
}

/// Whether `path` still names the open file or folder.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}
