//! The store on a simulated disk: every operation fails in turn, and the power goes after every operation.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use milwright_cache::{
    FileInfo, Key, KeyBuilder, LockGuard, Lookup, Meta, NewFile, Options, Origin, Storage, Store,
};

const DIR: &str = "/cache";

#[test]
fn a_power_cut_leaves_old_or_new() {
    let mut outcomes = BTreeMap::<_, u32>::new();
    for loss in Loss::ALL {
        for operations in 0.. {
            let disk = SimDisk::default();
            let store = open(&disk).unwrap();
            store.put(&key(0), &meta(), &old(0)).unwrap();
            store.put(&key(1), &meta(), &old(1)).unwrap();
            disk.state().fuse = Some(Fuse { operations, then: Then::PowerCut });
            let put = store.put(&key(1), &meta(), &new());
            let cut = disk.state().fuse.take().unwrap().operations == 0;

            disk.restart(loss);
            let store = open(&disk).unwrap();
            assert_eq!(stored(&store, 0), Some(old(0)), "another entry was touched");
            // The write was complete before the rename, so one of the two is always whole.
            let found = stored(&store, 1).expect("the entry is lost");
            let outcome = if found == new() { "new" } else { "old" };
            assert!(found == new() || found == old(1));
            if put.is_ok() {
                assert_eq!(outcome, "new", "a stored entry was forgotten ({loss:?}, {operations})");
            }
            *outcomes.entry(outcome).or_default() += 1;
            if !cut {
                break;
            }
        }
    }
    assert!(outcomes.len() == 2 && outcomes.values().all(|&n| n >= 4), "{outcomes:?}");
}

#[test]
fn a_disk_that_lies_about_flushing_gives_misses_and_never_wrong_bytes() {
    let mut broken = 0;
    for loss in Loss::ALL {
        let disk = SimDisk::default();
        disk.state().ignores_sync = true;
        let store = open(&disk).unwrap();
        store.put(&key(0), &meta(), &new()).unwrap();
        disk.restart(loss);
        match open(&disk).unwrap().get(&key(0)) {
            Lookup::Hit(entry) => assert_eq!(&entry.payload[..], new()),
            Lookup::Miss => {}
            Lookup::Broken(_) => broken += 1,
        }
    }
    assert!(broken > 0, "the simulation cannot show a missing flush");
}

#[test]
fn any_failing_operation_leaves_the_store_usable() {
    for failing in 0.. {
        let disk = SimDisk::default();
        let store = open(&disk).unwrap();
        store.put(&key(0), &meta(), &old(0)).unwrap();
        disk.state().fuse = Some(Fuse { operations: failing, then: Then::FailOnce });
        let fetched = store.get_or_create(&key(1), &meta(), || Ok::<_, Infallible>(new())).unwrap();
        let failed = disk.state().fuse.take().is_none();

        assert_eq!(&fetched.payload[..], new());
        assert_eq!(stored(&store, 0), Some(old(0)));
        if fetched.unstored.is_none() {
            assert_eq!(stored(&store, 1), Some(new()), "operation {failing}");
        }
        assert!(stored(&store, 1).is_none_or(|found| found == new()));
        if fetched.unstored.is_some() {
            assert!(disk.names().iter().all(|name| !name.ends_with(".tmp")), "a temporary file is left");
        }
        store.put(&key(1), &meta(), &new()).unwrap();
        assert_eq!(stored(&store, 1), Some(new()));
        if !failed {
            return;
        }
    }
}

#[test]
fn a_full_disk_never_fails_a_request() {
    for room in (0..3000).step_by(100) {
        let disk = SimDisk::default();
        disk.state().room = Some(room);
        let store = open(&disk).unwrap();
        let fetched = store.get_or_create(&key(1), &meta(), || Ok::<_, Infallible>(new())).unwrap();
        assert_eq!(&fetched.payload[..], new());
        match &fetched.unstored {
            None => assert_eq!(stored(&store, 1), Some(new())),
            Some(error) => {
                assert!(error.hint().is_some_and(|hint| hint.contains("space")), "{error}");
                assert!(disk.names().is_empty(), "{:?}", disk.names());
            }
        }
    }
}

#[test]
fn an_unreadable_entry_is_built_again_but_not_thrown_away() {
    let disk = SimDisk::default();
    let store = open(&disk).unwrap();
    store.put(&key(1), &meta(), &new()).unwrap();
    disk.state().fuse = Some(Fuse { operations: 0, then: Then::FailOnce });
    assert!(matches!(store.get(&key(1)), Lookup::Broken(_)));
    let fetched =
        store.get_or_create(&key(1), &meta(), || -> Result<_, Infallible> { panic!("built") }).unwrap();
    assert_eq!(fetched.origin, Origin::Hit);
}

fn open(disk: &SimDisk) -> Result<Store, milwright_cache::Error> {
    Store::with_storage(DIR, Options::default(), Arc::new(disk.clone()))
}

fn key(n: u8) -> Key {
    KeyBuilder::new("test").field("n", [n]).finish()
}

fn meta() -> Meta {
    Meta::new("plan", "model")
}

fn old(n: u8) -> Vec<u8> {
    vec![n; 500]
}

fn new() -> Vec<u8> {
    (0..=255).cycle().take(2000).collect()
}

