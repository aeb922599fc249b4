//! Staged writes: files and folders that are complete or absent.
//!
//! Everything is a staged write: built in a temporary folder beside its destination, synced, and put in place by one
//! rename. (Where there is an older package, the two names are exchanged, if the system can.) An error, a full disk or
//! a killed process before that leaves the destination as it was.
//!
//! The temporary folder is called `.NAME.milwright-…` and holds a file that its process keeps locked. The next write to
//! the same destination removes stale folders, whose lock nobody holds.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::{self, NewFile};
use crate::regular::check_destination;
use crate::{Error, Result, open_regular};

/// A file that is written under a temporary name and then renamed to its destination.
///
/// Dropping it before [`commit`](Self::commit) removes it and leaves the destination as it was.
#[derive(Debug)]
pub struct StagedFile {
    // Before `folder`, so that it is closed when the folder that it is in is removed.
    file: NewFile,
    folder: StagedFolder,
}

impl StagedFile {
    /// Starts a file for `destination`. Removes stale files of crashed runs there.
    ///
    /// # Errors
    ///
    /// If the folder of the destination is missing or cannot be written, or if the destination is a folder.
    pub fn create(destination: impl AsRef<Path>) -> Result<Self> {
        let destination = destination.as_ref();
        check_destination(destination)?;
        if destination.is_dir() {
            let error = Error::invalid("a folder of this name is in the way");
            return Err(error.with_hint("choose another name").at(destination));
        }
        let folder = StagedFolder::create(destination)?;
        let file = NewFile::create(&folder.content);
        let file = file.map_err(|error| Error::io("write it", error).at(destination))?;
        Ok(Self { file, folder })
    }

    /// Makes the content durable (`fsync`).
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn sync(&mut self) -> Result<()> {
        let sync = self.file.sync().and_then(|()| self.folder.sync());
        sync.map_err(|error| Error::io("write it", error).at(&self.folder.destination))
    }

    /// Renames the file to its destination. Call [`sync`](Self::sync) before.
    ///
    /// # Errors
    ///
    /// If renaming fails. The destination is then as it was.
    pub fn commit(self) -> Result<()> {
        let Self { file, folder } = self;
        drop(file);
        folder.commit()
    }

    /// Like [`commit`](Self::commit), but replaces a file only if that is wanted.
    ///
    /// # Errors
    ///
    /// If renaming fails, or there is something at the destination that should stay, even if it has been there for a
    /// moment only.
    pub fn commit_over(self, existing: Existing) -> Result<()> {
        let Self { file, folder } = self;
        drop(file);
        folder.commit_over(existing)
    }
}

impl io::Write for StagedFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl io::Seek for StagedFile {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// What happens to a file or folder that is where a result should go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced, completely or not at all.
    #[default]
    Replace,
    /// It stays, and the write is an error of the kind [`Exists`](crate::ErrorKind::Exists). An empty folder does not
    /// count.
    Keep,
}

/// The temporary folders of this process, each with its destination. Every commit holds this lock.
static IN_PROGRESS: Mutex<BTreeMap<PathBuf, PathBuf>> = Mutex::new(BTreeMap::new());

fn in_progress() -> MutexGuard<'static, BTreeMap<PathBuf, PathBuf>> {
    IN_PROGRESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every unfinished write of this process. From here on, no write can start or commit any more: threads that
/// try block for ever. For a process that is about to end, whatever its threads are doing.
pub fn abandon_writes() {
    let folders = in_progress();
    for (folder, destination) in &*folders {
        // A thread may still be adding files, but fails soon, because its folder is gone.
        for _ in 0..10 {
            if must_stay(folder, destination) || !folder.exists() || disk::remove_all(folder).is_ok() {
                break;
            }
        }
    }
    std::mem::forget(folders);
}

/// Whether a temporary folder has the only copy of an older package, because restoring it failed.
fn must_stay(folder: &Path, destination: &Path) -> bool {
    folder.join(ASIDE).exists() && !destination.exists()
}

/// A file or folder that is built in a temporary folder beside its destination, and then renamed to it.
///
/// Dropping it before [`commit`](Self::commit) removes all that was written, and leaves the destination as it was.
#[derive(Debug)]
pub struct StagedFolder {
    folder: PathBuf,
    content: PathBuf,
    /// The destination as the caller named it.
    destination: PathBuf,
    /// Where the content goes: `destination`, or what it links to.
    target: PathBuf,
    /// `None` once the folder is about to be removed.
    lock: Option<NewFile>,
}

const LOCK: &str = "lock";
/// The name of the old file or package in the temporary folder, while it is replaced in two steps.
const ASIDE: &str = "aside";

