//! The Rust side of the Swift bridge, against the stand-in in C, or (`milwright_swift_compiled`) against the Swift file
//! itself over a small Core ML in Swift. `scripts/apple/swift.sh` and `swift_compile.sh` run it.
#![cfg(all(feature = "swift", milwright_swift_standin))]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use milwright_apple::swift::{Model, Route, State, availability, devices};
use milwright_apple::{
    Array, ComputeUnits, Configuration, Device, ElementType, Error, ErrorKind, Features, Hints, Reshapes,
    Result, Specialization, Value, wait,
};

unsafe extern "C" {
    fn swift_standin_objects() -> i64;
    fn swift_standin_await_late();
    fn swift_standin_release_late();
}

fn await_late() {
    // SAFETY: no arguments.
    unsafe { swift_standin_await_late() }
}

fn release_late() {
    // SAFETY: no arguments.
    unsafe { swift_standin_release_late() }
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a scenario a few times: afterwards there are as many objects as before it.
fn case(scenario: impl Fn()) {
    let _lock = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..3 {
        scenario();
        // A task of Swift's ends some time after its callback.
        let patience = Instant::now() + Duration::from_secs(30);
        // SAFETY: no arguments.
        while unsafe { swift_standin_objects() } != 0 {
            assert!(Instant::now() < patience, "objects are left");
            std::thread::yield_now();
        }
    }
}

/// A model in the stand-in's format; see `swift.c`.
struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a model, grün.mlmodelc");
    fs::write(&path, text).unwrap();
    File { _folder: folder, path }
}

fn load_with(text: &str, configuration: &Configuration) -> Result<Model> {
    // The file has to be there until the model is.
    let file = file(text);
    wait(None, |done| Model::load_async(&file.path, configuration, done))
}

fn load(text: &str) -> Model {
    load_with(text, &Configuration::default()).unwrap()
}

fn bytes(values: &[f32]) -> Bytes {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>().into()
}

fn array(shape: &[usize], values: &[f32]) -> Array {
    Array::new(ElementType::Float32, shape, bytes(values)).unwrap()
}

fn inputs(array: Array) -> Features {
    Features::from([("x".to_owned(), Value::Array(array))])
}

fn x(values: &[f32]) -> Features {
    inputs(array(&[1, values.len()], values))
}

fn floats(array: &Array) -> Vec<f32> {
    assert_eq!(array.element(), ElementType::Float32);
    array.packed().chunks_exact(4).map(|c| f32::from_ne_bytes(c.try_into().unwrap())).collect()
}

fn predict_by(
    model: &mut Model,
    inputs: &Features,
    state: Option<&mut State>,
    route: Route,
) -> Result<Features> {
    wait(None, |done| drop(model.predict_async(inputs, state, route, done)))
}

fn predict(model: &mut Model, inputs: &Features) -> Result<Features> {
    predict_by(model, inputs, None, Route::Arrays)
}

fn y(outputs: Result<Features>) -> (Vec<usize>, Vec<f32>) {
    let outputs = outputs.unwrap();
    assert_eq!(outputs.len(), 1);
    let Value::Array(array) = &outputs["y"] else { panic!("no array: {outputs:?}") };
    (array.shape().to_vec(), floats(array))
}

fn of_core_ml(e: &Error) {
    assert_eq!(e.kind(), ErrorKind::Framework);
    assert_eq!((e.domain(), e.code()), (Some("com.apple.CoreML"), Some(3)));
    assert_eq!(e.reason(), Some("because the test says so"));
    assert_eq!(e.recovery(), Some("change the test"));
}

#[test]
fn there_are_devices() {
    case(|| {
        availability().unwrap();
        assert_eq!(devices().unwrap(), [Device::Cpu, Device::Gpu, Device::NeuralEngine { cores: 16 }]);
    });
}

#[test]
fn what_cannot_be_loaded_is_an_error() {
    case(|| {
        let load = |path: &Path| {
            wait(None, |done| Model::load_async(path, &Configuration::default(), done)).unwrap_err()
        };
        let missing = load(Path::new("/nowhere/ä"));
        of_core_ml(&missing);
        assert_eq!(missing.message(), "not a model: /nowhere/ä");
        let fault = load_with("fault load\n", &Configuration::default()).unwrap_err();
        of_core_ml(&fault);
        assert_eq!(fault.to_string(), "a fault of the test: because the test says so (com.apple.CoreML 3)");
        for path in [Path::new("/a\0b"), Path::new(""), Path::new(OsStr::from_bytes(b"/\xff"))] {
            assert_eq!(load(path).kind(), ErrorKind::Invalid);
        }
        let function = Some("a\0b".to_owned());
        let e = load_with("", &Configuration { function, ..Configuration::default() }).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
    });
}

