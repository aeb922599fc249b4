//! The bridge against the stand-in, where something is easily forgotten: odd alignment, empty and large shapes, who holds
//! what, older systems.
#![cfg(milwright_standin)]

mod standin;

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use milwright_apple::{
    Array, Backing, Backings, Configuration, Device, ElementType, ErrorKind, Features, Hints, Image, Model,
    PixelFormat, Result, State, Value, compile, compile_async, compute_plan, devices, wait,
};
use standin::{AFFINE, Fault, STATEFUL, case, fault, floats, hide, inputs, load, package, reset, seen};

struct Probe<T>(PhantomData<T>);

trait Unless {
    const SYNC: bool = false;
}

impl<T> Unless for Probe<T> {}

impl<T: Sync> Probe<T> {
    const SYNC: bool = true;
}

#[test]
fn models_and_states_are_not_shared() {
    fn send<T: Send>() {}
    send::<Model>();
    send::<State>();
    // The constant of the type goes before that of the trait, where it is there.
    let sync = [Probe::<Array>::SYNC, Probe::<Model>::SYNC, Probe::<State>::SYNC];
    assert_eq!(sync, [true, false, false]);
}

#[test]
fn shapes_may_be_large_or_empty() {
    case(|| {
        let text = "input x array i8 SHAPE\noutput y array i8 SHAPE\naffine y x 2 0\n";
        let predict = |shape: &[usize], names: &str| {
            let x = Array::new(ElementType::Int8, shape, vec![1; shape.iter().product()].into()).unwrap();
            let x = Features::from([("x".into(), Value::Array(x))]);
            let outputs = load(&text.replace("SHAPE", names)).predict(&x, Backings::new()).unwrap();
            let Value::Array(y) = &outputs["y"] else { panic!() };
            (seen("array"), y.shape().to_vec(), y.packed())
        };
        // More than 32 bits.
        let (array, shape, y) = predict(&[0, 1 << 33], "0,8589934592");
        assert!(array.ends_with(" 0,8589934592 8589934592,1 20008"), "{array}");
        assert_eq!((shape, y.len()), (vec![0, 1 << 33], 0));
        let (array, _, y) = predict(&[2, 0], "2,0");
        assert!(array.ends_with(" 2,0 1,1 20008"), "{array}");
        assert!(y.is_empty());
        // GNUstep counts numbers from 13 on.
        let (array, _, y) = predict(&[2, 100], "2,100");
        assert!(array.ends_with(" 2,100 100,1 20008"), "{array}");
        assert_eq!(y, vec![2; 200]);
    });
}

/// Bytes from `offset` on in memory that is aligned to 8 bytes.
fn at(offset: usize, bytes: &[u8]) -> Bytes {
    struct Words(Vec<u64>);
    impl AsRef<[u8]> for Words {
        fn as_ref(&self) -> &[u8] {
            // SAFETY: the bytes of a vector of numbers.
            unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(self.0.as_slice())) }
        }
    }
    let mut all = vec![0xee; offset];
    all.extend_from_slice(bytes);
    all.resize(all.len().next_multiple_of(8), 0xee);
    let words = all.chunks_exact(8).map(|c| u64::from_ne_bytes(c.try_into().unwrap())).collect();
    Bytes::from_owner(Words(words)).slice(offset..offset + bytes.len())
}

#[test]
fn alignment_is_that_of_the_element() {
    let types = [
        ("f16", ElementType::Float16),
        ("f32", ElementType::Float32),
        ("f64", ElementType::Float64),
        ("i8", ElementType::Int8),
    ];
    case(|| {
        for (name, element) in types {
            let mut model =
                load(&format!("input x array {name} 1\noutput y array {name} 1\naffine y x 1 0\n"));
            for offset in 0..8 {
                // 1.0, or something as plain.
                let mut one = vec![0; element.size()];
                one[element.size() - 1] = 0x40;
                let data = at(offset, &one);
                let start = format!("{:?} ", data.as_ptr());
                let x = Array::new(element, &[1], data).unwrap();
                let x = Features::from([("x".into(), Value::Array(x))]);
                let outputs = model.predict(&x, Backings::new()).unwrap();
                assert_eq!(
                    seen("array").starts_with(&start),
                    offset % element.size() == 0,
                    "{name} {offset}"
                );
                let Value::Array(y) = &outputs["y"] else { panic!() };
                assert_eq!(y.packed(), one, "{name} {offset}");
            }
        }
    });
}