fn stored(store: &Store, n: u8) -> Option<Vec<u8>> {
    match store.get(&key(n)) {
        Lookup::Hit(entry) => Some(entry.payload.to_vec()),
        Lookup::Miss => None,
        Lookup::Broken(fault) => panic!("a broken entry: {fault}"),
    }
}

/// A disk with a volatile and a durable side.
#[derive(Clone, Debug, Default)]
struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<SimFile>,
    /// Names as programs see them.
    names: BTreeMap<PathBuf, usize>,
    /// Names as they are after a power cut.
    durable_names: BTreeMap<PathBuf, usize>,
    fuse: Option<Fuse>,
    dead: bool,
    ignores_sync: bool,
    room: Option<usize>,
    clock: u64,
}

#[derive(Debug, Default)]
struct SimFile {
    content: Vec<u8>,
    /// How much of the content is durable.
    durable: usize,
    modified: u64,
}

/// What happens after a number of operations.
#[derive(Debug)]
struct Fuse {
    operations: usize,
    then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    FailOnce,
    PowerCut,
}

/// What a power cut does to what was not flushed.
#[derive(Clone, Copy, Debug)]
struct Loss {
    names: bool,
    content: Content,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Kept,
    Gone,
    Halved,
    Zeroed,
}

impl Loss {
    const ALL: [Self; 8] = {
        use Content::*;
        [
            Self { names: false, content: Kept },
            Self { names: false, content: Gone },
            Self { names: false, content: Halved },
            Self { names: false, content: Zeroed },
            Self { names: true, content: Kept },
            Self { names: true, content: Gone },
            Self { names: true, content: Halved },
            Self { names: true, content: Zeroed },
        ]
    };
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.state().names.keys().map(|path| path.display().to_string()).collect()
    }

    fn restart(&self, loss: Loss) {
        let mut state = self.state();
        state.dead = false;
        state.fuse = None;
        if loss.names {
            state.names = state.durable_names.clone();
        }
        for file in &mut state.files {
            let lost = file.content.len() - file.durable;
            match loss.content {
                Content::Kept => {}
                Content::Gone => file.content.truncate(file.durable),
                Content::Halved => file.content.truncate(file.durable + lost / 2),
                Content::Zeroed => file.content[file.durable..].fill(0),
            }
            file.durable = file.content.len();
        }
        state.durable_names = state.names.clone();
    }

    /// Counts an operation and says whether it works.
    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.dead {
            return Err(io::Error::other("no power"));
        }
        match &mut state.fuse {
            Some(Fuse { operations: 0, then }) => {
                match then {
                    Then::FailOnce => state.fuse = None,
                    Then::PowerCut => state.dead = true,
                }
                Err(io::Error::other("injected failure"))
            }
            Some(fuse) => {
                fuse.operations -= 1;
                Ok(state)
            }
            None => Ok(state),
        }
    }
}

impl State {
    fn find(&mut self, path: &Path) -> io::Result<&mut SimFile> {
        let id = *self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.files[id])
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl Storage for SimDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.step().map(drop)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        let state = self.step()?;
        let info = |(path, &id): (&PathBuf, &usize)| {
            let name = path.strip_prefix(dir).ok()?.to_str()?.to_owned();
            let file = &state.files[id];
            let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(file.modified);
            Some(FileInfo { name, len: file.content.len() as u64, modified })
        };
        Ok(state.names.iter().filter_map(info).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let mut state = self.step()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.files.len();
        let modified = state.tick();
        state.files.push(SimFile { modified, ..SimFile::default() });
        state.names.insert(path.to_owned(), id);
        Ok(Box::new(OpenFile { disk: self.clone(), id }))
    }

    fn load(&self, path: &Path) -> io::Result<Bytes> {
        Ok(milwright_files::aligned_copy(&self.step()?.find(path)?.content, milwright_cache::PAYLOAD_ALIGN))
    }

    fn load_head(&self, path: &Path, max: usize) -> io::Result<(Vec<u8>, u64)> {
        let mut state = self.step()?;
        let content = &state.find(path)?.content;
        Ok((content[..content.len().min(max)].to_vec(), content.len() as u64))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?.names.remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        if !state.ignores_sync {
            state.durable_names = state.names.clone();
        }
        Ok(())
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let now = state.tick();
        state.find(path)?.modified = now;
        Ok(())
    }

    fn try_lock(&self, _path: &Path) -> io::Result<Option<LockGuard>> {
        self.step().map(|_| Some(Box::new(()) as LockGuard))
    }

    fn is_locked(&self, _path: &Path) -> io::Result<bool> {
        self.step().map(|_| false)
    }

    fn list_folders(&self, _dir: &Path) -> io::Result<Vec<String>> {
        self.step().map(|_| Vec::new())
    }

    fn create_folder(&self, _path: &Path) -> io::Result<LockGuard> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn files_below(&self, _dir: &Path) -> io::Result<Vec<(String, u64)>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_file(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove_folder(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn try_lock_shared(&self, _path: &Path) -> io::Result<Option<LockGuard>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct OpenFile {
    disk: SimDisk,
    id: usize,
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.step()?;
        // Short writes, as a real disk may do.
        let mut len = bytes.len().min(700);
        if let Some(room) = &mut state.room {
            len = len.min(*room);
            *room -= len;
            if len == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        state.files[self.id].content.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for OpenFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.step()?;
        if !state.ignores_sync {
            let file = &mut state.files[self.id];
            file.durable = file.content.len();
        }
        Ok(())
    }
}
