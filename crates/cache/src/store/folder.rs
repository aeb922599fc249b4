//! Entries that are folders, for compilers that produce one (Core ML's `.mlmodelc`).
//!
//! An entry is a folder `KEY.mwd` that contains the artifact, under the name that its reader expects, and a file
//! `entry` in the format of all entries, whose payload lists every file of the artifact with length and checksum. The
//! folder is built under a temporary name, flushed, and renamed, so that it is either complete or absent.
//!
//! The path of an artifact depends only on its key. Core ML keeps more data about a compiled model elsewhere, under the
//! model's path, and so finds that data again.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use super::{failed, unique};
use crate::entry::{self, LIST, MAX_HEADER};
use crate::{Error, Fault, Key, LockGuard, Meta, Origin, Store, Verify};

/// The most files of one artifact. Compiled models have about ten.
const MAX_FILES: usize = 100_000;
/// The longest path of a file below the artifact, in bytes.
const MAX_PATH: usize = 4096;
/// How often to try for a lease while another holder has the lock. The tries are a millisecond apart.
const LEASE_TRIES: u32 = 1000;

/// A folder from the store, or a private one that could not be stored. While this value lives, nobody evicts the
/// folder.
pub struct Folder {
    /// The artifact.
    pub path: PathBuf,
    /// Where it came from.
    pub origin: Origin,
    /// Why it could not be stored. The folder is complete all the same, and is removed when this is dropped.
    pub unstored: Option<Error>,
    key: Key,
    /// Dropped first, so that the folder can then be removed.
    lease: Option<LockGuard>,
    private: Option<Private>,
}

/// How long to wait for another process that is building the same key.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// After this time the waiting process builds the folder, too. Building it twice is harmless.
    pub timeout: Duration,
    /// Polled while waiting: `true` cancels the wait.
    pub stop: Option<&'a dyn Fn() -> bool>,
}

/// Why there is no folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError<E> {
    /// Building it failed.
    #[error(transparent)]
    Build(E),
    /// [`Wait::stop`] returned true.
    #[error("stopped")]
    Stopped,
    /// The temporary folder to build it in could not be created.
    #[error(transparent)]
    Store(Error),
}

impl Store {
    /// Looks a folder up and, if there is no usable one, calls `build` and stores the result. `build` gets a path that
    /// does not exist yet, in a folder that does. `name` is the artifact's own name, such as `model.mlmodelc`.
    ///
    /// Only complete folders are stored. Before one is returned, it is checked against its list of checksums as
    /// [`Options::verify`] says.
    ///
    /// # Errors
    /// `build` failed, the wait was cancelled, or no temporary folder could be created. A folder that was built but
    /// cannot be stored is no error.
    ///
    /// [`Options::verify`]: crate::Options::verify
    pub fn folder_or_create<E>(
        &self,
        key: &Key,
        meta: &Meta,
        name: &str,
        wait: Wait<'_>,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Folder, FolderError<E>> {
        let origin = match self.folder(key, name) {
            Ok(Some(folder)) => return Ok(folder),
            Ok(None) => Origin::Built,
            Err(fault) => Origin::Rebuilt(fault),
        };
        let lock = self.lock(key, wait).map_err(|_| FolderError::Stopped)?;
        // Another process may have built it since.
        if let Ok(Some(folder)) = self.folder(key, name) {
            return Ok(folder);
        }
        let private = self.create_private(key).map_err(FolderError::Store)?;
        let path = private.path.join(name);
        build(&path).map_err(FolderError::Build)?;
        let folder = match self.publish_folder(key, meta, name, &private) {
            Ok((path, lease)) => Folder { path, origin, unstored: None, key: *key, lease, private: None },
            // It was stored, and evicted before we had a lease.
            Err(error) if !path.exists() => return Err(FolderError::Store(error)),
            Err(error) => {
                tracing::debug!(%key, %error, "cannot store a folder");
                let (unstored, private) = (Some(error), Some(private));
                Folder { path, origin, unstored, key: *key, lease: None, private }
            }
        };
        drop(lock);
        if let Err(error) = self.tidy_up() {
            tracing::warn!(%error, "cannot evict old cache entries");
        }
        Ok(folder)
    }