#[test]
fn the_configuration_arrives() {
    case(|| {
        load_with("configuration 2 - - 0 0 0\n", &Configuration::default()).unwrap();
        let all = Configuration {
            compute_units: ComputeUnits::CpuAndNeuralEngine,
            function: Some("größe".into()),
            display_name: Some("name".into()),
            hints: Some(Hints {
                reshapes: Reshapes::Infrequent,
                specialization: Specialization::FastPrediction,
            }),
            low_precision_accumulation: true,
        };
        load_with("configuration 3 größe name 1 1 1\n", &all).unwrap();
        for (units, number) in [(ComputeUnits::CpuOnly, 0), (ComputeUnits::CpuAndGpu, 1)] {
            let configuration = Configuration { compute_units: units, ..Configuration::default() };
            load_with(&format!("configuration {number} - - 0 0 0\n"), &configuration).unwrap();
        }
        assert!(load_with("configuration 3 other name 1 1 1\n", &all).is_err());
    });
}

#[test]
fn predictions_compute() {
    case(|| {
        let mut model = load("scale 2\n");
        for route in [Route::Arrays, Route::Tensors] {
            let mut y = |shape: &[usize], values: &[f32]| {
                y(predict_by(&mut model, &inputs(array(shape, values)), None, route))
            };
            assert_eq!(y(&[1, 3], &[1.0, 2.5, -3.0]), (vec![1, 3], vec![2.0, 5.0, -6.0]));
            assert_eq!(y(&[2], &[1.0, 4.0]), (vec![2], vec![2.0, 8.0]));
            assert_eq!(y(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]), (vec![2, 1, 2], vec![2.0, 4.0, 6.0, 8.0]));
        }
    });
}

#[test]
fn strides_are_followed() {
    case(|| {
        let mut model = load("scale 2\n");
        // Columns of a matrix of two rows, in rows of four.
        let data = bytes(&[1.0, 2.0, 3.0, -1.0, 4.0, 5.0, 6.0, -1.0]);
        let columns = Array::strided(ElementType::Float32, &[3, 2], &[1, 4], data).unwrap();
        let (shape, values) = y(predict(&mut model, &inputs(columns)));
        assert_eq!((shape, values), (vec![3, 2], vec![2.0, 8.0, 4.0, 10.0, 6.0, 12.0]));
    });
}

#[test]
fn memory_that_is_not_aligned_is_copied() {
    case(|| {
        let mut model = load("scale 2\n");
        let values = bytes(&[1.0, 2.0]);
        for start in 0..4 {
            let mut data = vec![0; start];
            data.extend_from_slice(&values);
            let data = Bytes::from(data).slice(start..);
            let array = Array::new(ElementType::Float32, &[2], data).unwrap();
            assert_eq!(y(predict(&mut model, &inputs(array))).1, [2.0, 4.0]);
        }
    });
}