impl StagedFolder {
    /// Makes the temporary folder for `destination`, empty. Removes stale ones of crashed runs there.
    ///
    /// # Errors
    ///
    /// If the folder of the destination is missing or cannot be written.
    pub fn create(destination: &Path) -> Result<Self> {
        let Some(name) = destination.file_name() else {
            return Err(Error::invalid("not a name to write to").at(destination));
        };
        // Replace the target of a symbolic link, not the link.
        let real = fs::canonicalize(destination).unwrap_or_else(|_| destination.to_owned());
        let parent = parent(&real);
        let prefix = prefix(&real);
        remove_stale(parent, &prefix, &real);

        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let mut folders = in_progress();
        let create = || {
            loop {
                let number = COUNTER.fetch_add(1, Ordering::Relaxed);
                let folder = parent.join(format!("{prefix}{}-{number}", process::id()));
                match disk::create_folder(&folder) {
                    // A stale folder of an earlier process with the same number.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    created => created?,
                }
                let lock = NewFile::create(&folder.join(LOCK));
                match lock {
                    // Until it is locked, another writer may take the folder for a stale one, and remove it.
                    Ok(lock) if lock.lock() && folder.join(LOCK).exists() => return Ok((folder, lock)),
                    Err(error) if error.kind() != io::ErrorKind::NotFound || !parent.is_dir() => {
                        // Empty folders are harmless, and the next write removes them.
                        let _ = disk::remove_all(&folder);
                        return Err(error);
                    }
                    _ => {}
                }
            }
        };
        let (folder, lock) = create().map_err(|error| {
            let doing = if error.kind() == io::ErrorKind::NotFound {
                "write it: its folder is missing"
            } else {
                "write into its folder"
            };
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            let error = Error::io(doing, error).at(destination);
            if is_missing { error.with_hint("make the folder first, or choose another") } else { error }
        })?;
        folders.insert(folder.clone(), real.clone());
        drop(folders);
        Ok(Self {
            content: folder.join(name),
            folder,
            destination: destination.to_owned(),
            target: real,
            lock: Some(lock),
        })
    }

    /// Where to build the file or folder that [`commit`](Self::commit) renames to the destination. It has the
    /// destination's name, in the temporary folder.
    pub fn content(&self) -> &Path {
        &self.content
    }

    /// The destination as the caller named it.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Makes the name of the content durable. Its files and folders are synced by whoever writes them.
    ///
    /// # Errors
    ///
    /// If the system cannot.
    pub fn sync(&self) -> io::Result<()> {
        disk::sync_folder(&self.folder)
    }

    /// Renames the content to its destination. A file or folder there is replaced.
    ///
    /// # Errors
    ///
    /// If renaming fails. The destination is then as it was. On Windows renaming fails while anybody, this process
    /// included, has a file of either folder open or mapped.
    pub fn commit(self) -> Result<()> {
        self.put_in_place().map_err(|error| not_in_place(error).at(&self.destination))
    }

    /// Like [`commit`](Self::commit), but replaces a file or folder only if that is wanted.
    ///
    /// # Errors
    ///
    /// If renaming fails, or there is something at the destination that should stay, even if it has been there for a
    /// moment only.
    pub fn commit_over(self, existing: Existing) -> Result<()> {
        if existing == Existing::Replace {
            return self.commit();
        }
        let put = || {
            let _folders = in_progress();
            let renamed = disk::rename_new(&self.content, &self.target)?;
            disk::sync_folder(parent(&self.target)).map(|()| renamed)
        };
        match put() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::exists().at(&self.destination)),
            Err(error) => Err(not_in_place(error).at(&self.destination)),
        }
    }

    fn put_in_place(&self) -> io::Result<()> {
        let _folders = in_progress();
        // A rename replaces a file, but not a folder that is not empty.
        let replaces_folder = self.content.is_dir() && self.target.exists();
        if !replaces_folder {
            match disk::rename(&self.content, &self.target) {
                // Windows does not replace an open file, but it can rename one.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && self.target.is_file() => {
                    self.replace_in_two_steps().map_err(|_| error)?;
                }
                result => result?,
            }
        } else if !disk::exchange(&self.content, &self.target)? {
            self.replace_in_two_steps()?;
        }
        disk::sync_folder(parent(&self.target))
    }

    /// Replaces the destination by two renames. A crash between them leaves the old content in the temporary folder;
    /// the next write restores it.
    fn replace_in_two_steps(&self) -> io::Result<()> {
        let aside = self.folder.join(ASIDE);
        disk::rename(&self.target, &aside)?;
        if let Err(error) = disk::rename(&self.content, &self.target) {
            disk::rename(&aside, &self.target)?;
            return Err(error);
        }
        Ok(())
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        // If restoring the old package failed, the folder stays: the next write tries again.
        if !must_stay(&self.folder, &self.target) {
            // After an exchange, the old package is in this folder. A later write removes what cannot be removed now.
            // The lock is closed first, because Windows removes an open file only when it is closed.
            drop(self.lock.take());
            let _ = disk::remove_all(&self.folder);
        }
        in_progress().remove(&self.folder);
    }
}