    /// Looks a folder up, checks it, and marks it as used. `Ok(None)` is a miss, or a folder that is being removed. A
    /// broken folder is removed, unless it is in use.
    pub fn folder(&self, key: &Key, name: &str) -> Result<Option<Folder>, Fault> {
        match self.check_folder(key, Some(name), self.options.verify) {
            Ok(Some((path, lease))) => {
                // If this fails, the folder is only evicted sooner.
                let _ = self.storage.touch(&self.folder_path(key).join(LIST));
                let (origin, key) = (Origin::Hit, *key);
                Ok(Some(Folder { path, origin, unstored: None, key, lease, private: None }))
            }
            Ok(None) => Ok(None),
            Err(fault) => {
                tracing::debug!(%key, %fault, "removing a broken folder");
                let _ = self.remove_folder(key);
                Err(fault)
            }
        }
    }

    /// Removes a folder that its reader could not use although its checksums match. Returns whether it was removed: it
    /// stays while others use it.
    ///
    /// # Errors
    /// A file operation failed.
    pub fn discard(&self, folder: Folder) -> Result<bool, Error> {
        let Folder { key, lease, private, .. } = folder;
        drop(lease);
        match private {
            Some(_) => Ok(true),
            None => self.remove_folder(&key),
        }
    }

    /// Whether there is an entry (file or folder) with a valid header. Does not mark it as used.
    pub fn contains(&self, key: &Key) -> bool {
        let sound = |path: &Path| {
            let head = self.storage.load_head(path, MAX_HEADER);
            head.is_ok_and(|(head, len)| entry::decode_header(&head, len, key).is_ok())
        };
        sound(&self.entry_path(key)) || sound(&self.folder_path(key).join(LIST))
    }

