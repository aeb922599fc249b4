//! The store: looking up, storing, listing and evicting entries.

mod folder;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

pub use folder::{Folder, FolderError, Wait};

use crate::entry::LIST;
use crate::entry::{self, MAX_HEADER};
use crate::{
    Disk, Entry, Error, Fault, FileInfo, Key, LockGuard, Meta, NewFile, PAYLOAD_ALIGN, Storage, Verify,
};

/// A temporary file or lock file that no living process has locked is stale: a crash left it. Where the file system has
/// no locks, files older than this are stale; the margin is wide.
const STALE_WITHOUT_LOCKS: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a process that waits for another one polls.
const POLL: Duration = Duration::from_millis(20);

/// The settings of a [`Store`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The most bytes that the entries may take together; 4 GiB by default. They may take more during a `put`.
    pub max_bytes: u64,
    /// How much of an entry is checked when it is loaded.
    pub verify: Verify,
    /// How long [`Store::get_or_create`] waits for another process that is building the same key before it builds the
    /// entry itself; one minute by default.
    pub wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: 4 << 30, verify: Verify::Full, wait: Duration::from_secs(60) }
    }
}

/// A folder of compiled artifacts. Cheap to clone; clones share the folder.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) storage: Arc<dyn Storage>,
}

/// What [`Store::get`] found.
#[derive(Clone, Debug)]
#[must_use]
pub enum Lookup {
    /// A complete entry.
    Hit(Entry),
    /// No entry.
    Miss,
    /// An entry that cannot be used. It has been removed, unless reading it failed.
    Broken(Fault),
}

/// What [`Store::get_or_create`] returns.
#[derive(Debug)]
pub struct Fetched {
    /// The artifact, starting at a multiple of [`PAYLOAD_ALIGN`].
    pub payload: Bytes,
    /// Where it came from.
    pub origin: Origin,
    /// Why a newly built artifact could not be stored. The artifact is complete all the same.
    pub unstored: Option<Error>,
}

/// Where an artifact came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The store had it.
    Hit,
    /// A miss: the artifact was built.
    Built,
    /// The entry was broken, so the artifact was built again.
    Rebuilt(Fault),
}

/// One line of [`Store::list`].
#[derive(Clone, Debug)]
pub struct EntryInfo {
    /// The entry's key.
    pub key: Key,
    /// Its description.
    pub meta: Meta,
    /// Size of its file in bytes.
    pub bytes: u64,
    /// When it was stored, to the second.
    pub created: SystemTime,
    /// When it was last stored or loaded.
    pub used: SystemTime,
}

/// What [`Store::verify`] found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Number of complete entries.
    pub whole: usize,
    /// The broken entries. They have been removed, except files that could not be read and folders in use.
    pub broken: Vec<(Key, Fault)>,
}

/// What [`Store::clear`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Number of entries.
    pub entries: usize,
    /// Bytes freed.
    pub bytes: u64,
}

impl Store {
    /// Opens a folder, and creates it if it does not exist. Removes stale files and, if the size limit is now lower,
    /// evicts the least recently used entries.
    pub fn open(dir: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        Self::with_storage(dir, options, Arc::new(Disk))
    }