/// The error when the content could not be renamed to its destination.
fn not_in_place(error: io::Error) -> Error {
    let is_in_use = cfg!(windows) && error.kind() == io::ErrorKind::PermissionDenied;
    let error = Error::io("put it in its place", error);
    if is_in_use {
        error.with_hint("close the programs that have it open, or choose another name")
    } else {
        error
    }
}

/// Removes stale temporary folders, after restoring a package that one of them may hold.
fn remove_stale(parent: &Path, prefix: &str, destination: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            continue;
        }
        let folder = entry.path();
        // All of this is best effort: the write itself does not depend on it.
        match open_regular(folder.join(LOCK)) {
            Ok(lock) => {
                if lock.try_lock().is_ok() {
                    let aside = folder.join(ASIDE);
                    if aside.exists() && !destination.exists() && disk::rename(&aside, destination).is_err() {
                        continue;
                    }
                    // Its name goes while it is locked: whoever made it a moment ago, and locks it next, sees that it
                    // is gone, and makes another folder.
                    let _ = fs::remove_file(folder.join(LOCK));
                    // Closed first, as in `StagedFolder::drop`.
                    drop(lock);
                    let _ = disk::remove_all(&folder);
                }
            }
            // The folder's process may be about to create the lock. An empty folder can be removed all the same: the
            // process tries another one.
            Err(_) if fs::remove_dir(&folder).is_ok() => {}
            // The lock is created before all else, so without it, the folder is the rest of an interrupted removal.
            Err(_) if !folder.join(LOCK).exists() && !must_stay(&folder, destination) => {
                let _ = disk::remove_all(&folder);
            }
            Err(_) => {}
        }
    }
}

/// Whether a folder has nothing in it.
pub fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The prefix of temporary names for this destination.
fn prefix(destination: &Path) -> String {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.milwright-")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::ErrorKind;

    fn file(path: &Path, text: &str) -> StagedFile {
        let mut file = StagedFile::create(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.sync().unwrap();
        file
    }

    fn folder(path: &Path, text: &str) -> StagedFolder {
        let staged = StagedFolder::create(path).unwrap();
        disk::create_folder(staged.content()).unwrap();
        fs::write(staged.content().join("text"), text).unwrap();
        staged
    }

    /// What comes between the start of a write and its end is not replaced either.
    #[test]
    fn nothing_new_replaces_anything() {
        check_new();
        // On systems, and file systems, that cannot rename in one step without replacing.
        #[cfg(feature = "faults")]
        disk::faults::with(disk::faults::Fault::Full, usize::MAX, false, check_new);
    }

    fn check_new() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("out");
        let (late, never) = (file(&path, "late"), folder(&path, "never"));
        file(&path, "first").commit_over(Existing::Keep).unwrap();
        for error in
            [late.commit_over(Existing::Keep).unwrap_err(), never.commit_over(Existing::Keep).unwrap_err()]
        {
            assert_eq!((error.kind(), error.path()), (ErrorKind::Exists, Some(path.as_path())));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        fs::remove_file(&path).unwrap();

        let (late, never) = (folder(&path, "late"), file(&path, "never"));
        fs::create_dir(&path).unwrap();
        folder(&path, "first").commit_over(Existing::Keep).unwrap();
        for error in
            [late.commit_over(Existing::Keep).unwrap_err(), never.commit_over(Existing::Keep).unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::Exists);
        }
        assert_eq!(fs::read_to_string(path.join("text")).unwrap(), "first");
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1, "no temporary folder is left");
    }

    /// Of many writers of one new file, or folder, one wins.
    #[test]
    fn one_of_many_wins() {
        let outer = tempfile::tempdir().unwrap();
        for (i, is_folder) in (0..20).zip([true, false].into_iter().cycle()) {
            let path = &outer.path().join(format!("out{i}"));
            let write = |text: &str| match is_folder {
                true => folder(path, text).commit_over(Existing::Keep),
                false => file(path, text).commit_over(Existing::Keep),
            };
            let wins = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|i| scope.spawn(move || write(&i.to_string()))).collect();
                threads.into_iter().map(|t| t.join().unwrap()).filter(Result::is_ok).count()
            });
            assert_eq!(wins, 1);
        }
    }
}
