//! Entries that are folders: built once, checked, leased, evicted; with failures, kills and many processes. The children
//! are this test program, started again for one test with a folder in the environment.
#![expect(clippy::disallowed_methods, reason = "a child learns its folder from the environment")]

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use milwright_cache::{
    Disk, Fault, FileInfo, Folder, FolderError, Key, KeyBuilder, LockGuard, Meta, NewFile, Options, Origin,
    Storage, Store, Verify, Wait,
};

const FOLDER: &str = "MILWRIGHT_TEST_FOLDERS";
const NAME: &str = "model.mlmodelc";
const KEYS: usize = 4;

#[test]
fn is_built_once_and_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(!store.contains(&key(0)));
    let built = fetch(&store, 0);
    assert_eq!((&built.origin, built.unstored.is_none()), (&Origin::Built, true));
    check(&built, 0);
    assert!(store.contains(&key(0)));
    let path = built.path.clone();
    drop(built);
    let found = store
        .folder_or_create(&key(0), &meta(), NAME, Wait::from(&store), |_| -> Result<(), Infallible> {
            panic!("built again")
        })
        .unwrap();
    assert_eq!((&found.origin, &found.path), (&Origin::Hit, &path));
    let list = store.list().unwrap();
    assert_eq!((list[0].key, list[0].meta.kind()), (key(0), "mlmodelc"));
    assert!(list[0].bytes > bytes(0));
    assert_eq!(store.verify().unwrap().whole, 1);
    // Not while it is in use.
    assert_eq!(store.clear().unwrap().entries, 0);
    drop(found);
    assert_eq!(store.clear().unwrap().entries, 1);
    assert_eq!(names(dir.path()), [] as [String; 0]);
}

#[test]
fn what_cannot_be_built_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let build = |path: &Path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("half"), "of it").unwrap();
        Err("no space")
    };
    let error = store.folder_or_create(&key(0), &meta(), NAME, Wait::from(&store), build).unwrap_err();
    assert!(matches!(error, FolderError::Build("no space")));
    assert_eq!(names(dir.path()), [] as [String; 0]);
}

#[test]
fn damage_anywhere_is_found_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let root = fetch(&store, 0).path.parent().unwrap().to_owned();
    let files = Disk.files_below(&root).unwrap();
    assert_eq!(files.len(), 4);
    for (name, len) in &files {
        for damage in 0..4 {
            let path = root.join(name);
            let mut content = fs::read(&path).unwrap();
            match damage {
                0 => content[*len as usize / 2] ^= 1,
                1 => content.truncate(*len as usize / 2),
                2 => content.push(0),
                _ => {}
            }
            fs::write(&path, content).unwrap();
            if damage == 3 {
                fs::remove_file(&path).unwrap();
            }
            let folder = fetch(&store, 0);
            assert!(matches!(folder.origin, Origin::Rebuilt(_)), "{name}, {damage}: {:?}", folder.origin);
            check(&folder, 0);
        }
    }
    // The same without a reader.
    fs::remove_file(root.join(NAME).join("model.mil")).unwrap();
    let broken = store.verify().unwrap().broken;
    assert_eq!(broken[0].1, Fault::Missing("model.mil".into()));
    assert_eq!(names(dir.path()), [] as [String; 0]);
}

#[test]
fn header_verification_finds_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { verify: Verify::Header, ..Options::default() }).unwrap();
    let path = fetch(&store, 0).path.clone();
    let weights = path.join("weights/weight.bin");
    let mut content = fs::read(&weights).unwrap();
    content[7] ^= 1;
    fs::write(&weights, &content).unwrap();
    assert_eq!(fetch(&store, 0).origin, Origin::Hit);
    fs::write(&weights, &content[1..]).unwrap();
    assert!(matches!(fetch(&store, 0).origin, Origin::Rebuilt(Fault::Length { .. })));
}

#[test]
fn an_entry_under_a_foreign_name_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    drop(fetch(&store, 0));
    fs::rename(dir.path().join(format!("{}.mwd", key(0))), dir.path().join(format!("{}.mwd", key(1))))
        .unwrap();
    let folder = fetch(&store, 1);
    assert_eq!(folder.origin, Origin::Rebuilt(Fault::OtherKey));
    check(&folder, 1);
}

#[cfg(unix)]
#[test]
fn links_are_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let build = |path: &Path| {
        fs::create_dir(path)?;
        std::os::unix::fs::symlink("/etc/passwd", path.join("link"))
    };
    let folder = store.folder_or_create(&key(0), &meta(), NAME, Wait::from(&store), build).unwrap();
    assert!(folder.unstored.is_some());
    assert!(folder.path.is_dir());
    drop(folder);
    assert_eq!(names(dir.path()), [] as [String; 0]);
}

