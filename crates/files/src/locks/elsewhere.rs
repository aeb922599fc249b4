//! What differs on Windows: a folder cannot be opened as a file, and so can be neither locked nor flushed; an open file
//! cannot be moved; flushing a file needs write access to it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::{Guard, lock};

pub(super) const RENAMES_FOLDERS_IN_USE: bool = false;

/// Folders of a user are private on Windows anyway.
pub(super) fn create_private_folders(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

/// Creates a folder. Its lock is a file beside it.
pub(super) fn create_locked_folder(path: &Path) -> io::Result<Guard> {
    let path_of_lock = beside(path);
    let file = OpenOptions::new().write(true).create_new(true).open(&path_of_lock)?;
    // Where locks do not work, the folder's age decides whether it is stale.
    let _ = file.try_lock();
    let guard = FolderLock { file: Some(file), path: path_of_lock };
    fs::create_dir(path)?;
    // Between its creation and its lock, another process may have removed the lock file as stale.
    if guard.path.exists() { Ok(Box::new(guard)) } else { Err(io::ErrorKind::NotFound.into()) }
}

pub(super) fn is_folder_locked(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).open(beside(path)) {
        Ok(file) => lock(&file).map(|locked| !locked),
        // The lock file is created before the folder, so no lock file means no lock.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether `path` still names the open file. While a file is open, no other file can take its name.
pub(super) fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// The lock file's path: `KEY.….lock` for the folder `KEY.….tmp`.
fn beside(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}

struct FolderLock {
    file: Option<File>,
    path: PathBuf,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // An open file is only removed once it is closed.
        drop(self.file.take());
        let _ = fs::remove_file(&self.path);
    }
}
