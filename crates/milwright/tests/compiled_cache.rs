//! Compiled models in a cache that is shared by processes, which are killed. The children are this test program, started
//! again for one test with a folder in the environment.
#![expect(clippy::disallowed_methods, reason = "a child learns its folder from the environment")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use bytes::Bytes;
use milwright::cache::{Disk, FileInfo, LockGuard, NewFile, Options, Storage, Store};
use milwright::{
    Backend as _, CompileOptions, CompiledModel, CompiledModels, Cpu, ErrorKind, LoadOptions, Model,
    PlanOrigin, Precision,
};

const FOLDER: &str = "MILWRIGHT_TEST_COMPILED";
const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits.mlpackage");
const KINDS: usize = 3;

#[test]
fn a_hundred_kills_leave_whole_models() {
    let model = Model::open(DIGITS).unwrap();
    if let Ok(dir) = std::env::var(FOLDER) {
        let (models, store) = open(Path::new(&dir), Options::default());
        loop {
            for n in 0..KINDS {
                check(&compiled(&models, &model, n), &model);
            }
            // Others, too, may be in the middle of something.
            store.clear().unwrap();
        }
    }
    let right = right(&model);
    let dir = tempfile::tempdir().unwrap();
    let (models, _) = open(dir.path(), Options::default());
    let (mut found, mut absent) = (0, 0);
    for round in 0u64..100 {
        let mut child = start("a_hundred_kills_leave_whole_models", dir.path());
        let began = Instant::now();
        // It is at work.
        while fs::read_dir(dir.path()).unwrap().count() == 0 {
            assert!(began.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(round.wrapping_mul(7919) % 150_000));
        child.kill().unwrap();
        child.wait().unwrap();
        for n in 0..KINDS {
            if !models.is_cached(&model, &options(n)) {
                absent += 1;
                continue;
            }
            // Nothing that the killed one left is damaged.
            let compiled = compiled(&models, &model, n);
            assert_eq!(compiled.origin(), &PlanOrigin::Cached, "{round}");
            assert!(tree(&compiled.path()) == right, "{round}: another model");
            found += 1;
        }
        let (_, store) = open(dir.path(), Options::default());
        store.clear().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{round}: something is left over");
    }
    assert!(found > 0 && absent > 0, "{found} {absent}");
}

#[test]
fn eight_processes_share_compiled_models() {
    let model = Model::open(DIGITS).unwrap();
    let options = Options { max_bytes: 2 * model.size(), ..Options::default() };
    if let Ok(dir) = std::env::var(FOLDER) {
        let (models, _) = open(Path::new(&dir), options);
        for n in 0..15 {
            let compiled = compiled(&models, &model, (n + std::process::id() as usize) % KINDS);
            assert!(!matches!(compiled.origin(), PlanOrigin::Rebuilt(_)), "{:?}", compiled.origin());
            check(&compiled, &model);
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "eight_processes_share_compiled_models";
    let mut children: Vec<_> = (0..8).map(|_| start(test, dir.path())).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let (_, store) = open(dir.path(), options);
    let report = store.verify().unwrap();
    assert!(report.broken.is_empty() && report.whole > 0, "{report:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), report.whole, "something is left over");
}

#[test]
fn one_compiles_and_the_others_wait() {
    let model = Model::open(DIGITS).unwrap();
    if let Ok(dir) = std::env::var(FOLDER) {
        let (models, _) = open(Path::new(&dir), Options::default());
        let compile = |path: &Path| {
            // Who compiles leaves a mark, and takes its time.
            let mark = Path::new(&dir).join(format!("mark-{}", std::process::id()));
            fs::write(mark, "").unwrap();
            std::thread::sleep(Duration::from_millis(200));
            model.compile_to(path)
        };
        check(&models.compiled(&model, &options(0), compile).unwrap(), &model);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut children: Vec<_> =
        (0..8).map(|_| start("one_compiles_and_the_others_wait", dir.path())).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let entries = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(entries.filter(|name| name.starts_with("mark-")).count(), 1);
}

#[test]
fn plans_are_asked_for_like_models() {
    let model = Arc::new(Model::open(DIGITS).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (_, store) = open(dir.path(), Options::default());
    let options = LoadOptions { cache: Some(store.clone()), ..LoadOptions::default() };
    assert!(!Cpu.is_cached(&model, &options));
    drop(Cpu.session(&model, &options).unwrap());
    assert!(Cpu.is_cached(&model, &options));
    assert!(!Cpu.is_cached(&model, &LoadOptions { precision: Precision::Wide, ..options.clone() }));
    assert!(!Cpu.is_cached(&model, &LoadOptions::default()), "there is no cache");
    store.clear().unwrap();
    assert!(!Cpu.is_cached(&model, &options));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_fails_no_request() {
    use std::os::unix::fs::PermissionsExt as _;
    // The compiler's own error is the caller's.
    let dir = tempfile::tempdir().unwrap();
    let (models, _) = open(dir.path(), Options::default());
    let model = Model::open(DIGITS).unwrap();
    let full = |path: &Path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("half"), "of it").unwrap();
        Err(milwright::Error::io("write", path, io::ErrorKind::StorageFull.into()))
    };
    let error = models.compiled(&model, &options(0), full).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // A cache that has no room, or cannot be written, is a warning.
    let (small, _) = open(dir.path(), Options { max_bytes: 1000, ..Options::default() });
    check(&compiled(&small, &model, 0), &model);
    assert!(small.prewarm(&model, &options(0), |path| model.compile_to(path)).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    check(&compiled(&models, &model, 0), &model);
}

#[test]
fn what_does_not_load_and_cannot_be_removed_is_compiled_elsewhere() {
    let model = Model::open(DIGITS).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (models, _) = open(dir.path(), Options::default());
    let kept = compiled(&models, &model, 0).path();
    let stuck = Store::with_storage(dir.path(), Options::default(), Arc::new(Stuck)).unwrap();
    let models = CompiledModels::new(Some(stuck));
    let load = |path: &Path| match path == kept {
        true => Err(milwright::Error::new(ErrorKind::Runtime, "error -14")),
        false => Model::open(path),
    };
    let (loaded, elsewhere) = models.load(&model, &options(0), |path| model.compile_to(path), load).unwrap();
    assert_eq!(loaded.info(), model.info());
    assert_eq!(elsewhere.origin(), &PlanOrigin::Rebuilt("error -14".into()));
    let never =
        |_: &Path| -> milwright::Result<()> { Err(milwright::Error::new(ErrorKind::Runtime, "error -14")) };
    let error = models.load(&model, &options(0), |path| model.compile_to(path), never).unwrap_err();
    assert_eq!(error.to_string(), "error -14");
}

/// A disk on which nothing can be renamed, as one that is read-only.
#[derive(Debug)]
struct Stuck;

impl Storage for Stuck {
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

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
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

    fn try_lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        Disk.try_lock(path)
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

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        Disk.remove_folder(path)
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        Disk.try_lock_shared(path)
    }
}

fn open(dir: &Path, options: Options) -> (CompiledModels, Store) {
    let store = Store::open(dir, options).unwrap();
    (CompiledModels::new(Some(store.clone())), store)
}

fn options(n: usize) -> CompileOptions {
    CompileOptions { compiler: format!("milwright {n}"), ..CompileOptions::default() }
}

fn compiled(models: &CompiledModels, model: &Model, n: usize) -> CompiledModel {
    models.compiled(model, &options(n), |path| model.compile_to(path)).unwrap()
}

fn check(compiled: &CompiledModel, model: &Model) {
    assert_eq!(Model::open(compiled.path()).unwrap().info(), model.info());
}

/// What the compiler writes.
fn right(model: &Model) -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.mlmodelc");
    model.compile_to(&path).unwrap();
    tree(&path)
}

fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn start(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}
