//! The file operations of a store, as a trait that tests replace.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use milwright_files::{FileMap, disk, locks, open_without_links, read_aligned};

pub use milwright_files::locks::Guard as LockGuard;

use crate::PAYLOAD_ALIGN;

/// The file operations of a [`Store`](crate::Store), as a trait so that tests can make any of them fail. [`Disk`] is
/// the real one.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Creates a folder and its parents. A folder that exists is no error.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Lists the regular files in a folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>>;

    /// Creates a file, which must not exist yet, and opens it for writing. It is locked until it is dropped: see
    /// [`is_locked`](Self::is_locked).
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;

    /// Returns the whole content of a file, aligned to [`PAYLOAD_ALIGN`]. Large files are mapped where possible.
    fn load(&self, path: &Path) -> io::Result<Bytes>;

    /// Returns at most the first `max` bytes of a file, and its length.
    fn load_head(&self, path: &Path, max: usize) -> io::Result<(Vec<u8>, u64)>;

    /// Renames a file, atomically replacing the file at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable (`fsync` of the folder).
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Sets a file's modification time to now, which marks it as used.
    fn touch(&self, path: &Path) -> io::Result<()>;

    /// Takes a file's advisory lock, creating the file if it is missing. Returns `None` while another holder has the
    /// lock. The lock ends when the guard is dropped or its process dies.
    fn try_lock(&self, path: &Path) -> io::Result<Option<LockGuard>>;

    /// Whether a living process holds the lock of the file or folder.
    fn is_locked(&self, path: &Path) -> io::Result<bool>;

    /// Lists the names of the folders in a folder.
    fn list_folders(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a folder, which must not exist yet. It is locked until the guard is dropped.
    fn create_folder(&self, path: &Path) -> io::Result<LockGuard>;

    /// Lists all regular files below a folder: paths with `/`, and lengths, sorted by path. Anything that is neither
    /// file nor folder, such as a link, is an error.
    fn files_below(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Makes the content of a file durable that another program wrote.
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and its content.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Takes a shared advisory lock on an existing file. Returns `None` while another holder has an exclusive lock.
    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<LockGuard>>;

    /// Whether a folder can be renamed while a file in it is open. Where it cannot, an open file protects the folder as
    /// a lease does.
    fn renames_folders_in_use(&self) -> bool {
        locks::RENAMES_FOLDERS_IN_USE
    }
}

/// A file that is being written.
pub trait NewFile: Write {
    /// Makes the content durable (`fsync`).
    fn sync(&mut self) -> io::Result<()>;
}

/// A file in a folder.
#[derive(Clone, Debug)]
pub struct FileInfo {
    /// Its name in the folder. Names that are not Unicode are not the store's and are left out.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// When it was last written or touched.
    pub modified: SystemTime,
}

/// Files of this length and more are mapped. Copying smaller ones costs next to nothing, and a program that wrongly
/// writes to one while it is in use cannot change anybody's results.
const MAPPED_FROM: u64 = 16 << 20;

/// The file system: the real [`Storage`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Storage for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        locks::create_private_folders(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        let mut files = Vec::new();
        for file in fs::read_dir(dir)? {
            let file = file?;
            let Ok(name) = file.file_name().into_string() else { continue };
            // Another process may remove a file between the two calls.
            let Ok(info) = file.metadata() else { continue };
            if info.is_file() {
                let modified = info.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push(FileInfo { name, len: info.len(), modified });
            }
        }
        Ok(files)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let file = disk::NewFile::create(path)?;
        // Where there are no locks, the file's age decides whether it is stale.
        file.lock();
        Ok(Box::new(file))
    }

    fn load(&self, path: &Path) -> io::Result<Bytes> {
        let file = open_without_links(OpenOptions::new().read(true), path)?;
        if file.metadata()?.len() < MAPPED_FROM {
            return read_aligned(file, PAYLOAD_ALIGN);
        }
        // The store writes an entry under a temporary name, never writes to it again after the rename, and removes it
        // only by name, which leaves maps alone; the folder is private to its owner.
        match FileMap::whole(&file) {
            Ok(map) => Ok(map.bytes()),
            Err(_) => read_aligned(file, PAYLOAD_ALIGN),
        }
    }

    fn load_head(&self, path: &Path, max: usize) -> io::Result<(Vec<u8>, u64)> {
        let file = open_without_links(OpenOptions::new().read(true), path)?;
        let len = file.metadata()?.len();
        let mut head = Vec::new();
        file.take(max as u64).read_to_end(&mut head)?;
        Ok((head, len))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        disk::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        disk::sync_folder(dir)
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        open_without_links(OpenOptions::new().write(true), path)?.set_modified(SystemTime::now())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        locks::try_lock(path)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        locks::is_locked(path)
    }

    fn list_folders(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(dir)?.flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|ty| ty.is_dir()));
        Ok(folders.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn create_folder(&self, path: &Path) -> io::Result<LockGuard> {
        locks::create_locked_folder(path)
    }

    fn files_below(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        let mut folders = vec![(dir.to_owned(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let name = entry.file_name().into_string();
                let name = name.map_err(|_| io::Error::other("a file's name is not Unicode"))?;
                let info = entry.metadata()?;
                if info.is_dir() {
                    folders.push((entry.path(), format!("{prefix}{name}/")));
                } else if info.is_file() {
                    files.push((format!("{prefix}{name}"), info.len()));
                } else {
                    return Err(io::Error::other(format!("'{prefix}{name}' is neither file nor folder")));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        disk::sync_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        disk::remove_all(path)
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        locks::try_lock_shared(path)
    }
}

impl NewFile for disk::NewFile {
    fn sync(&mut self) -> io::Result<()> {
        disk::NewFile::sync(self)
    }
}
