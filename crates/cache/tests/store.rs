//! The store on a real disk, in one process.

use std::cell::Cell;
use std::convert::Infallible;
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use milwright_cache::{
    Error, Fault, Key, KeyBuilder, Lookup, Meta, Options, Origin, PAYLOAD_ALIGN, Store, Verify, Wait,
};

fn key(n: usize) -> Key {
    KeyBuilder::new("test").field("n", n.to_le_bytes()).finish()
}

fn meta() -> Meta {
    Meta::new("plan", "model")
}

fn open(options: Options) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("deep/cache"), options).unwrap();
    (dir, store)
}

fn payload_of(lookup: Lookup) -> Option<Vec<u8>> {
    match lookup {
        Lookup::Hit(entry) => Some(entry.payload.to_vec()),
        Lookup::Miss | Lookup::Broken(_) => None,
    }
}

fn file_of(store: &Store, key: &Key) -> std::path::PathBuf {
    store.path().join(format!("{key}.mwc"))
}

fn set_age(path: &std::path::Path, age: Duration) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn stores_and_finds() {
    let (_dir, store) = open(Options::default());
    assert!(matches!(store.get(&key(1)), Lookup::Miss));
    for payload in [&b""[..], b"one", &[9; 100_000]] {
        store.put(&key(1), &meta(), payload).unwrap();
        let Lookup::Hit(entry) = store.get(&key(1)) else { panic!("not found") };
        assert_eq!(&entry.payload[..], payload);
        assert_eq!(entry.payload.as_ptr().align_offset(PAYLOAD_ALIGN), 0);
        assert_eq!(entry.meta, meta());
        assert!(entry.created.elapsed().unwrap() < Duration::from_secs(3600));
    }
    assert!(store.remove(&key(1)).unwrap());
    assert!(!store.remove(&key(1)).unwrap());
    assert!(matches!(store.get(&key(1)), Lookup::Miss));
}

#[test]
fn an_entry_outlives_its_file() {
    let (dir, store) = open(Options::default());
    store.put(&key(1), &meta(), &[5; 50_000]).unwrap();
    let Lookup::Hit(entry) = store.get(&key(1)) else { panic!("not found") };
    drop(dir);
    assert!(entry.payload.iter().all(|&byte| byte == 5));
}

/// Whoever writes to the file of an entry, against the rules, is found out by the next one who reads it. Who has it keeps
/// what was checked.
#[test]
fn an_entry_in_use_does_not_change_with_its_file() {
    let (_dir, store) = open(Options::default());
    store.put(&key(1), &meta(), &[5; 50_000]).unwrap();
    let Lookup::Hit(entry) = store.get(&key(1)) else { panic!("not found") };
    for spoilt in [&[6; 60_000][..], b"cut short"] {
        fs::write(file_of(&store, &key(1)), spoilt).unwrap();
        assert!(entry.payload.iter().all(|&byte| byte == 5));
    }
    assert!(matches!(store.get(&key(1)), Lookup::Broken(_)));
}

#[test]
fn builds_once() {
    let (_dir, store) = open(Options::default());
    let built = store.get_or_create(&key(1), &meta(), || Ok::<_, Infallible>(b"made".to_vec())).unwrap();
    assert_eq!((&built.payload[..], built.origin), (&b"made"[..], Origin::Built));
    assert_eq!(built.payload.as_ptr().align_offset(PAYLOAD_ALIGN), 0);
    let found = store.get_or_create(&key(1), &meta(), || -> Result<_, Infallible> { panic!("built twice") });
    assert_eq!(found.unwrap().origin, Origin::Hit);
    assert_eq!(fs::read_dir(store.path()).unwrap().count(), 1, "the lock file is gone");

    let failed = store.get_or_create(&key(2), &meta(), || Err("no such op"));
    assert_eq!(failed.unwrap_err(), "no such op");
    assert!(matches!(store.get(&key(2)), Lookup::Miss));
}

#[test]
fn threads_that_miss_together_build_once() {
    let (_dir, store) = open(Options::default());
    let count = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let build = || {
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(50));
                    Ok::<_, Infallible>(vec![1; 1000])
                };
                let fetched = store.get_or_create(&key(1), &meta(), build).unwrap();
                assert_eq!(fetched.payload, vec![1; 1000]);
            });
        }
    });
    assert_eq!(count.into_inner(), 1);
}