    /// Like [`open`](Self::open), on other storage.
    pub fn with_storage(
        dir: impl Into<PathBuf>,
        options: Options,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, Error> {
        let store = Self { dir: dir.into(), options, storage };
        store.storage.create_dir(&store.dir).map_err(failed("create the cache folder", &store.dir))?;
        store.tidy_up()?;
        Ok(store)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Looks a key up, and marks its entry as used.
    pub fn get(&self, key: &Key) -> Lookup {
        let path = self.entry_path(key);
        match self.check(key, self.options.verify) {
            Ok(Some(entry)) => {
                // If this fails, the entry is only evicted sooner; a read-only cache folder works well.
                let _ = self.storage.touch(&path);
                Lookup::Hit(entry)
            }
            Ok(None) => Lookup::Miss,
            Err(fault) => Lookup::Broken(fault),
        }
    }

    /// Stores an artifact, replacing an entry of the same key, and evicts old entries. After an error the store has the
    /// old entry or the complete new one.
    pub fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(), Error> {
        let header = entry::encode_header(key, meta, SystemTime::now(), payload);
        let size = header.len() as u64 + payload.len() as u64;
        if size > self.options.max_bytes {
            return Err(Error::TooLarge { size, max: self.options.max_bytes });
        }
        let parts = [&header[..], payload];
        self.store(key, &parts).or_else(|error| match &error {
            // Between its creation and its lock, another process removed the file as stale.
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => self.store(key, &parts),
            _ => Err(error),
        })?;
        self.storage.sync_dir(&self.dir).map_err(failed("flush", &self.dir))?;
        if let Err(error) = self.tidy_up() {
            tracing::warn!(%error, "cannot evict old cache entries");
        }
        Ok(())
    }

    /// Looks a key up and, if there is no usable entry, builds and stores it. The only error is that of `build`:
    /// failures of the store are reported in the result.
    pub fn get_or_create<E>(
        &self,
        key: &Key,
        meta: &Meta,
        build: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Fetched, E> {
        self.get_or_create_within(key, meta, Wait::from(self), build)
    }

    /// Like [`get_or_create`](Self::get_or_create), with a limit on the wait for other processes. If `wait.stop`
    /// returns true, the wait ends and `build` still runs; `build` should check the same flag.
    pub fn get_or_create_within<E>(
        &self,
        key: &Key,
        meta: &Meta,
        wait: Wait<'_>,
        build: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Fetched, E> {
        let hit = |entry: Entry| Fetched { payload: entry.payload, origin: Origin::Hit, unstored: None };
        let origin = match self.get(key) {
            Lookup::Hit(entry) => return Ok(hit(entry)),
            Lookup::Miss => Origin::Built,
            Lookup::Broken(fault) => Origin::Rebuilt(fault),
        };
        let _lock = self.lock(key, wait);
        // Another process may have built it since.
        if let Lookup::Hit(entry) = self.get(key) {
            return Ok(hit(entry));
        }
        let payload = build()?;
        let unstored = self.put(key, meta, &payload).err();
        if let Some(error) = &unstored {
            tracing::debug!(%key, %error, "cannot store a cache entry");
        } else if let Lookup::Hit(entry) = self.get(key) {
            // The mapped file replaces the copy on the heap.
            return Ok(Fetched { payload: entry.payload, origin, unstored });
        }
        Ok(Fetched { payload: milwright_files::aligned_copy(&payload, PAYLOAD_ALIGN), origin, unstored })
    }

    /// Lists the entries with a valid header, most recently used first. Does not read payloads.
    pub fn list(&self) -> Result<Vec<EntryInfo>, Error> {
        let mut entries: Vec<_> = self
            .entries()?
            .into_iter()
            .filter_map(|Stored { key, bytes, used, folder }| {
                let path = if folder { self.folder_path(&key).join(LIST) } else { self.entry_path(&key) };
                let (head, len) = self.storage.load_head(&path, MAX_HEADER).ok()?;
                let header = entry::decode_header(&head, len, &key).ok()?;
                Some(EntryInfo { key, meta: header.meta, bytes, created: header.created, used })
            })
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        Ok(entries)
    }

    /// Reads and checks every entry, and removes the broken ones.
    pub fn verify(&self) -> Result<Verified, Error> {
        let mut report = Verified::default();
        for Stored { key, folder, .. } in self.entries()? {
            let checked = if folder {
                let checked = self.check_folder(&key, None, Verify::Full).map(|found| found.is_some());
                checked.inspect_err(|_| drop(self.remove_folder(&key)))
            } else {
                self.check(&key, Verify::Full).map(|found| found.is_some())
            };
            match checked {
                Ok(true) => report.whole += 1,
                // Removed by another process since the listing.
                Ok(false) => {}
                Err(fault) => report.broken.push((key, fault)),
            }
        }
        Ok(report)
    }

    /// Removes an entry. `false` if there was none, or if it is a folder in use.
    pub fn remove(&self, key: &Key) -> Result<bool, Error> {
        let file = self.remove_file(key)?;
        Ok(self.remove_folder(key)? || file)
    }

    /// Removes every entry that is not in use. Files that the store did not write stay.
    pub fn clear(&self) -> Result<Cleared, Error> {
        let mut cleared = Cleared::default();
        for Stored { key, bytes, folder, .. } in self.entries()? {
            let removed = if folder { self.remove_folder(&key)? } else { self.remove_file(&key)? };
            if removed {
                cleared.entries += 1;
                cleared.bytes += bytes;
            }
        }
        Ok(cleared)
    }

    /// Evicts the least recently used entries until the others take at most `max_bytes`. Folders in use stay.
    pub fn prune(&self, max_bytes: u64) -> Result<Cleared, Error> {
        let mut cleared = Cleared::default();
        let mut entries = self.entries()?;
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        // The key breaks ties, so that every process evicts in the same order.
        entries.sort_by_key(|entry| (entry.used, entry.key));
        for Stored { key, bytes, folder, .. } in entries {
            if total <= max_bytes {
                break;
            }
            // An entry that cannot be removed (on Windows, a mapped file) still counts: the next one is evicted
            // instead.
            let removed = if folder { self.remove_folder(&key) } else { self.remove_file(&key) };
            if removed.is_ok_and(|removed| removed) {
                tracing::debug!(%key, bytes, "removed a cache entry");
                total -= bytes;
                cleared.entries += 1;
                cleared.bytes += bytes;
            }
        }
        Ok(cleared)
    }

    fn remove_file(&self, key: &Key) -> Result<bool, Error> {
        let path = self.entry_path(key);
        match self.storage.remove(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }

    /// Loads and checks an entry; removes it if it is broken.
    fn check(&self, key: &Key, verify: Verify) -> Result<Option<Entry>, Fault> {
        let path = self.entry_path(key);
        let file = match self.storage.load(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // It may be readable the next time, so it stays; the next `put` replaces it.
            Err(error) => {
                tracing::debug!(%key, %error, "cannot read a cache entry");
                return Err(Fault::Unreadable(error.to_string()));
            }
        };
        entry::decode(&file, key, verify).map(Some).inspect_err(|fault| {
            tracing::debug!(%key, %fault, "removing a broken cache entry");
            // Windows does not remove a mapped file.
            drop(file);
            let _ = self.storage.remove(&path);
        })
    }

    /// Writes a file under a temporary name and renames it to the entry's name.
    fn store(&self, key: &Key, parts: &[&[u8]]) -> Result<(), Error> {
        let temporary = self.dir.join(format!("{key}.{}.tmp", unique()));
        // The file stays locked until it has its final name, so that nobody takes it for stale.
        let written = self.write(&temporary, parts).and_then(|_file| self.publish(&temporary, key));
        written.inspect_err(|_| drop(self.storage.remove(&temporary)))
    }

    pub(crate) fn write(&self, path: &Path, parts: &[&[u8]]) -> Result<Box<dyn NewFile>, Error> {
        let mut file = self.storage.create(path).map_err(failed("create", path))?;
        for part in parts {
            file.write_all(part).map_err(failed("write", path))?;
        }
        file.sync().map_err(failed("flush", path))?;
        Ok(file)
    }

    /// Gives a complete file its final name.
    fn publish(&self, temporary: &Path, key: &Key) -> Result<(), Error> {
        let path = self.entry_path(key);
        let Err(error) = self.storage.rename(temporary, &path) else { return Ok(()) };
        // Windows does not replace a file that somebody has mapped. A complete entry of the same key is as good.
        if matches!(self.check(key, Verify::Full), Ok(Some(_))) {
            let _ = self.storage.remove(temporary);
            return Ok(());
        }
        Err(failed("rename a temporary file to", &path)(error))
    }

    /// Waits until no other process builds `key`, and takes the key's lock. Returns `Ok(None)` after the timeout, or
    /// where locks do not work: then the entry may be built twice, which is harmless.
    pub(crate) fn lock(&self, key: &Key, wait: Wait<'_>) -> Result<Option<KeyLock<'_>>, Stopped> {
        let path = self.dir.join(format!("{key}.lock"));
        let start = Instant::now();
        loop {
            if wait.stop.is_some_and(|stop| stop()) {
                return Err(Stopped);
            }
            match self.storage.try_lock(&path) {
                Ok(Some(guard)) => return Ok(Some(KeyLock { store: self, path, _guard: guard })),
                Ok(None) if start.elapsed() < wait.timeout => thread::sleep(POLL),
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }

    /// Removes stale files, then evicts the least recently used entries beyond the size limit.
    pub(crate) fn tidy_up(&self) -> Result<(), Error> {
        let now = SystemTime::now();
        for file in self.files()? {
            if let Some(Name::Passing) = Name::parse(&file.name)
                && self.is_abandoned(&file, now)
            {
                let _ = self.storage.remove(&self.dir.join(&file.name));
            }
        }
        for name in self.folders()? {
            let Some(Name::Passing) = Name::parse(&name) else { continue };
            // A folder is as old as its newest file.
            let path = self.dir.join(&name);
            let modified =
                self.storage.list(&path).unwrap_or_default().iter().map(|file| file.modified).max();
            let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
            if self.is_abandoned(&FileInfo { name, len: 0, modified }, now) {
                let _ = self.storage.remove_folder(&path);
            }
        }
        self.prune(self.options.max_bytes).map(drop)
    }

    fn is_abandoned(&self, file: &FileInfo, now: SystemTime) -> bool {
        match self.storage.is_locked(&self.dir.join(&file.name)) {
            Ok(locked) => !locked,
            // A file from the future has no age.
            Err(_) => now.duration_since(file.modified).is_ok_and(|age| age > STALE_WITHOUT_LOCKS),
        }
    }

    fn entries(&self) -> Result<Vec<Stored>, Error> {
        let mut entries = Vec::new();
        for FileInfo { name, len: bytes, modified: used } in self.files()? {
            if let Some(Name::Entry(key)) = Name::parse(&name) {
                entries.push(Stored { key, bytes, used, folder: false });
            }
        }
        for name in self.folders()? {
            let Some(Name::Folder(key)) = Name::parse(&name) else { continue };
            // A folder without a list is broken, and is evicted first.
            let (bytes, used) = self.folder_info(&key).unwrap_or((0, SystemTime::UNIX_EPOCH));
            entries.push(Stored { key, bytes, used, folder: true });
        }
        Ok(entries)
    }

    fn folders(&self) -> Result<Vec<String>, Error> {
        self.storage.list_folders(&self.dir).map_err(failed("list", &self.dir))
    }

    fn files(&self) -> Result<Vec<FileInfo>, Error> {
        self.storage.list(&self.dir).map_err(failed("list", &self.dir))
    }

    /// The path of a key's entry, whether or not it exists.
    pub fn entry_path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{key}.mwc"))
    }
}

/// An entry of either kind.
struct Stored {
    key: Key,
    bytes: u64,
    used: SystemTime,
    folder: bool,
}

/// [`Wait::stop`] cancelled the wait.
#[derive(Debug)]
pub(crate) struct Stopped;

/// The lock for building one key's entry.
pub(crate) struct KeyLock<'a> {
    store: &'a Store,
    path: PathBuf,
    _guard: LockGuard,
}

impl Drop for KeyLock<'_> {
    fn drop(&mut self) {
        // A process that waits on the removed lock file finds the entry when it gets the lock.
        let _ = self.store.storage.remove(&self.path);
    }
}

/// What a file in the folder is, by its name.
enum Name {
    Entry(Key),
    Folder(Key),
    /// A temporary file or folder, or a lock file.
    Passing,
}

impl Name {
    /// `None` for a file that the store did not write.
    fn parse(name: &str) -> Option<Self> {
        let (key, rest) = name.split_once('.')?;
        let key = key.parse().ok()?;
        match rest {
            "mwc" => Some(Self::Entry(key)),
            "mwd" => Some(Self::Folder(key)),
            "lock" => Some(Self::Passing),
            _ => (rest.ends_with(".tmp") || rest.ends_with(".lock")).then_some(Self::Passing),
        }
    }
}

/// Returns a name that no other writer uses, not even one in a container that shares the folder and has the same
/// process number.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let random = RandomState::new().build_hasher().finish();
    format!("{}-{}-{random:016x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}
