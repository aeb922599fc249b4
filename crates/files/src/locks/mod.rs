//! Advisory locks on files and folders. A lock ends when its guard is dropped, or when its process dies.
//!
//! Some network file systems have no locks. There, these functions return the system's error, or hand out a guard that
//! holds nothing.

#[cfg(not(unix))]
mod elsewhere;
#[cfg(unix)]
mod unix;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

#[cfg(not(unix))]
use elsewhere as system;
#[cfg(unix)]
use unix as system;

use crate::open_without_links;

/// A lock, released when this is dropped.
pub type Guard = Box<dyn Send + Sync>;

/// Whether a folder can be renamed while a file in it is open. Where it cannot, an open file protects the folder.
pub const RENAMES_FOLDERS_IN_USE: bool = system::RENAMES_FOLDERS_IN_USE;

/// Creates a folder and its parents, which only their owner can read. A folder that exists is no error.
///
/// # Errors
///
/// Those of the system.
pub fn create_private_folders(dir: &Path) -> io::Result<()> {
    system::create_private_folders(dir)
}

/// Creates a folder, which must not exist yet. It is locked until the guard is dropped.
///
/// # Errors
///
/// Those of the system; [`NotFound`](io::ErrorKind::NotFound) if another process removed the folder before it was
/// locked.
pub fn create_locked_folder(path: &Path) -> io::Result<Guard> {
    system::create_locked_folder(path)
}

/// Takes the lock of a file, which is created if it is missing. `None` while another holder has it.
///
/// # Errors
///
/// Those of the system; it is not a regular file.
pub fn try_lock(path: &Path) -> io::Result<Option<Guard>> {
    let file = open_without_links(OpenOptions::new().write(true).create(true).truncate(false), path)?;
    // Between opening and locking it, another process may have removed the file and created another of the same name.
    Ok((lock(&file)? && system::is_at(&file, path)).then(|| Box::new(file) as Guard))
}

/// Takes a shared lock on an existing file. `None` while another holder has an exclusive one.
///
/// # Errors
///
/// Those of the system; it is not a regular file.
pub fn try_lock_shared(path: &Path) -> io::Result<Option<Guard>> {
    let file = open_without_links(OpenOptions::new().read(true), path)?;
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // As in `try_lock`.
    Ok(system::is_at(&file, path).then(|| Box::new(file) as Guard))
}

/// Whether a living process holds the lock of a file or folder.
///
/// # Errors
///
/// Those of the system.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    if fs::symlink_metadata(path)?.is_dir() {
        return system::is_folder_locked(path);
    }
    lock(&open_without_links(OpenOptions::new().write(true), path)?).map(|locked| !locked)
}

/// Tries to lock a file; `false` if another holder has it locked.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