#[test]
fn nobody_waits_for_ever() {
    let (_dir, store) = open(Options { wait: Duration::from_millis(30), ..Options::default() });
    let outer = store.get_or_create(&key(1), &meta(), || {
        // The same key again while its lock is held, as if by a process that hangs.
        let inner = store.get_or_create(&key(1), &meta(), || Ok::<_, Infallible>(b"inner".to_vec()));
        assert_eq!(inner.unwrap().origin, Origin::Built);
        Ok::<_, Infallible>(b"outer".to_vec())
    });
    assert_eq!(&outer.unwrap().payload[..], b"outer");
}

#[test]
fn who_waits_can_be_told_to_stop() {
    let (_dir, store) = open(Options { wait: Duration::MAX, ..Options::default() });
    let outer = store.get_or_create(&key(1), &meta(), || {
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == 2;
        let wait = Wait { stop: Some(&stop), ..Wait::from(&store) };
        let inner = store.get_or_create_within(&key(1), &meta(), wait, || Err("stopped"));
        assert_eq!((inner.unwrap_err(), asked.get()), ("stopped", 3));
        Ok::<_, Infallible>(b"outer".to_vec())
    });
    assert_eq!(&outer.unwrap().payload[..], b"outer");
}

#[test]
fn damage_anywhere_is_found_and_repaired() {
    let (_dir, store) = open(Options::default());
    let payload: Vec<u8> = (0..=255).cycle().take(3000).collect();
    store.put(&key(1), &meta(), &payload).unwrap();
    let path = file_of(&store, &key(1));
    let good = fs::read(&path).unwrap();

    let mut damaged: Vec<Vec<u8>> = Vec::new();
    for at in (0..256).chain((256..good.len()).step_by(97)) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        damaged.push(flipped);
    }
    damaged.extend((0..good.len()).step_by(61).map(|len| good[..len].to_vec()));
    damaged.push([&good[..], b"tail"].concat());
    damaged.push(vec![0; good.len()]);
    damaged.push(b"a foreign file".to_vec());

    for (n, bad) in damaged.iter().enumerate() {
        fs::write(&path, bad).unwrap();
        let Lookup::Broken(fault) = store.get(&key(1)) else { panic!("case {n} was not found") };
        assert!(!path.exists(), "case {n} ({fault}) was not removed");
        assert!(matches!(store.get(&key(1)), Lookup::Miss));

        fs::write(&path, bad).unwrap();
        let rebuilt = store.get_or_create(&key(1), &meta(), || Ok::<_, Infallible>(payload.clone())).unwrap();
        assert_eq!(rebuilt.origin, Origin::Rebuilt(fault));
        assert_eq!(rebuilt.payload, payload);
        assert_eq!(payload_of(store.get(&key(1))).as_ref(), Some(&payload));
    }
}

#[test]
fn an_entry_under_a_foreign_name_is_not_served() {
    let (_dir, store) = open(Options::default());
    store.put(&key(1), &meta(), b"one").unwrap();
    fs::rename(file_of(&store, &key(1)), file_of(&store, &key(2))).unwrap();
    assert!(matches!(store.get(&key(2)), Lookup::Broken(Fault::OtherKey)));
}

#[test]
fn header_verification_leaves_the_payload_unread() {
    let (_dir, store) = open(Options { verify: Verify::Header, ..Options::default() });
    store.put(&key(1), &meta(), &[1; 1000]).unwrap();
    let path = file_of(&store, &key(1));
    let mut file = fs::read(&path).unwrap();
    *file.last_mut().unwrap() ^= 1;
    fs::write(&path, file).unwrap();
    assert!(matches!(store.get(&key(1)), Lookup::Hit(_)));
    let report = store.verify().unwrap();
    assert_eq!((report.whole, report.broken), (0, vec![(key(1), Fault::Payload)]));
    assert!(matches!(store.get(&key(1)), Lookup::Miss));
}

