//! The stand-in for Core ML, as the tests see it.
#![expect(dead_code, reason = "no test file uses all of it")]

use std::ffi::{CString, c_char, c_int, c_long};
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use milwright_apple::{Array, ElementType, Features, Model, Value};

/// What a call of the stand-in may do instead of its work; as in `CoreML.m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Fault {
    Error = 1,
    Silent,
    Throw,
    Wrong,
    Late,
    Twice,
    Never,
    Both,
    Deep,
    Odd,
    Bare,
    Thing,
    Nothing,
}

unsafe extern "C" {
    fn standin_fault(name: *const c_char, fault: c_int);
    fn standin_hide(name: *const c_char);
    fn standin_seed(seed: u64);
    fn standin_reset();
    fn standin_forget();
    fn standin_seen(key: *const c_char, text: *mut c_char, size: c_long) -> c_long;
    fn standin_wait();
    fn standin_await_late();
    fn standin_release_late();
    fn standin_objects() -> c_long;
    fn standin_blocks() -> c_long;
    fn standin_violations() -> c_long;
    fn GSRegisterCurrentThread() -> i8;
    fn GSUnregisterCurrentThread();
}

pub fn fault(name: &str, fault: Fault) {
    let name = CString::new(name).unwrap();
    // SAFETY: the name is copied.
    unsafe { standin_fault(name.as_ptr(), fault as c_int) }
}

pub fn hide(name: &str) {
    let name = CString::new(name).unwrap();
    // SAFETY: the name is copied.
    unsafe { standin_hide(name.as_ptr()) }
}

pub fn reset() {
    // SAFETY: no arguments; the tests run one after the other.
    unsafe { standin_reset() }
}

pub fn seed(seed: u64) {
    // SAFETY: as above.
    unsafe { standin_seed(seed) }
}

/// What the bridge handed over last, under this key.
pub fn seen(key: &str) -> String {
    let key = CString::new(key).unwrap();
    let mut text = vec![0u8; 4096];
    // SAFETY: the text is written within its size.
    let n = unsafe { standin_seen(key.as_ptr(), text.as_mut_ptr().cast(), text.len() as c_long) };
    text.truncate(usize::try_from(n).unwrap());
    String::from_utf8(text).unwrap()
}

/// Waits until no thread of the stand-in runs.
pub fn wait_idle() {
    // SAFETY: no arguments.
    unsafe { standin_wait() }
}

/// Waits until a late completion handler is on its way.
pub fn await_late() {
    // SAFETY: no arguments.
    unsafe { standin_await_late() }
}

pub fn release_late() {
    // SAFETY: no arguments.
    unsafe { standin_release_late() }
}

/// Runs on a thread of its own, which GNUstep has to know to clean up after it.
pub fn on_a_thread(call: impl FnOnce() + Send) {
    let body = move || {
        // SAFETY: no arguments; called once at the beginning and once at the end of the thread.
        unsafe { GSRegisterCurrentThread() };
        call();
        // SAFETY: as above.
        unsafe { GSUnregisterCurrentThread() };
    };
    std::thread::scope(|s| s.spawn(body).join().unwrap());
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a scenario, several times over: afterwards there are as many objects and blocks as before it, and the stand-in
/// saw nothing that must not be.
pub fn case(scenario: impl Fn()) {
    let _lock = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: no arguments, here and below.
    unsafe { standin_violations() };
    let round = || {
        reset();
        scenario();
        release_late();
        wait_idle();
        reset();
        // SAFETY: as above.
        unsafe {
            standin_forget();
            assert_eq!(standin_violations(), 0, "the stand-in saw what must not be; it is printed above");
        }
    };
    // What is made once for a thread or a class is no leak.
    round();
    round();
    // SAFETY: as above.
    let before = unsafe { (standin_objects(), standin_blocks()) };
    for _ in 0..3 {
        round();
    }
    // SAFETY: as above.
    let after = unsafe { (standin_objects(), standin_blocks()) };
    assert_eq!(after, before, "(objects, blocks) that are left, and those before");
}

/// A model in the stand-in's format, as a package; see `CoreML.m`.
pub struct Package {
    _folder: tempfile::TempDir,
    pub path: PathBuf,
}

pub fn package(text: &str) -> Package {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a model, grün.mlpackage");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("standin.txt"), text).unwrap();
    Package { _folder: folder, path }
}

pub fn load(text: &str) -> Model {
    Model::load(&package(text).path, &milwright_apple::Configuration::default()).unwrap()
}

/// `y = 2 x + 1`
pub const AFFINE: &str = "input x array f32 2,3\noutput y array f32 2,3\naffine y x 2 1\n";
/// `s = s + x`
pub const STATEFUL: &str = "input x array f32 3\noutput y array f32 3\nstate s array f16 3\nstate t array f32 2,3\n\
                            accumulate y x s\n";
/// `y = 255 - x`
pub const IMAGE: &str = "input x image BGRA 2 3\noutput y image BGRA 2 3\ninvert y x\n";

pub fn array(shape: &[usize], values: &[f32]) -> Value {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    Value::Array(Array::new(ElementType::Float32, shape, data.into()).unwrap())
}

pub fn inputs(shape: &[usize], values: &[f32]) -> Features {
    Features::from([("x".to_owned(), array(shape, values))])
}

pub fn floats(value: &Value) -> Vec<f32> {
    let Value::Array(array) = value else { panic!("no array: {value:?}") };
    assert_eq!(array.element(), ElementType::Float32);
    array.packed().chunks_exact(4).map(|c| f32::from_ne_bytes(c.try_into().unwrap())).collect()
}

/// Makes a handler and what was given to it.
pub fn channel<T: Send + 'static>() -> (impl FnOnce(T) + Send + 'static, impl Fn() -> Vec<T>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    (move |t| sender.send(t).unwrap(), move || receiver.iter().collect())
}