/// Memory that counts how often it is dropped.
struct Watched(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn memory_of_inputs_is_given_back_once() {
    let drops = Arc::new(AtomicUsize::new(0));
    let made = AtomicUsize::new(0);
    let watched = || {
        made.fetch_add(1, Ordering::SeqCst);
        let data = Bytes::from_owner(Watched(bytes(&[1.0, 2.0]).to_vec(), Arc::clone(&drops)));
        inputs(Array::new(ElementType::Float32, &[2], data).unwrap())
    };
    case(|| {
        for text in ["scale 2\n", "fault error\n", "fault missing\n"] {
            let mut model = load(text);
            let _ = predict(&mut model, &watched());
            let mut two = watched();
            two.extend([("other".to_owned(), watched().remove("x").unwrap())]);
            assert!(predict(&mut model, &two).is_err());
            // Refused before anything goes to Swift.
            let mut mixed = watched();
            mixed.insert("z".into(), Value::Int64(1));
            assert_eq!(predict(&mut model, &mixed).unwrap_err().kind(), ErrorKind::Unsupported);
            let mut named = watched();
            named.insert("a\0b".into(), Value::Array(array(&[1], &[1.0])));
            assert_eq!(predict(&mut model, &named).unwrap_err().kind(), ErrorKind::Invalid);
        }
    });
    assert_eq!(drops.load(Ordering::SeqCst), made.load(Ordering::SeqCst));
}

#[test]
fn inputs_are_checked() {
    case(|| {
        let mut model = load("scale 2\n");
        let e = predict(&mut model, &Features::new()).unwrap_err();
        assert_eq!((e.kind(), e.message()), (ErrorKind::Framework, "there is no input x"));
        let whole = Array::new(ElementType::Int32, &[1], vec![0; 4].into()).unwrap();
        let e = predict(&mut model, &inputs(whole)).unwrap_err();
        assert_eq!((e.kind(), e.message()), (ErrorKind::Framework, "x is fp32"));
        let mut more = x(&[1.0]);
        more.insert("z".into(), Value::Array(array(&[1], &[1.0])));
        assert_eq!(predict(&mut model, &more).unwrap_err().message(), "there is an unknown input");
        // The model is free after each of them.
        assert_eq!(y(predict(&mut model, &x(&[1.0]))).1, [2.0]);
    });
}

#[test]
fn states_are_kept() {
    case(|| {
        let mut model = load("state 2\n");
        let mut state = model.new_state().unwrap();
        let mut other = model.new_state().unwrap();
        assert_eq!(floats(&state.read("s").unwrap()), [0.0, 0.0]);
        let mut step = |state: &mut State, route| {
            y(predict_by(&mut model, &inputs(array(&[2], &[1.0, 2.0])), Some(state), route)).1
        };
        assert_eq!(step(&mut state, Route::Arrays), [1.0, 2.0]);
        assert_eq!(step(&mut state, Route::Tensors), [2.0, 4.0]);
        assert_eq!(step(&mut other, Route::Arrays), [1.0, 2.0]);
        assert_eq!(floats(&state.read("s").unwrap()), [2.0, 4.0]);
        state.write("s", &array(&[2], &[10.0, 20.0])).unwrap();
        assert_eq!(step(&mut state, Route::Arrays), [11.0, 22.0]);
        assert_eq!(floats(&other.read("s").unwrap()), [1.0, 2.0]);
    });
}

#[test]
fn states_are_checked() {
    case(|| {
        let mut model = load("state 2\n");
        let mut state = model.new_state().unwrap();
        for name in ["t", "", "a\0b"] {
            assert_eq!(state.read(name).unwrap_err().kind(), ErrorKind::Invalid);
            assert_eq!(state.write(name, &array(&[2], &[0.0; 2])).unwrap_err().kind(), ErrorKind::Invalid);
        }
        let e = state.write("s", &array(&[1, 2], &[0.0; 2])).unwrap_err();
        assert_eq!(e.message(), "the state `s` holds [2] Float32, not [1, 2] Float32");
        let whole = Array::new(ElementType::Int32, &[2], vec![1; 8].into()).unwrap();
        assert_eq!(state.write("s", &whole).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(floats(&state.read("s").unwrap()), [0.0, 0.0]);
        let e = predict_by(&mut load("state 2\n"), &x(&[1.0]), Some(&mut state), Route::Arrays).unwrap_err();
        assert_eq!((e.kind(), e.message()), (ErrorKind::Invalid, "the state is of another model"));
        // A model without states has an empty one.
        assert!(load("scale 2\n").new_state().unwrap().read("s").is_err());
    });
}

#[test]
fn faults_are_errors() {
    case(|| {
        for route in [Route::Arrays, Route::Tensors] {
            let fails = |fault: &str| {
                predict_by(&mut load(&format!("fault {fault}\n")), &x(&[1.0]), None, route).unwrap_err()
            };
            of_core_ml(&fails("error"));
        }
        let fails =
            |fault: &str| predict(&mut load(&format!("fault {fault}\n")), &x(&[1.0])).unwrap_err().kind();
        assert_eq!(fails("text"), ErrorKind::Unsupported);
        assert_eq!(fails("missing"), ErrorKind::Protocol);
    });
}

#[test]
fn one_prediction_at_a_time() {
    case(|| {
        let mut model = load("state 1\nfault late\n");
        let mut state = model.new_state().unwrap();
        let (sender, receiver) = mpsc::channel();
        let running = model.predict_async(&x(&[1.0]), Some(&mut state), Route::Arrays, move |r| {
            sender.send(r).unwrap();
        });
        await_late();
        let busy = predict(&mut model, &x(&[1.0])).unwrap_err();
        assert_eq!(
            (busy.kind(), busy.message()),
            (ErrorKind::Busy, "a prediction of this model has not come back")
        );
        assert_eq!(model.new_state().unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(state.read("s").unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(state.write("s", &array(&[1], &[0.0])).unwrap_err().kind(), ErrorKind::Busy);
        let elsewhere = predict_by(&mut load("state 1\n"), &x(&[1.0]), Some(&mut state), Route::Arrays);
        assert_eq!(elsewhere.unwrap_err().kind(), ErrorKind::Busy);
        release_late();
        assert_eq!(y(receiver.recv().unwrap()).1, [1.0]);
        assert_eq!(floats(&state.read("s").unwrap()), [1.0]);
        model.new_state().unwrap();
        assert!(receiver.recv().is_err(), "the handler is gone after one call");
        running.cancel();
    });
}

#[test]
fn what_comes_late_is_dropped() {
    case(|| {
        let mut model = load("scale 2\nfault late\n");
        let late = wait(Some(Duration::ZERO), |done| {
            drop(model.predict_async(&x(&[1.0]), None, Route::Arrays, done));
        });
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
        await_late();
        release_late();
    });
}

#[test]
fn predictions_outlive_their_model() {
    case(|| {
        let mut model = load("state 1\nfault late\n");
        let mut state = model.new_state().unwrap();
        let (sender, receiver) = mpsc::channel();
        drop(model.predict_async(&x(&[3.0]), Some(&mut state), Route::Arrays, move |r| {
            sender.send(r).unwrap();
        }));
        drop((model, state));
        await_late();
        release_late();
        assert_eq!(y(receiver.recv().unwrap()).1, [3.0]);
    });
}

#[test]
fn predictions_are_cancelled() {
    case(|| {
        let mut model = load("scale 2\nfault hang\n");
        let (sender, receiver) = mpsc::channel();
        let running = model.predict_async(&x(&[1.0]), None, Route::Arrays, move |r| sender.send(r).unwrap());
        await_late();
        std::thread::scope(|s| s.spawn(|| running.cancel()).join().unwrap());
        assert_eq!(receiver.recv().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        running.cancel();
    });
}

#[test]
fn the_model_is_free_when_the_handler_runs() {
    case(|| {
        let both = Arc::new(Mutex::new({
            let mut model = load("state 1\n");
            let state = model.new_state().unwrap();
            (model, state)
        }));
        let (again, (sender, receiver)) = (Arc::clone(&both), mpsc::channel());
        let handler = move |first| {
            sender.send(first).unwrap();
            let (model, state) = &mut *again.lock().unwrap();
            let second = move |second| sender.send(second).unwrap();
            drop(model.predict_async(&x(&[2.0]), Some(state), Route::Arrays, second));
        };
        {
            let (model, state) = &mut *both.lock().unwrap();
            drop(model.predict_async(&x(&[1.0]), Some(state), Route::Arrays, handler));
        }
        let answers: Vec<_> = receiver.iter().map(|r| y(r).1).collect();
        assert_eq!(answers, [[1.0], [3.0]]);
    });
}

#[test]
fn panics_end_in_the_handler() {
    case(|| {
        let (sender, receiver) = mpsc::channel::<()>();
        let mut model = load("scale 2\n");
        drop(model.predict_async(&x(&[1.0]), None, Route::Arrays, move |_| {
            let _sender = sender;
            panic!("in the handler of a prediction, as the test wants it");
        }));
        assert!(receiver.recv().is_err());
        let (sender, receiver) = mpsc::channel::<()>();
        Model::load_async(Path::new("/nowhere"), &Configuration::default(), move |_| {
            let _sender = sender;
            panic!("in the handler of a model, as the test wants it");
        });
        assert!(receiver.recv().is_err());
        // Also where it is called at once.
        Model::load_async(Path::new(""), &Configuration::default(), |_| panic!("as the test wants it"));
        assert_eq!(y(predict(&mut model, &x(&[1.0]))).1, [2.0]);
    });
}

#[test]
fn models_run_side_by_side() {
    case(|| {
        std::thread::scope(|s| {
            for thread in 0..4 {
                s.spawn(move || {
                    let mut model = load(&format!("scale {thread}\n"));
                    for i in 0..50 {
                        assert_eq!(y(predict(&mut model, &x(&[i as f32]))).1, [(thread * i) as f32]);
                    }
                });
            }
        });
    });
}

/// What Swift does not do: only the stand-in in C can.
#[cfg(not(milwright_swift_compiled))]
mod broken {
    use super::*;

    unsafe extern "C" {
        fn swift_standin_system(version: i32, devices: i64);
    }

    fn system(version: i32, devices: i64) {
        // SAFETY: plain numbers; the tests run one after the other.
        unsafe { swift_standin_system(version, devices) }
    }

    #[test]
    fn another_version_is_not_called() {
        case(|| {
            system(2, 3);
            let e = availability().unwrap_err();
            assert_eq!((e.kind(), devices().unwrap_err().kind()), (ErrorKind::Unavailable, e.kind()));
            let e = load_with("scale 2\n", &Configuration::default()).unwrap_err();
            system(1, 3);
            assert_eq!(e.kind(), ErrorKind::Unavailable);
        });
    }

    #[test]
    fn there_may_be_no_devices_or_many() {
        case(|| {
            system(1, -1);
            let e = devices().unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Unsupported);
            system(1, 0);
            assert_eq!(devices().unwrap(), []);
            system(1, 300);
            let many = devices().unwrap();
            system(1, 3);
            assert_eq!((many.len(), &many[3]), (256, &Device::Other("unknown".into())));
        });
    }

    #[test]
    fn hints_arrive_only_where_there_are_some() {
        case(|| {
            load_with("hints -1 -1\n", &Configuration::default()).unwrap();
            for (reshapes, specialization, expected) in [
                (Reshapes::Frequent, Specialization::Default, "0 0"),
                (Reshapes::Infrequent, Specialization::Default, "1 0"),
                (Reshapes::Frequent, Specialization::FastPrediction, "0 1"),
            ] {
                let hints = Some(Hints { reshapes, specialization });
                let configuration = Configuration { hints, ..Configuration::default() };
                load_with(&format!("hints {expected}\n"), &configuration).unwrap();
            }
        });
    }

    #[test]
    fn arrays_arrive_as_they_are() {
        case(|| {
            let types = [
                (ElementType::Float16, 0x10010),
                (ElementType::Float32, 0x10020),
                (ElementType::Float64, 0x10040),
                (ElementType::Int8, 0x20008),
                (ElementType::Int32, 0x20020),
            ];
            for (element, number) in types {
                for (route, tensors) in [(Route::Arrays, 0), (Route::Tensors, 1)] {
                    // At every place, and with a byte more than is needed.
                    for start in 0..9 {
                        let bytes = 3 * element.size();
                        let data: Vec<u8> = (0..=bytes + start).map(|b| b as u8).collect();
                        let data = Bytes::from(data).slice(start..);
                        let aligned = data.as_ptr().addr().is_multiple_of(element.size());
                        let array = Array::strided(element, &[1, 3], &[9, 1], data.clone()).unwrap();
                        let given = bytes + usize::from(aligned);
                        let mut model = load(&format!("takes {number} 2 {given} {tensors}\nfault echo\n"));
                        let outputs = predict_by(&mut model, &inputs(array), None, route).unwrap();
                        let Value::Array(y) = &outputs["y"] else { panic!() };
                        assert_eq!((y.element(), y.shape()), (element, &[1, 3][..]));
                        assert_eq!(y.packed(), data.slice(..bytes));
                    }
                }
            }
        });
    }

    #[test]
    fn gaps_are_left_out() {
        case(|| {
            let mut model = load("scale 2\nfault spread\n");
            let whole = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
            let (shape, values) = y(predict(&mut model, &inputs(array(&[2, 3], &whole))));
            assert_eq!((shape, values), (vec![2, 3], vec![2.0, 4.0, 6.0, 8.0, 10.0, 12.0]));
            // Rows of four that begin at an odd place: the copy has no gaps.
            let mut data = vec![0];
            data.extend_from_slice(&bytes(&[1.0, 2.0, 3.0, -1.0, 4.0, 5.0, 6.0]));
            for data in
                [Bytes::from(data.clone()).slice(1..), Bytes::from([vec![0; 2], data].concat()).slice(3..)]
            {
                let rows = Array::strided(ElementType::Float32, &[2, 3], &[4, 1], data).unwrap();
                let (_, values) = y(predict(&mut model, &inputs(rows)));
                assert_eq!(values, [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
            }
            let mut model = load("state 2\n");
            assert_eq!(y(predict(&mut model, &inputs(array(&[2, 0], &[])))), (vec![2, 0], vec![]));
            let mut state = model.new_state().unwrap();
            let every_other = bytes(&[1.0, -1.0, 2.0]);
            let two = Array::strided(ElementType::Float32, &[2], &[2], every_other).unwrap();
            state.write("s", &two).unwrap();
            assert_eq!(floats(&state.read("s").unwrap()), [1.0, 2.0]);
        });
    }

    #[test]
    fn what_was_not_answered_is_forgotten() {
        let drops = Arc::new(AtomicUsize::new(0));
        case(|| {
            drops.store(0, Ordering::SeqCst);
            let mut model = load("state 2\nfault mute\n");
            let mut state = model.new_state().unwrap();
            let data = Bytes::from_owner(Watched(vec![0; 8], Arc::clone(&drops)));
            let array = Array::new(ElementType::Float32, &[2], data).unwrap();
            assert_eq!(state.write("s", &array).unwrap_err().message(), "Swift did not call back");
            drop(array);
            assert_eq!(drops.load(Ordering::SeqCst), 1);
        });
    }

    fn fails(fault: &str) -> Error {
        predict(&mut load(&format!("scale 2\nfault {fault}\n")), &x(&[1.0, 2.0])).unwrap_err()
    }

    #[test]
    fn an_answer_without_anything_is_an_error() {
        case(|| {
            assert_eq!(
                load_with("fault unloaded\n", &Configuration::default()).unwrap_err().kind(),
                ErrorKind::Protocol
            );
            let mut model = load("state 2\nfault silent\n");
            assert_eq!(model.new_state().unwrap_err().message(), "Swift did not call back");
            let mut model = load("state 2\nfault mute\n");
            let mut state = model.new_state().unwrap();
            assert_eq!(state.read("s").unwrap_err().kind(), ErrorKind::Protocol);
            assert_eq!(load("fault error\n").new_state().unwrap_err().kind(), ErrorKind::Unsupported);
        });
    }

    #[test]
    fn an_answer_with_result_and_error_is_an_error() {
        case(|| of_core_ml(&fails("both")));
    }

    #[test]
    fn answers_at_once_are_answers() {
        case(|| {
            let mut model = load("scale 2\nfault inline\n");
            for _ in 0..2 {
                assert_eq!(y(predict(&mut model, &x(&[1.0]))).1, [2.0]);
            }
            // No task, nothing to cancel.
            let mut model = load("scale 2\nfault null\n");
            let outputs = wait(None, |done| {
                model.predict_async(&x(&[1.0]), None, Route::Arrays, done).cancel();
            });
            assert_eq!(y(outputs).1, [2.0]);
        });
    }

    #[test]
    fn second_answers_are_dropped() {
        case(|| {
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = |sender: mpsc::Sender<()>| {
                let calls = Arc::clone(&calls);
                move || {
                    calls.fetch_add(1, Ordering::SeqCst);
                    drop(sender);
                }
            };
            let file = file("scale 2\nfault twice\n");
            let (sender, receiver) = mpsc::channel();
            let (count, (give, take)) = (counted(sender), mpsc::channel());
            Model::load_async(&file.path, &Configuration::default(), move |model| {
                count();
                give.send(model).unwrap();
            });
            let mut model = take.recv().unwrap().unwrap();
            assert!(receiver.recv().is_err());
            let (sender, receiver) = mpsc::channel();
            let count = counted(sender);
            drop(model.predict_async(&x(&[1.0]), None, Route::Arrays, move |_| count()));
            assert!(receiver.recv().is_err());
            drop(model);
            // SAFETY: no arguments. It waits for the threads.
            unsafe { swift_standin_objects() };
            assert_eq!(calls.load(Ordering::SeqCst), 2);
        });
    }

    #[test]
    fn outputs_that_make_no_sense_are_errors() {
        case(|| {
            for fault in [
                "negative",
                "short",
                "shapeless",
                "rank",
                "type",
                "huge",
                "overlap",
                "nameless",
                "count",
                "nothing",
                "under",
                "less",
                "dataless",
                "gaps",
            ] {
                let e = fails(fault);
                assert_eq!(e.kind(), ErrorKind::Protocol, "{fault}: {e}");
                assert_eq!(
                    e.message().contains("dimensions"),
                    ["rank", "under"].contains(&fault),
                    "{fault}: {e}"
                );
            }
        });
    }
}