#[test]
fn what_is_copied_for_its_alignment_is_without_gaps() {
    case(|| {
        let text = "input x array f32 5\noutput y array f32 5\naffine y x 2 1\n";
        let values: Vec<u8> = (1..=5).flat_map(|v| (v as f32).to_ne_bytes()).collect();
        // Not a multiple of eight bytes.
        let x = Array::new(ElementType::Float32, &[5], at(1, &values)).unwrap();
        let x = Features::from([("x".into(), Value::Array(x))]);
        let outputs = load(text).predict(&x, Backings::new()).unwrap();
        assert_eq!(floats(&outputs["y"]), [3.0, 5.0, 7.0, 9.0, 11.0]);
        // With gaps, which the copy does not have.
        let values: Vec<u8> = (1..=8).flat_map(|v| (v as f32).to_ne_bytes()).collect();
        let x = Array::strided(ElementType::Float32, &[2, 3], &[4, 1], at(2, &values)).unwrap();
        let x = Features::from([("x".into(), Value::Array(x))]);
        let outputs = load(AFFINE).predict(&x, Backings::new()).unwrap();
        assert!(seen("array").ends_with(" 2,3 3,1 10020"));
        assert_eq!(floats(&outputs["y"]), [3.0, 5.0, 7.0, 11.0, 13.0, 15.0]);
    });
}

/// Memory that tells when it is let go.
struct Kept([u64; 3], #[expect(dead_code, reason = "it counts")] Arc<()>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the bytes of an array of numbers.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), 24) }
    }
}

#[test]
fn inputs_are_kept_while_core_ml_reads_them() {
    case(|| {
        let mut model =
            load(&format!("{AFFINE}input z image BGRA 2 3\noutput w image BGRA 2 3\ninvert w z\n"));
        let count = Arc::new(());
        let kept = || Bytes::from_owner(Kept([0; 3], Arc::clone(&count)));
        let x = Array::new(ElementType::Float32, &[2, 3], kept()).unwrap();
        let z = Image::new(PixelFormat::Bgra8, 2, 3, 8, kept()).unwrap();
        let x = Features::from([("x".into(), Value::Array(x)), ("z".into(), Value::Image(z))]);
        fault("predictionFromFeatures:options:completionHandler:", Fault::Late);
        let (done, results) = standin::channel();
        model.predict_async(&x, Backings::new(), done);
        drop(x);
        standin::await_late();
        assert_eq!(Arc::strong_count(&count), 3, "Core ML has yet to read them");
        standin::release_late();
        assert_eq!(floats(&results()[0].as_ref().unwrap()["y"]), [1.0; 6]);
        standin::wait_idle();
        assert_eq!(Arc::strong_count(&count), 1);
    });
}

#[test]
fn a_panic_of_who_is_refused_ends_there() {
    fn panics<T>() -> impl FnOnce(T) + Send + 'static {
        |_| std::panic::resume_unwind(Box::new("a panic in a handler"))
    }
    case(|| {
        let (mut model, mut other) = (load(STATEFUL), load(STATEFUL));
        let mut state = model.new_state().unwrap();
        let x = inputs(&[3], &[1.0; 3]);
        // There is no room for backings.
        hide("setOutputBackings:");
        let backings =
            || Backings::from([("y".to_owned(), Backing::new(ElementType::Float32, &[3]).unwrap())]);
        model.predict_async(&x, backings(), panics());
        model.predict_with_state_async(&x, &mut state, backings(), panics());
        reset();
        // Something else is on its way.
        fault("predictionFromFeatures:usingState:options:completionHandler:", Fault::Late);
        let (done, results) = standin::channel();
        model.predict_with_state_async(&x, &mut state, Backings::new(), done);
        standin::await_late();
        model.predict_async(&x, Backings::new(), panics());
        other.predict_with_state_async(&x, &mut state, Backings::new(), panics());
        standin::release_late();
        assert!(results()[0].is_ok());
        standin::wait_idle();
    });
}

#[test]
fn functions_of_a_plan_are_in_order() {
    let names = ["m", "zeta", "b", "k9", "aux", "main", "q", "a"];
    case(|| {
        let lines = names.map(|name| format!("op {name} 0 const w - - -\n"));
        let model = package(&lines.concat());
        let plan = wait(None, |done| compute_plan(&model.path, &Configuration::default(), done)).unwrap();
        let read: Vec<_> = plan.ops.iter().map(|op| &*op.function).collect();
        assert_eq!(read, ["a", "aux", "b", "k9", "m", "main", "q", "zeta"]);
    });
}

#[test]
fn outputs_that_overlap_or_lack_strides_are_refused() {
    case(|| {
        let read = |shape: &[usize], names: &str| {
            let text = format!("input x array f32 {names}\noutput y array f32 {names}\naffine y x 1 0\n");
            let x = inputs(shape, &vec![0.0; shape.iter().product()]);
            load(&text).predict(&x, Backings::new()).map(drop)
        };
        // All elements are the same one, and there is less memory than elements.
        fault("strides", Fault::Both);
        read(&[2, 4], "2,4").unwrap();
        fault("getBytesWithHandler:", Fault::Wrong);
        assert_eq!(read(&[2, 4], "2,4").unwrap_err().kind(), ErrorKind::Protocol);
        reset();
        // Two strides of one dimension.
        fault("strides", Fault::Both);
        let e = read(&[3], "3").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Protocol);
        assert!(e.message().ends_with("in the shape [3] with the strides [0, 0]"), "{e}");
    });
}