    /// The path of a key's folder, whether or not it exists.
    pub(crate) fn folder_path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{key}.mwd"))
    }

    /// Returns the artifact, if it is complete, with a lease on it. Without a `name`, any name is accepted.
    pub(crate) fn check_folder(
        &self,
        key: &Key,
        name: Option<&str>,
        verify: Verify,
    ) -> Result<Option<(PathBuf, Option<LockGuard>)>, Fault> {
        let root = self.folder_path(key);
        let list = root.join(LIST);
        let unreadable = |error: io::Error| Fault::Unreadable(error.to_string());
        let lease = match self.lease(&root) {
            Ok(Some(lease)) => Some(lease),
            // Another process is removing it.
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let names = self.storage.list_folders(&self.dir).map_err(unreadable)?;
                if !names.iter().any(|name| root.ends_with(name)) {
                    return Ok(None);
                }
                // It may have been created since the first look.
                match self.lease(&root) {
                    Ok(Some(lease)) => Some(lease),
                    Ok(None) => return Ok(None),
                    Err(_) => return Err(Fault::Missing(LIST.into())),
                }
            }
            // Locks do not work here.
            Err(_) => None,
        };
        let file = match self.storage.load(&list) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let entry = entry::decode(&file, key, Verify::Full)?;
        let (stored, files) = decode_list(&entry.payload).ok_or(Fault::Header)?;
        if name.is_some_and(|name| name != stored) {
            return Err(Fault::OtherKey);
        }
        let artifact = root.join(stored);
        for Listed { name, len, hash } in files {
            let content = match self.storage.load(&artifact.join(name)) {
                Ok(content) => content,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Fault::Missing(name.to_owned()));
                }
                Err(error) => return Err(unreadable(error)),
            };
            if content.len() as u64 != len {
                return Err(Fault::Length { expected: len, found: content.len() as u64 });
            }
            if verify == Verify::Full && blake3::hash(&content) != hash {
                return Err(Fault::Payload);
            }
        }
        Ok(Some((artifact, lease)))
    }

    fn lease(&self, root: &Path) -> io::Result<Option<LockGuard>> {
        self.storage.try_lock_shared(&root.join(LIST))
    }

    /// Removes a key's folder, unless somebody has a lease on it. Returns whether it existed and was removed.
    pub(crate) fn remove_folder(&self, key: &Key) -> Result<bool, Error> {
        let root = self.folder_path(key);
        let list = root.join(LIST);
        let lock = match self.storage.try_lock(&list) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Ok(false),
            // The folder does not exist, or has no list, or locks do not work here.
            Err(_) => None,
        };
        // On systems where an open file prevents its folder from being renamed, our own open list would, too, so it is
        // closed first. There, a reader's lease prevents the renaming just as well.
        let renames_in_use = self.storage.renames_folders_in_use();
        let _lock = lock.filter(|_| renames_in_use);
        // Rename it first: an interrupted removal leaves nothing that looks like an entry.
        let away = self.dir.join(format!("{key}.{}.tmp", unique()));
        match self.storage.rename(&root, &away) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !renames_in_use => {
                return Ok(false);
            }
            Err(error) => return Err(failed("remove", &root)(error)),
        }
        self.storage.remove_folder(&away).map_err(failed("remove", &away))?;
        Ok(true)
    }

    /// Size in bytes and time of last use of a key's folder.
    pub(crate) fn folder_info(&self, key: &Key) -> Option<(u64, SystemTime)> {
        let root = self.folder_path(key);
        let list = self.storage.list(&root).ok()?.into_iter().find(|file| file.name == LIST)?;
        let files = self.storage.files_below(&root).ok()?;
        Some((files.iter().map(|(_, len)| len).sum(), list.modified))
    }

    fn create_private(&self, key: &Key) -> Result<Private, Error> {
        let mut tries = 3;
        loop {
            tries -= 1;
            let path = self.dir.join(format!("{key}.{}.tmp", unique()));
            match self.storage.create_folder(&path) {
                Ok(lock) => return Ok(Private { path, store: self.clone(), _lock: lock }),
                // Between its creation and its lock, another process removed it as stale.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => {}
                Err(error) => return Err(failed("create", &path)(error)),
            }
        }
    }

    /// Lists and flushes what was built, and renames it to its final name. Returns the artifact and a lease on it.
    fn publish_folder(
        &self,
        key: &Key,
        meta: &Meta,
        name: &str,
        private: &Private,
    ) -> Result<(PathBuf, Option<LockGuard>), Error> {
        let staging = &private.path;
        let artifact = staging.join(name);
        let mut list = encode_name(name);
        let files = self.storage.files_below(&artifact).map_err(failed("list", &artifact))?;
        let mut folders = vec![artifact.clone()];
        for (name, len) in &files {
            let path = artifact.join(name);
            let content = self.storage.load(&path).map_err(failed("read", &path))?;
            if content.len() as u64 != *len {
                let error = io::Error::other("it changes while it is stored");
                return Err(failed("store", &path)(error));
            }
            list.extend(encode_name(name));
            list.extend_from_slice(&len.to_le_bytes());
            list.extend_from_slice(blake3::hash(&content).as_bytes());
            self.storage.sync_file(&path).map_err(failed("flush", &path))?;
            let parents = path.ancestors().skip(1).take_while(|parent| *parent != artifact);
            folders.extend(parents.map(Path::to_owned));
        }
        let total: u64 = files.iter().map(|(_, len)| len).sum();
        let header = entry::encode_header(key, meta, SystemTime::now(), &list);
        let size = total.saturating_add((header.len() + list.len()) as u64);
        if size > self.options.max_bytes {
            return Err(Error::TooLarge { size, max: self.options.max_bytes });
        }
        // Never store a list that cannot be read back.
        if decode_list(&list).is_none() {
            let error = io::Error::other("a file in it has a name that cannot be listed");
            return Err(failed("store", &artifact)(error));
        }
        drop(self.write(&staging.join(LIST), &[&header, &list])?);
        folders.sort();
        folders.dedup();
        for folder in folders.iter().rev().chain([staging]) {
            self.storage.sync_dir(folder).map_err(failed("flush", folder))?;
        }
        // The lock belongs to the file, and so outlives the renaming of its folder.
        let renames_in_use = self.storage.renames_folders_in_use();
        let early = if renames_in_use { self.lease(staging).ok().flatten() } else { None };
        let root = self.folder_path(key);
        if let Err(error) = self.storage.rename(staging, &root) {
            // The existing folder is broken, or another process has just stored it.
            if let Ok(Some(found)) = self.check_folder(key, Some(name), Verify::Full) {
                return Ok(found);
            }
            if !self.remove_folder(key)? {
                return Err(failed("rename a temporary folder to", &root)(error));
            }
            self.storage.rename(staging, &root).map_err(failed("rename a temporary folder to", &root))?;
        }
        let lease = if renames_in_use { early } else { self.late_lease(&root)? };
        // The folder is in place, even if that might not survive a power cut.
        if let Err(error) = self.storage.sync_dir(&self.dir) {
            tracing::debug!(%key, %error, "cannot flush the cache folder");
        }
        Ok((root.join(name), lease))
    }
}