#[test]
fn the_least_recently_used_folder_goes_unless_it_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    // Room for two.
    let store =
        Store::open(dir.path(), Options { max_bytes: 2 * bytes(0) + 4096, ..Options::default() }).unwrap();
    let age = |n: usize, seconds: u64| {
        let list = dir.path().join(format!("{}.mwd/entry", key(n)));
        let time = SystemTime::now() - Duration::from_secs(seconds);
        fs::File::options().write(true).open(list).unwrap().set_modified(time).unwrap();
    };
    let in_use = fetch_sized(&store, 0);
    age(0, 300);
    drop(fetch_sized(&store, 1));
    age(1, 200);
    drop(fetch_sized(&store, 2));
    assert!(store.contains(&key(0)) && !store.contains(&key(1)) && store.contains(&key(2)));
    assert!(in_use.path.join("weights/weight.bin").is_file());
    drop(in_use);
    // Plans and folders share the bound.
    store.put(&key(9), &Meta::new("plan", "m"), &vec![0; bytes(0) as usize]).unwrap();
    assert!(!store.contains(&key(0)) && store.contains(&key(2)) && store.contains(&key(9)));
    assert_eq!(store.prune(0).unwrap().entries, 2);
    // What is larger than the whole cache is handed out all the same.
    let small = Store::open(dir.path(), Options { max_bytes: 1000, ..Options::default() }).unwrap();
    let folder = fetch(&small, 0);
    assert!(folder.unstored.is_some());
    check(&folder, 0);
    drop(folder);
    assert_eq!(names(dir.path()), [] as [String; 0]);
}

#[test]
fn what_does_not_load_is_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (one, other) = (fetch(&store, 0), fetch(&store, 0));
    assert!(!store.discard(one).unwrap(), "the other one uses it");
    assert!(store.discard(other).unwrap());
    assert_eq!(fetch(&store, 0).origin, Origin::Built);
}

#[test]
fn who_waits_may_stop() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let outer = |path: &Path| {
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == 2;
        let wait = Wait { timeout: Duration::from_secs(600), stop: Some(&stop) };
        let never = |_: &Path| -> Result<(), Infallible> { panic!("it is being built") };
        let error = store.folder_or_create(&key(0), &meta(), NAME, wait, never).unwrap_err();
        assert!(matches!(error, FolderError::Stopped));
        // Who waits long enough builds it, too.
        let wait = Wait { timeout: Duration::ZERO, stop: None };
        check(&store.folder_or_create(&key(0), &meta(), NAME, wait, |path| build(path, 0)).unwrap(), 0);
        build(path, 0)
    };
    check(&store.folder_or_create(&key(0), &meta(), NAME, Wait::from(&store), outer).unwrap(), 0);
    assert_eq!(names(dir.path()).len(), 1);
}

#[test]
fn any_failing_operation_leaves_the_store_usable() {
    for failing in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let fuse = Arc::new(AtomicIsize::new(isize::MAX));
        let storage = Arc::new(Failing(Arc::clone(&fuse)));
        let store = Store::with_storage(dir.path(), Options::default(), storage).unwrap();
        drop(fetch(&store, 1));
        fuse.store(failing, Ordering::Relaxed);
        let folder =
            store.folder_or_create(&key(0), &meta(), NAME, Wait::from(&store), |path| build(path, 0));
        let failed = fuse.swap(isize::MAX, Ordering::Relaxed) < 0;
        match folder {
            Ok(folder) => check(&folder, 0),
            Err(error) => assert!(matches!(error, FolderError::Store(_)), "{failing}: {error}"),
        }
        check(&fetch(&store, 0), 0);
        assert_eq!(fetch(&store, 1).origin, Origin::Hit, "another entry was touched ({failing})");
        let store = open(dir.path());
        assert_eq!(store.verify().unwrap().broken, []);
        assert_eq!(names(dir.path()).len(), 2, "{failing}: {:?}", names(dir.path()));
        if !failed {
            assert!(failing > 20, "{failing}");
            return;
        }
    }
}