#[test]
fn older_systems_say_what_they_lack() {
    let x = inputs(&[2, 3], &[1.0; 6]);
    case(|| {
        let path = package(&format!("{AFFINE}function f\n"));
        let path: &Path = &path.path;
        let lacks = |name: &str, call: &dyn Fn() -> Result<()>| {
            call().unwrap_or_else(|e| panic!("with {name}: {e}"));
            hide(name);
            let e = call().expect_err(name);
            reset();
            assert_eq!(e.kind(), ErrorKind::Unsupported, "{name}: {e}");
            assert!(e.message().contains("macOS 1"), "{name}: {e}");
        };
        let with = |configuration: Configuration| Model::load(path, &configuration).map(drop);
        lacks("compileModelAtURL:completionHandler:", &|| {
            wait(None, |done| compile_async(path, done)).map(drop)
        });
        lacks("availableComputeDevices", &|| devices().map(drop));
        lacks("MLComputePlan", &|| {
            wait(None, |done| compute_plan(path, &Configuration::default(), done)).map(drop)
        });
        let function = || Configuration { function: Some("f".into()), ..Configuration::default() };
        lacks("setFunctionName:", &|| with(function()));
        let hints = || Configuration { hints: Some(Hints::default()), ..Configuration::default() };
        lacks("MLOptimizationHints", &|| with(hints()));
        lacks("setOptimizationHints:", &|| with(hints()));
        let stateful = load(STATEFUL);
        lacks("MLState", &|| stateful.new_state().map(drop));
        lacks("newState", &|| stateful.new_state().map(drop));
        let model = std::cell::RefCell::new(load(AFFINE));
        lacks("predictionFromFeatures:options:completionHandler:", &|| {
            let result = wait(None, |done| model.borrow_mut().predict_async(&x, Backings::new(), done));
            standin::wait_idle();
            result.map(drop)
        });
        // Nothing is lacking where there are no backings.
        hide("setOutputBackings:");
        model.borrow_mut().predict(&x, Backings::new()).unwrap();
        reset();
        lacks("getBytesWithHandler:", &|| model.borrow_mut().predict(&x, Backings::new()).map(drop));
        lacks("setOutputBackings:", &|| {
            let backing = Backing::new(ElementType::Float32, &[2, 3])?;
            model.borrow_mut().predict(&x, Backings::from([("y".into(), backing)])).map(drop)
        });
        let state = std::cell::RefCell::new(stateful.new_state().unwrap());
        let stateful = std::cell::RefCell::new(stateful);
        lacks("predictionFromFeatures:usingState:options:completionHandler:", &|| {
            let x = inputs(&[3], &[1.0; 3]);
            let result = wait(None, |done| {
                let mut state = state.borrow_mut();
                stateful.borrow_mut().predict_with_state_async(&x, &mut state, Backings::new(), done);
            });
            standin::wait_idle();
            result.map(drop)
        });
        let array = Array::new(ElementType::Float16, &[3], vec![0; 6].into()).unwrap();
        lacks("getMutableBytesWithHandler:", &|| state.borrow_mut().write("s", &array));
        // Without these there is less to say, and that is all.
        for name in ["stateDescriptionsByName", "classLabels", "setModelDisplayName:"] {
            hide(name);
            Model::load(path, &Configuration { display_name: Some("n".into()), ..Configuration::default() })
                .unwrap()
                .description()
                .unwrap();
            reset();
        }
        for (name, device) in [
            ("MLCPUComputeDevice", "MLCPUComputeDevice"),
            ("MLGPUComputeDevice", "StandInGPU"),
            ("MLNeuralEngineComputeDevice", "MLNeuralEngineComputeDevice"),
        ] {
            hide(name);
            assert!(devices().unwrap().contains(&Device::Other(device.into())));
            reset();
        }
        hide("MLModel");
        let kinds = [
            milwright_apple::availability().unwrap_err().kind(),
            milwright_apple::system().unwrap_err().kind(),
            compile(path).unwrap_err().kind(),
            devices().unwrap_err().kind(),
            wait(None, |done| compile_async(path, done)).unwrap_err().kind(),
            Model::load(path, &Configuration::default()).unwrap_err().kind(),
            wait(None, |done| Model::load_async(path, &Configuration::default(), done)).unwrap_err().kind(),
            wait(None, |done| compute_plan(path, &Configuration::default(), done)).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Unavailable; 8]);
    });
}
