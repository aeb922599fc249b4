//! Mutated files through every reader, with the stable toolchain: no panic, no hang, no huge allocation.
//!
//! `MILWRIGHT_MUTATIONS=10000 cargo test -p milwright-testkit --test mutations` makes more of them. They are the same on
//! every machine; a failure names the file that it leaves, and `MILWRIGHT_MUTATION=FILE` runs that one file.
#![expect(clippy::disallowed_methods, reason = "the number of mutations comes from the environment")]
#![expect(clippy::print_stderr, clippy::exit, reason = "the watchdog stops a program that hangs")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{env, fs, panic, thread};

use milwright_testkit::fuzz::{self, TARGETS, Target};

/// No reader of a file of some hundred kilobytes has a reason to ask for more at once.
const MAX_ALLOCATION: usize = 256 << 20;
/// A reader that needs longer for a small file hangs. Some thousand times what it takes, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

macro_rules! readers {
    ($($name:ident)*) => {
        /// Those that have a test below.
        const TESTED: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                mutate_all(stringify!($name));
            }
        )*
    };
}

readers! { package compiled compiled_network blob import network onnx mil_text }

#[test]
fn every_reader_is_tested_and_fuzzed() {
    let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(TESTED, targets, "`readers!` has the names of TARGETS, in their order");
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for name in targets {
        let file = format!("fuzz_targets/{name}.rs");
        assert!(root().join("fuzz").join(&file).is_file(), "there is no fuzz/{file}");
        assert!(
            manifest.contains(&format!("path = \"{file}\"")),
            "fuzz/Cargo.toml has no [[bin]] for {file}"
        );
    }
}

#[test]
fn the_committed_inputs_hold() {
    for (target, run) in TARGETS {
        let inputs = corpus(target);
        assert!(!inputs.is_empty(), "{target} has no corpus");
        inputs.iter().for_each(|input| run(input));
    }
}

/// The networks that the library is tested with.
fn networks() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../milwright/tests/models");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|f| f.extension().is_some_and(|e| e == "mlmodel")).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn mutate_all(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    if let Ok(file) = env::var("MILWRIGHT_MUTATION") {
        return target(&fs::read(file).unwrap());
    }
    let count = env::var("MILWRIGHT_MUTATIONS").map_or(1000, |count| count.parse().unwrap());
    let mut inputs = corpus(name);
    match name {
        "import" => inputs.push(digits()),
        "network" => inputs.extend(networks()),
        "compiled" => inputs.extend(fuzz::compiled_input(&digits())),
        _ => {}
    }
    let (alive, watch) = mpsc::channel();
    let left = scratch().join(name);
    thread::spawn({
        let left = left.clone();
        move || {
            let mut last = Vec::new();
            loop {
                match watch.recv_timeout(PATIENCE) {
                    Ok(input) => last = input,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        fs::write(&left, last).unwrap();
                        eprintln!("a reader hangs on {}", left.display());
                        std::process::exit(1);
                    }
                }
            }
        }
    });
    let mut random =
        Random(name.bytes().fold(7, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))));
    for n in 0..count {
        let mut input = inputs[n % inputs.len()].clone();
        for _ in 0..=random.below(5) {
            mutate(&mut input, &inputs, &mut random);
        }
        alive.send(input.clone()).unwrap();
        run(target, &input, &left);
    }
}

/// Runs one input; if that panics, leaves the input in a file.
fn run(target: Target, input: &[u8], left: &Path) {
    if let Err(panic) = panic::catch_unwind(|| target(input)) {
        fs::write(left, input).unwrap();
        eprintln!("a reader panics on {}", left.display());
        panic::resume_unwind(panic);
    }
}

fn mutate(input: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut Random) {
    const NUMBERS: [u64; 12] = [
        0,
        1,
        2,
        0x7f,
        0x80,
        0xff,
        0xffff,
        0x7fff_ffff,
        0xffff_ffff,
        0x7fff_ffff_ffff_ffff,
        0x8000_0000_0000_0000,
        u64::MAX,
    ];
    // Half of the changes in the first part of the file: the structure is there, weights follow.
    let reach = if random.below(2) == 0 { input.len().min(4096) } else { input.len() };
    let at = random.below(reach + 1);
    let end = (at + 1 + random.below(64)).min(input.len());
    match random.below(8) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.below(256) as u8,
        2 => input.truncate(at),
        3 => drop(input.drain(at..end)),
        4 => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
        5 => {
            let width = [1, 2, 4, 8][random.below(4)].min(input.len() - at);
            let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
            input[at..at + width].copy_from_slice(&number[..width]);
        }
        6 => {
            // A varint that never ends, or is as large as can be.
            let len = 1 + random.below(11);
            let end = (at + len).min(input.len());
            input[at..end].fill(0xff);
        }
        _ => {
            let other = &inputs[random.below(inputs.len())];
            let from = random.below(other.len() + 1);
            let to = (from + random.below(256)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
    }
}

/// The same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

/// The committed inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("fuzz/corpus").join(target))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The example model, a trained one.
fn digits() -> Vec<u8> {
    let package = root().join("examples/digits.mlpackage");
    let data = package.join("Data/com.apple.CoreML");
    let [manifest, model, weights] =
        [package.join("Manifest.json"), data.join("model.mlmodel"), data.join("weights/weight.bin")]
            .map(|file| fs::read(file).unwrap());
    fuzz::join([&manifest, &model, &weights])
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// Refuses what no small file can ask for. The allocation fails as if memory had run out, which ends the program.
struct Frugal;

#[global_allocator]
static ALLOCATOR: Frugal = Frugal;

// SAFETY: either hands on to the system's allocator, with the arguments of the call, or returns null, which says that
// the allocation failed and leaves the old block, if any, as it is.
unsafe impl GlobalAlloc for Frugal {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MAX_ALLOCATION {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises about `layout` are the ones that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MAX_ALLOCATION {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > MAX_ALLOCATION {
            return std::ptr::null_mut();
        }
        // SAFETY: `block` came from `alloc` above, so from the system's allocator, with this layout.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `alloc` above, so from the system's allocator, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}