#[test]
fn a_killed_builder_leaves_whole_folders() {
    if let Ok(dir) = std::env::var(FOLDER) {
        let store = open(Path::new(&dir));
        loop {
            for n in 0..KEYS {
                check(&fetch(&store, n), n);
                store.remove(&key(n)).unwrap();
                check(&fetch(&store, n), n);
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (mut seen, mut absent) = (0, 0);
    for round in 0u64..100 {
        let mut child = start("a_killed_builder_leaves_whole_folders", dir.path());
        // Different moments of the loop, once the child is at it.
        while names(dir.path()).iter().all(|name| !name.contains('.')) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(round.wrapping_mul(7919) % 90_000));
        child.kill().unwrap();
        child.wait().unwrap();
        for n in 0..KEYS {
            match store.folder(&key(n), NAME) {
                Ok(Some(folder)) => {
                    check(&folder, n);
                    seen += 1;
                }
                Ok(None) => absent += 1,
                Err(fault) => panic!("round {round}, key {n}: {fault}"),
            }
        }
        store.clear().unwrap();
    }
    assert!(seen > 0 && absent > 0, "{seen} {absent}");
    drop(open(dir.path()));
    assert_eq!(names(dir.path()), [] as [String; 0], "something is left over");
}

#[test]
fn eight_processes_share_a_folder() {
    // So small that entries come and go all the time.
    let options = Options { max_bytes: 3 * bytes(KEYS), ..Options::default() };
    if let Ok(dir) = std::env::var(FOLDER) {
        let store = Store::open(dir, options).unwrap();
        for n in 0..40 {
            let n = (n * 3 + std::process::id() as usize) % KEYS;
            let folder = fetch(&store, n);
            check(&folder, n);
            assert!(!matches!(folder.origin, Origin::Rebuilt(_)), "{:?}", folder.origin);
            assert!(folder.unstored.is_none(), "{:?}", folder.unstored);
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut children: Vec<_> = (0..8).map(|_| start("eight_processes_share_a_folder", dir.path())).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let store = Store::open(dir.path(), options).unwrap();
    let report = store.verify().unwrap();
    assert!(report.broken.is_empty() && report.whole > 0, "{report:?}");
    assert_eq!(names(dir.path()).len(), report.whole, "temporary or lock files are left");
}

/// As on Windows: see [`Strict`].
#[test]
fn nothing_is_renamed_or_removed_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let strict = Arc::new(Strict::default());
    let open = || Store::with_storage(dir.path(), Options::default(), strict.clone()).unwrap();
    let store = open();
    let one = fetch(&store, 0);
    assert!(one.unstored.is_none(), "{:?}", one.unstored);
    let other = fetch(&store, 0);
    assert_eq!(other.origin, Origin::Hit);
    assert_eq!((store.clear().unwrap().entries, store.prune(0).unwrap().entries), (0, 0));
    // One who comes when it has been seen that nobody uses it, and just before it is renamed.
    drop((one, other));
    let late = Arc::new(Mutex::new(None));
    let (from, slot) = (open(), Arc::clone(&late));
    strict.before_rename(move || *slot.lock().unwrap() = from.folder(&key(0), NAME).unwrap());
    assert!(!store.remove(&key(0)).unwrap(), "it is in use");
    check(late.lock().unwrap().as_ref().unwrap(), 0);
    *late.lock().unwrap() = None;
    // And one who evicts it as soon as it has its name.
    assert!(store.remove(&key(0)).unwrap());
    let from = open();
    strict.after_rename(move || assert!(from.remove(&key(0)).unwrap()));
    let error = store
        .folder_or_create(&key(0), &meta(), NAME, Wait::from(&store), |path| build(path, 0))
        .unwrap_err();
    assert!(matches!(&error, FolderError::Store(e) if e.to_string().contains("removed it")), "{error}");
    // Damage is repaired, and nothing is left.
    let weights = fetch(&store, 1).path.join("weights/weight.bin");
    fs::write(weights, "damage").unwrap();
    assert!(matches!(fetch(&store, 1).origin, Origin::Rebuilt(_)));
    assert_eq!(store.clear().unwrap().entries, 1);
    assert_eq!(names(dir.path()), [] as [String; 0]);
}

fn start(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn open(dir: &Path) -> Store {
    Store::open(dir, Options::default()).unwrap()
}

fn fetch(store: &Store, n: usize) -> Folder {
    store.folder_or_create(&key(n), &meta(), NAME, Wait::from(store), |path| build(path, n)).unwrap()
}

/// One of the size of the first.
fn fetch_sized(store: &Store, n: usize) -> Folder {
    store.folder_or_create(&key(n), &meta(), NAME, Wait::from(store), |path| build(path, 0)).unwrap()
}

fn build(path: &Path, n: usize) -> Result<(), Infallible> {
    fs::create_dir_all(path.join("weights")).unwrap();
    for (name, content) in files(n) {
        fs::write(path.join(name), content).unwrap();
    }
    Ok(())
}

fn files(n: usize) -> [(&'static str, Vec<u8>); 3] {
    let content = |len: usize, seed: usize| (0..len).map(|i| (i * (seed + 3)) as u8).collect();
    [
        ("model.mil", content(3000, n)),
        ("coremldata.bin", content(300, n + 1)),
        ("weights/weight.bin", content(20_000 + 5000 * n, n + 2)),
    ]
}

fn bytes(n: usize) -> u64 {
    files(n).iter().map(|(_, content)| content.len() as u64).sum()
}

fn check(folder: &Folder, n: usize) {
    for (name, content) in files(n) {
        assert!(fs::read(folder.path.join(name)).unwrap() == content, "{name} of {n}");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn key(n: usize) -> Key {
    KeyBuilder::new("test").field("n", n.to_le_bytes()).finish()
}

fn meta() -> Meta {
    Meta::new("mlmodelc", "model")
}

/// The disk, with one operation that fails as on a full one: the one before which the counter is 0.
#[derive(Debug)]
struct Failing(Arc<AtomicIsize>);

impl Failing {
    fn step(&self) -> io::Result<()> {
        match self.0.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl Storage for Failing {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.step().and_then(|()| Disk.create_dir(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        self.step().and_then(|()| Disk.list(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        self.step().and_then(|()| Disk.create(path))
    }

    fn load(&self, path: &Path) -> io::Result<Bytes> {
        self.step().and_then(|()| Disk.load(path))
    }

    fn load_head(&self, path: &Path, max: usize) -> io::Result<(Vec<u8>, u64)> {
        self.step().and_then(|()| Disk.load_head(path, max))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step().and_then(|()| Disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| Disk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step().and_then(|()| Disk.sync_dir(dir))
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| Disk.touch(path))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.step().and_then(|()| Disk.try_lock(path))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.step().and_then(|()| Disk.is_locked(path))
    }

    fn list_folders(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.step().and_then(|()| Disk.list_folders(dir))
    }

    fn create_folder(&self, path: &Path) -> io::Result<LockGuard> {
        self.step().and_then(|()| Disk.create_folder(path))
    }

    fn files_below(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        self.step().and_then(|()| Disk.files_below(dir))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| Disk.sync_file(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| Disk.remove_folder(path))
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.step().and_then(|()| Disk.try_lock_shared(path))
    }
}

/// The disk of a system on which a folder keeps its name while a file in it is open. Of open files it knows the locks.
#[derive(Default)]
struct Strict {
    open: Arc<Mutex<Vec<PathBuf>>>,
    before: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    after: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

struct Open(Arc<Mutex<Vec<PathBuf>>>, PathBuf, #[expect(dead_code, reason = "held")] LockGuard);

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.0.lock().unwrap();
        let place = open.iter().position(|path| *path == self.1).unwrap();
        open.remove(place);
    }
}

impl std::fmt::Debug for Strict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Strict")
    }
}

impl Strict {
    fn before_rename(&self, work: impl FnOnce() + Send + 'static) {
        *self.before.lock().unwrap() = Some(Box::new(work));
    }

    fn after_rename(&self, work: impl FnOnce() + Send + 'static) {
        *self.after.lock().unwrap() = Some(Box::new(work));
    }

    fn guard(&self, path: &Path, lock: LockGuard) -> LockGuard {
        self.open.lock().unwrap().push(path.to_owned());
        Box::new(Open(Arc::clone(&self.open), path.to_owned(), lock))
    }
}

impl Storage for Strict {
    fn renames_folders_in_use(&self) -> bool {
        false
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let before = self.before.lock().unwrap().take();
        before.into_iter().for_each(|work| work());
        if self.open.lock().unwrap().iter().any(|path| path != from && path.starts_with(from)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Disk.rename(from, to)?;
        let after = self.after.lock().unwrap().take();
        after.into_iter().for_each(|work| work());
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        Ok(Disk.try_lock(path)?.map(|lock| self.guard(path, lock)))
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        Ok(Disk.try_lock_shared(path)?.map(|lock| self.guard(path, lock)))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        assert!(!self.open.lock().unwrap().iter().any(|open| open.starts_with(path)), "it is in use");
        Disk.remove_folder(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        Disk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Disk.create(path)
    }

    fn load(&self, path: &Path) -> io::Result<Bytes> {
        Disk.load(path)
    }

    fn load_head(&self, path: &Path, max: usize) -> io::Result<(Vec<u8>, u64)> {
        Disk.load_head(path, max)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        Disk.touch(path)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        Disk.is_locked(path)
    }

    fn list_folders(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list_folders(dir)
    }

    fn create_folder(&self, path: &Path) -> io::Result<LockGuard> {
        Disk.create_folder(path)
    }

    fn files_below(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        Disk.files_below(dir)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        Disk.sync_file(path)
    }
}