#[test]
fn the_least_recently_used_entry_goes_first() {
    let (_dir, store) = open(Options { max_bytes: 5000, ..Options::default() });
    for n in 0..4 {
        store.put(&key(n), &meta(), &[1; 1000]).unwrap();
        set_age(&file_of(&store, &key(n)), Duration::from_secs(100 - n as u64));
    }
    // The oldest is used again; now number 1 is the least recently used.
    assert!(matches!(store.get(&key(0)), Lookup::Hit(_)));
    store.put(&key(4), &meta(), &[1; 1000]).unwrap();
    let mut left: Vec<_> = (0..5).filter(|&n| matches!(store.get(&key(n)), Lookup::Hit(_))).collect();
    assert_eq!(left, [0, 2, 3, 4]);

    let total: u64 = store.list().unwrap().iter().map(|entry| entry.bytes).sum();
    assert!(total <= 5000);
    let error = store.put(&key(9), &meta(), &[0; 5000]).unwrap_err();
    assert!(matches!(error, Error::TooLarge { size: 5192, max: 5000 }), "{error}");
    assert!(error.hint().is_some());
    let served = store.get_or_create(&key(9), &meta(), || Ok::<_, Infallible>(vec![2; 5000])).unwrap();
    assert_eq!(served.payload, vec![2; 5000]);
    assert!(served.unstored.is_some());

    // A smaller bound holds from the next opening on.
    let smaller = Store::open(store.path(), Options { max_bytes: 2400, ..Options::default() }).unwrap();
    left.retain(|&n| matches!(smaller.get(&key(n)), Lookup::Hit(_)));
    assert_eq!(left.len(), 2);
}

#[test]
fn lists_and_clears_only_its_own() {
    let (_dir, store) = open(Options::default());
    let foreign = store.path().join("notes.txt");
    fs::write(&foreign, "mine").unwrap();
    fs::write(store.path().join("short.mwc"), "mine too").unwrap();
    fs::create_dir(store.path().join(format!("{}.mwc", key(7)))).unwrap();
    store.put(&key(1), &Meta::new("plan", "a"), &[1; 10]).unwrap();
    store.put(&key(2), &Meta::new("compiled", "b"), &[1; 20]).unwrap();
    set_age(&file_of(&store, &key(1)), Duration::from_secs(50));
    fs::write(file_of(&store, &key(3)), "broken").unwrap();

    let list = store.list().unwrap();
    let seen: Vec<_> = list.iter().map(|entry| (entry.meta.kind(), entry.meta.model(), entry.key)).collect();
    assert_eq!(seen, [("compiled", "b", key(2)), ("plan", "a", key(1))]);
    assert!(list[0].used > list[1].used);

    let cleared = store.clear().unwrap();
    assert_eq!((cleared.entries, cleared.bytes), (3, list[0].bytes + list[1].bytes + 6));
    assert!(store.list().unwrap().is_empty());
    assert!(foreign.exists() && store.path().join("short.mwc").exists());
}

#[test]
fn leftovers_of_a_crash_are_collected() {
    let (_dir, store) = open(Options::default());
    let leftover = |n: usize, ending: &str| store.path().join(format!("{}.{ending}", key(n)));
    let (left, lock, held) = (leftover(1, "1-2-3.tmp"), leftover(2, "lock"), leftover(3, "1-2-3.tmp"));
    for path in [&left, &lock, &held] {
        fs::write(path, "half").unwrap();
    }
    let writer = File::options().write(true).open(&held).unwrap();
    writer.lock().unwrap();

    Store::open(store.path(), Options::default()).unwrap();
    assert!(!left.exists() && !lock.exists());
    assert!(held.exists(), "another process is writing it");
    drop(writer);
    Store::open(store.path(), Options::default()).unwrap();
    assert!(!held.exists());
}

#[test]
fn a_file_in_the_way_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    let error = Store::open(&path, Options::default()).unwrap_err();
    assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    assert!(error.hint().is_some(), "{error:?}");
}

/// What lies under an entry's name and is no file would block whoever opens it, or lead elsewhere: it is no entry, and
/// does not stay in the way of one.
#[cfg(unix)]
#[test]
fn entries_that_are_no_files() {
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command;

    let kinds: [fn(&Path); 4] = [
        |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        |path| symlink("/dev/zero", path).unwrap(),
        |path| symlink(path.with_extension("elsewhere"), path).unwrap(),
        |path| symlink("/nowhere", path).unwrap(),
    ];
    for replace in kinds {
        let (_dir, store) = open(Options::default());
        store.put(&key(1), &meta(), b"one").unwrap();
        store.put(&key(2), &meta(), b"two").unwrap();
        let path = file_of(&store, &key(1));
        fs::rename(&path, path.with_extension("elsewhere")).unwrap();
        replace(&path);
        assert_eq!(payload_of(store.get(&key(1))), None);
        assert_eq!(payload_of(store.get(&key(2))), Some(b"two".to_vec()));
        store.put(&key(1), &meta(), b"new").unwrap();
        assert_eq!(payload_of(store.get(&key(1))), Some(b"new".to_vec()));
    }
}
