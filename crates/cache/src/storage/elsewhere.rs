//! What Windows does in its own way: folders cannot be opened as files, so that they are neither locked nor flushed; what
//! is open stays where it is; a file is only flushed by one who may write to it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::{LockGuard, lock};

pub(super) const RENAMES_FOLDERS_IN_USE: bool = false;

/// A user's folders are private there from the start.
pub(super) fn create_private_folders(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

/// NTFS keeps a journal of names.
pub(super) fn sync_folder(_dir: &Path) -> io::Result<()> {
    Ok(())
}

pub(super) fn sync_file(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.sync_all()
}

/// The lock is a file beside the folder.
pub(super) fn create_locked_folder(path: &Path) -> io::Result<LockGuard> {
    let path_of_lock = beside(path);
    let file = OpenOptions::new().write(true).create_new(true).open(&path_of_lock)?;
    // Where there are no locks, the age of the folder tells that it was left behind.
    let _ = file.try_lock();
    let guard = FolderLock { file: Some(file), path: path_of_lock };
    fs::create_dir(path)?;
    // Before it was locked, another process may have taken it for one that a crash left.
    if guard.path.exists() { Ok(Box::new(guard)) } else { Err(io::ErrorKind::NotFound.into()) }
}

pub(super) fn is_folder_locked(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).open(beside(path)) {
        Ok(file) => lock(&file).map(|locked| !locked),
        // It is made before the folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a path still leads to an open file. What is open keeps its name, or loses it to nobody else.
pub(super) fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// `KEY.….lock` for the folder `KEY.….tmp`.
fn beside(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}

struct FolderLock {
    file: Option<File>,
    path: PathBuf,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // What is open is removed only when it is closed.
        drop(self.file.take());
        let _ = fs::remove_file(&self.path);
    }
}
