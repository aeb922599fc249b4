//! Many processes on one folder. The children are this test program, started again for one test with a folder in the
//! environment.
#![expect(clippy::disallowed_methods, reason = "a child learns its folder from the environment")]

use std::convert::Infallible;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use milwright_cache::{Key, KeyBuilder, Lookup, Meta, Options, Origin, Store};

const FOLDER: &str = "MILWRIGHT_TEST_CACHE";
const KEYS: usize = 6;

#[test]
fn a_killed_writer_leaves_whole_entries() {
    if let Ok(dir) = std::env::var(FOLDER) {
        let store = Store::open(dir, Options::default()).unwrap();
        loop {
            (0..KEYS).for_each(|n| store.put(&key(n), &meta(), &payload(n)).unwrap());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let mut seen = 0;
    for round in 0..20 {
        let mut child = start("a_killed_writer_leaves_whole_entries", dir.path());
        // Different moments of the loop, once the child is at it.
        let started = store.list().unwrap().first().map(|entry| entry.used);
        while store.list().unwrap().first().map(|entry| entry.used) == started {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        for n in 0..KEYS {
            match store.get(&key(n)) {
                Lookup::Hit(entry) => {
                    assert_eq!(entry.payload, payload(n));
                    seen += 1;
                }
                Lookup::Miss => {}
                Lookup::Broken(fault) => panic!("round {round}, key {n}: {fault}"),
            }
        }
    }
    assert!(seen > 0);
}

#[test]
fn the_lock_of_a_killed_builder_holds_nobody_up() {
    if let Ok(dir) = std::env::var(FOLDER) {
        let store = Store::open(dir, Options::default()).unwrap();
        let _ = store.get_or_create(&key(0), &meta(), || -> Result<Vec<u8>, Infallible> {
            store.put(&key(1), &meta(), b"building").unwrap();
            std::thread::sleep(Duration::from_secs(600));
            unreachable!("the parent kills this process")
        });
    }
    let dir = tempfile::tempdir().unwrap();
    let wait = Duration::from_secs(300);
    let store = Store::open(dir.path(), Options { wait, ..Options::default() }).unwrap();
    let mut child = start("the_lock_of_a_killed_builder_holds_nobody_up", dir.path());
    while !matches!(store.get(&key(1)), Lookup::Hit(_)) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let waiting = std::thread::spawn({
        let store = store.clone();
        move || store.get_or_create(&key(0), &meta(), || Ok::<_, Infallible>(payload(0))).unwrap()
    });
    std::thread::sleep(Duration::from_millis(50));
    child.kill().unwrap();
    child.wait().unwrap();
    // Would take five minutes if the dead process still held the lock.
    assert_eq!(waiting.join().unwrap().origin, Origin::Built);
}

#[test]
fn eight_processes_share_a_folder() {
    // So small that entries come and go all the time.
    let options = Options { max_bytes: 250_000, ..Options::default() };
    if let Ok(dir) = std::env::var(FOLDER) {
        let store = Store::open(dir, options).unwrap();
        for n in 0..60 {
            let n = (n * 7 + std::process::id() as usize) % KEYS;
            let fetched = store.get_or_create(&key(n), &meta(), || Ok::<_, Infallible>(payload(n))).unwrap();
            assert_eq!(fetched.payload, payload(n));
            assert!(!matches!(fetched.origin, Origin::Rebuilt(_)), "{:?}", fetched.origin);
            assert!(fetched.unstored.is_none(), "{:?}", fetched.unstored);
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
    assert!(store.list().unwrap().iter().map(|entry| entry.bytes).sum::<u64>() <= 250_000);
    let strays = std::fs::read_dir(dir.path()).unwrap().count() - report.whole;
    assert_eq!(strays, 0, "temporary or lock files are left");
}

fn start(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn key(n: usize) -> Key {
    KeyBuilder::new("test").field("n", n.to_le_bytes()).finish()
}

fn meta() -> Meta {
    Meta::new("plan", "model")
}

fn payload(n: usize) -> Vec<u8> {
    (0..20_000 + n * 20_000).map(|i| (i * (n + 3)) as u8).collect()
}