impl Store {
    /// Takes a lease on a folder that has just got its final name, while others may be about to remove it.
    fn late_lease(&self, root: &Path) -> Result<Option<LockGuard>, Error> {
        for _ in 0..LEASE_TRIES {
            match self.lease(root) {
                Ok(Some(lease)) => return Ok(Some(lease)),
                // Another process checks whether it is in use, or removes it.
                Ok(None) => thread::sleep(Duration::from_millis(1)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                // Locks do not work here.
                Err(_) => return Ok(None),
            }
        }
        Err(failed("use", root)(io::Error::new(
            io::ErrorKind::NotFound,
            "another process removed it at once",
        )))
    }
}

/// A folder that is being built, or could not be stored. It is removed when this is dropped, unless it has been
/// renamed.
struct Private {
    path: PathBuf,
    store: Store,
    /// Without this lock, other processes would take the folder for stale.
    _lock: LockGuard,
}

impl Drop for Private {
    fn drop(&mut self) {
        match self.store.storage.remove_folder(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(%error, "cannot remove '{}'", self.path.display());
            }
            _ => {}
        }
    }
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder")
            .field("path", &self.path)
            .field("origin", &self.origin)
            .field("unstored", &self.unstored)
            .finish_non_exhaustive()
    }
}

impl From<&Store> for Wait<'static> {
    fn from(store: &Store) -> Self {
        Wait { timeout: store.options.wait, stop: None }
    }
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut out = u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    out.extend_from_slice(name.as_bytes());
    out
}

/// One file of an artifact.
#[derive(Debug, PartialEq)]
struct Listed<'a> {
    name: &'a str,
    len: u64,
    hash: blake3::Hash,
}

/// Decodes the artifact's name and its files. `None` if the list is damaged, or if a name leads out of the folder.
fn decode_list(mut bytes: &[u8]) -> Option<(&str, Vec<Listed<'_>>)> {
    let root = decode_name(&mut bytes)?;
    if Path::new(root).components().count() != 1 {
        return None;
    }
    let mut files = Vec::new();
    while !bytes.is_empty() {
        let name = decode_name(&mut bytes)?;
        let (len, rest) = bytes.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        bytes = rest;
        if files.len() == MAX_FILES {
            return None;
        }
        let hash = blake3::Hash::from_bytes(*hash);
        files.push(Listed { name, len: u64::from_le_bytes(*len), hash });
    }
    Some((root, files))
}

fn decode_name<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok().filter(|&len| len <= MAX_PATH)?;
    let (name, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    let name = std::str::from_utf8(name).ok()?;
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    (inside && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(root: &str, files: &[&str]) -> Vec<u8> {
        let mut list = encode_name(root);
        for name in files {
            list.extend(encode_name(name));
            list.extend_from_slice(&5u64.to_le_bytes());
            list.extend_from_slice(&[7; 32]);
        }
        list
    }

    #[test]
    fn lists_round_trip() {
        let bytes = list("m.mlmodelc", &["model.mil", "weights/weight.bin"]);
        let (root, files) = decode_list(&bytes).unwrap();
        assert_eq!(root, "m.mlmodelc");
        let hash = blake3::Hash::from_bytes([7; 32]);
        assert_eq!(files[1], Listed { name: "weights/weight.bin", len: 5, hash });
        for len in 0..bytes.len() {
            // A list cut between two files is a valid, shorter list; the checksum over the list detects that.
            if let Some((_, cut)) = decode_list(&bytes[..len]) {
                assert!(cut.len() < 2);
            }
        }
    }

    #[test]
    fn no_name_leads_out() {
        for bad in ["", "..", "a/../../b", "/etc/passwd"] {
            assert!(decode_list(&list("m", &[bad])).is_none(), "{bad}");
            assert!(decode_list(&list(bad, &["x"])).is_none(), "{bad}");
        }
        assert!(decode_list(&list("a/b", &["x"])).is_none());
    }
}
