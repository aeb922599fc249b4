//! The bridge against a Core ML that fails in every way at every place.
#![cfg(milwright_standin)]

mod standin;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use milwright_apple::{
    Array, Backing, Backings, ComputePlan, Configuration, ElementType, Error, ErrorKind, Feature,
    FeatureKind, Features, Hints, Image, Label, Model, PixelFormat, Result, Value, compile, compile_async,
    compute_plan, devices, wait,
};
use standin::{AFFINE, Fault, IMAGE, STATEFUL, case, fault, inputs, load, package, reset, seed};

/// What a fault has to become.
fn check(e: &Error, name: &str, fault: Fault) {
    match fault {
        Fault::Error => {
            assert_eq!(e.kind(), ErrorKind::Framework, "{name}: {e}");
            assert_eq!(e.domain(), Some("com.apple.CoreML"));
            assert_eq!(e.code(), Some(42));
            assert_eq!(e.message(), format!("failed in {name}"));
            assert_eq!(e.reason(), Some("because the test says so"));
            assert_eq!(e.recovery(), Some("change the test"));
            assert_eq!(e.underlying().unwrap().code(), Some(13));
        }
        Fault::Silent | Fault::Wrong | Fault::Never => {
            assert_eq!(e.kind(), ErrorKind::Protocol, "{name} {fault:?}: {e}");
        }
        Fault::Throw => {
            assert_eq!(e.kind(), ErrorKind::Exception, "{name}: {e}");
            let expected = format!("Core ML threw an exception: StandInException: thrown by {name}");
            assert_eq!(e.message(), expected);
        }
        Fault::Deep => {
            let chain: Vec<_> = std::iter::successors(Some(e), |e| e.underlying()).collect();
            // Not to the end: who knows how long it is.
            assert_eq!(
                chain.iter().map(|e| e.code().unwrap()).collect::<Vec<_>>(),
                (0..9).collect::<Vec<_>>()
            );
            assert!(chain.iter().all(|e| e.domain() == Some("deep")));
        }
        Fault::Odd => {
            assert_eq!((e.kind(), e.code()), (ErrorKind::Framework, Some(i32::MIN.into())));
            assert_eq!(e.to_string(), format!("it is odd, as is its cause (odd {})", i32::MIN));
            assert_eq!((e.reason(), e.recovery()), (Some("as is its cause"), None));
            assert!(e.underlying().is_none());
        }
        Fault::Bare => {
            assert_eq!(e.kind(), ErrorKind::Exception);
            assert_eq!(e.message(), "Core ML threw an exception: StandInException");
        }
        Fault::Thing | Fault::Nothing => {
            assert_eq!(e.kind(), ErrorKind::Exception);
            assert_eq!(e.message(), "Core ML threw an exception: an unknown object");
        }
        Fault::Late | Fault::Twice | Fault::Both => unreachable!(),
    }
    assert!(!e.to_string().is_empty());
}

/// With each fault at each of these methods, the call fails as it has to.
fn each<T>(names: &[&str], faults: &[Fault], call: impl Fn() -> Result<T>) {
    call().map(drop).unwrap_or_else(|e| panic!("without a fault: {e}"));
    for name in names {
        for &wanted in faults {
            fault(name, wanted);
            let Err(e) = call() else { panic!("{name} with {wanted:?} was taken for success") };
            standin::wait_idle();
            reset();
            check(&e, name, wanted);
            call().map(drop).unwrap_or_else(|e| panic!("after {name} with {wanted:?}: {e}"));
        }
    }
}

/// A result counts, whatever stands beside it.
fn both<T>(names: &[&str], call: impl Fn() -> Result<T>) {
    for name in names {
        fault(name, Fault::Both);
        call().map(drop).unwrap_or_else(|e| panic!("{name} with a result and an error: {e}"));
        reset();
    }
}

const WITH_ERROR: &[Fault] = &[
    Fault::Error,
    Fault::Silent,
    Fault::Throw,
    Fault::Deep,
    Fault::Odd,
    Fault::Bare,
    Fault::Thing,
    Fault::Nothing,
];
const WITHOUT_ERROR: &[Fault] = &[Fault::Silent, Fault::Throw];
const COMPLETION: &[Fault] = &[Fault::Error, Fault::Silent, Fault::Throw, Fault::Never];

fn full() -> Configuration {
    Configuration {
        function: Some("f".into()),
        display_name: Some("n".into()),
        hints: Some(Hints::default()),
        ..Configuration::default()
    }
}

const SETTERS: &[&str] = &[
    "setComputeUnits:",
    "setAllowLowPrecisionAccumulationOnGPU:",
    "setModelDisplayName:",
    "setFunctionName:",
    "setOptimizationHints:",
    "setReshapeFrequency:",
    "setSpecializationStrategy:",
];

#[test]
fn compiling() {
    case(|| {
        let model = package(AFFINE);
        let remove = |path: std::path::PathBuf| std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        each(&["compileModelAtURL:error:"], WITH_ERROR, || compile(&model.path).map(remove));
        let compile_later =
            || wait(None, |done| compile_async(&model.path, done)).map(|path| path.as_os_str().len());
        each(&["compileModelAtURL:completionHandler:"], COMPLETION, compile_later);
        both(&["compileModelAtURL:error:"], || compile(&model.path).map(remove));
        fault("compileModelAtURL:error:", Fault::Wrong);
        check(&compile(&model.path).unwrap_err(), "compileModelAtURL:error:", Fault::Wrong);
    });
}

#[test]
fn loading() {
    case(|| {
        let model = package(&format!("{AFFINE}function f\n"));
        let load = || Model::load(&model.path, &full());
        let load_later = || wait(None, |done| Model::load_async(&model.path, &full(), done));
        let plan = || wait(None, |done| compute_plan(&model.path, &full(), done));
        each(&["modelWithContentsOfURL:configuration:error:"], WITH_ERROR, load);
        both(&["modelWithContentsOfURL:configuration:error:"], load);
        each(&["loadContentsOfURL:configuration:completionHandler:"], COMPLETION, load_later);
        each(&["loadContentsOfURL:configuration:completionHandler:"], COMPLETION, plan);
        each(&["init", "new"], WITHOUT_ERROR, load);
        each(&["init", "new"], WITHOUT_ERROR, load_later);
        each(&["init", "new"], WITHOUT_ERROR, plan);
        each(SETTERS, &[Fault::Throw], load);
        each(SETTERS, &[Fault::Throw], load_later);
        each(SETTERS, &[Fault::Throw], plan);
    });
}

#[test]
fn describing() {
    let text = "metadata author Ada\nmetadata user k v\npredicted c\nprobabilities p\nlabels a b\n\
                input a array f32 1,3 enumerated 1,3 2,4\ninput b array f32 2 range 1:2\n\
                input i image BGRA 4 3 enumerated 4,3 8,6\ninput j image BGRA 4 3 range 1:4 1:3\n\
                output c string\noutput p dictionary string\nstate s array f32 2\n";
    let getters = [
        "modelDescription",
        "inputDescriptionsByName",
        "outputDescriptionsByName",
        "stateDescriptionsByName",
        "metadata",
        "multiArrayConstraint",
        "imageConstraint",
        "dictionaryConstraint",
        "stateConstraint",
        "shape",
        "bufferShape",
        "shapeConstraint",
        "enumeratedShapes",
        "sizeRangeForDimension",
        "sizeConstraint",
        "enumeratedImageSizes",
    ];
    let plain = [
        "predictedFeatureName",
        "predictedProbabilitiesName",
        "classLabels",
        "isOptional",
        "type",
        "keyType",
        "dataType",
        "pixelsWide",
        "pixelsHigh",
        "pixelFormatType",
        "pixelsWideRange",
        "pixelsHighRange",
    ];
    case(|| {
        let model = load(text);
        each(&getters, WITHOUT_ERROR, || model.description());
        each(&plain, &[Fault::Throw], || model.description());
        let wrong = [
            "metadata",
            "classLabels",
            "inputDescriptionsByName",
            "MLMultiArrayConstraint shape",
            "sizeRangeForDimension",
            "pixelsWide",
            "pixelsHigh",
        ];
        each(&wrong, &[Fault::Wrong], || model.description());
        for odd in [Fault::Both, Fault::Never, Fault::Late] {
            fault("metadata", odd);
            assert_eq!(model.description().unwrap_err().kind(), ErrorKind::Protocol, "{odd:?}");
            reset();
        }
        // These mean that there is none.
        for name in ["predictedFeatureName", "predictedProbabilitiesName", "classLabels"] {
            fault(name, Fault::Silent);
            model.description().unwrap();
            reset();
        }
        // An element type or a kind from the future is no error.
        fault("dataType", Fault::Wrong);
        let description = model.description().unwrap();
        reset();
        let unknown = |f: &&Feature| {
            matches!(
                f.kind,
                FeatureKind::Array { element: None, .. } | FeatureKind::State { element: None, .. }
            )
        };
        assert_eq!(description.inputs.iter().chain(&description.states).filter(unknown).count(), 3);
        fault("MLFeatureDescription type", Fault::Wrong);
        let description = model.description().unwrap();
        assert!(description.inputs.iter().all(|f| f.kind == FeatureKind::Unknown(99)));
    });
}

fn image() -> Features {
    let image = Image::new(PixelFormat::Bgra8, 2, 3, 8, vec![7; 24].into()).unwrap();
    Features::from([("x".into(), Value::Image(image))])
}

#[test]
fn predicting() {
    let making = [
        "initWithDictionary:error:",
        "initWithDataPointer:shape:dataType:strides:deallocator:error:",
        "predictionFromFeatures:options:error:",
    ];
    let reading = ["featureNames", "featureValueForName:", "multiArrayValue", "shape", "strides"];
    case(|| {
        let model = std::cell::RefCell::new(load(AFFINE));
        let x = inputs(&[2, 3], &[1.0; 6]);
        let predict = || model.borrow_mut().predict(&x, Backings::new());
        each(&making, WITH_ERROR, predict);
        both(&making, predict);
        each(&["featureNames"], &[Fault::Wrong], predict);
        each(&["init", "featureValueWithMultiArray:"], WITHOUT_ERROR, predict);
        each(&reading, WITHOUT_ERROR, predict);
        each(&["getBytesWithHandler:"], &[Fault::Silent, Fault::Throw, Fault::Wrong, Fault::Never], predict);
        // Strides reach beyond the numbers.
        let wrong = ["type", "shape", "strides", "count", "dataType"];
        each(&wrong, &[Fault::Wrong, Fault::Throw], predict);
        // A negative number of bytes.
        fault("getBytesWithHandler:", Fault::Late);
        assert_eq!(predict().unwrap_err().kind(), ErrorKind::Protocol);
        reset();
        let backed = || {
            let backing = Backing::new(ElementType::Float32, &[2, 3])?;
            model.borrow_mut().predict(&x, Backings::from([("y".into(), backing)]))
        };
        each(&["setOutputBackings:"], &[Fault::Throw], backed);
        each(&making, WITH_ERROR, backed);
        // The deallocator may be called more often than it should.
        fault("initWithDataPointer:shape:dataType:strides:deallocator:error:", Fault::Twice);
        predict().unwrap();
        backed().unwrap();
        // And the bytes be handed out more often.
        reset();
        fault("getBytesWithHandler:", Fault::Twice);
        predict().unwrap();
    });
}

#[test]
fn predicting_later() {
    let method = "predictionFromFeatures:options:completionHandler:";
    case(|| {
        let model = std::cell::RefCell::new(load(AFFINE));
        let x = inputs(&[2, 3], &[1.0; 6]);
        let predict = || {
            let result = wait(None, |done| model.borrow_mut().predict_async(&x, Backings::new(), done));
            standin::wait_idle();
            result
        };
        each(&[method], COMPLETION, predict);
        each(&["initWithDictionary:error:"], WITH_ERROR, predict);
        each(
            &["init", "featureValueWithMultiArray:", "featureNames", "multiArrayValue"],
            WITHOUT_ERROR,
            predict,
        );
        each(&["getBytesWithHandler:", "count"], &[Fault::Wrong, Fault::Throw], predict);
        fault(method, Fault::Both);
        predict().unwrap();
    });
}

#[test]
fn other_values() {
    let cases: [(&str, Value, &[&str], &[&str]); 6] = [
        ("int64", Value::Int64(1), &["featureValueWithInt64:"], &["int64Value"]),
        ("double", Value::Double(1.0), &["featureValueWithDouble:"], &["doubleValue"]),
        ("string", Value::String("a".into()), &["featureValueWithString:", "stringValue"], &[]),
        (
            "dictionary string",
            Value::Dictionary(vec![(Label::String("a".into()), 1.0)]),
            &["featureValueWithDictionary:error:", "dictionaryValue"],
            &[],
        ),
        (
            "sequence",
            Value::Strings(vec!["a".into()]),
            &["sequenceWithStringArray:", "featureValueWithSequence:", "sequenceValue", "stringValues"],
            &[],
        ),
        (
            "sequence",
            Value::Integers(vec![1]),
            &["sequenceWithInt64Array:", "featureValueWithSequence:", "sequenceValue", "int64Values"],
            &[],
        ),
    ];
    case(|| {
        for (kind, value, objects, scalars) in &cases {
            let model =
                std::cell::RefCell::new(load(&format!("input x {kind}\noutput y {kind}\necho y x\n")));
            let features = Features::from([("x".to_owned(), value.clone())]);
            let predict = || model.borrow_mut().predict(&features, Backings::new());
            each(objects, WITHOUT_ERROR, predict);
            each(scalars, &[Fault::Throw], predict);
            each(&["type"], &[Fault::Wrong], predict);
            let read: &[&str] = match value {
                Value::Dictionary(_) => &["dictionaryValue"],
                Value::Strings(_) => &["stringValues", "MLSequence type"],
                Value::Integers(_) => &["int64Values", "MLSequence type"],
                _ => &[],
            };
            each(read, &[Fault::Wrong], predict);
            if let Value::Dictionary(_) = value {
                each(&["featureValueWithDictionary:error:"], WITH_ERROR, predict);
                both(&["featureValueWithDictionary:error:"], predict);
            }
        }
    });
}

#[test]
fn images() {
    case(|| {
        let model = std::cell::RefCell::new(load(IMAGE));
        let predict = || model.borrow_mut().predict(&image(), Backings::new());
        each(&["featureValueWithPixelBuffer:", "imageBufferValue"], WITHOUT_ERROR, predict);
        let functions = [
            "CVPixelBufferCreateWithBytes",
            "CVPixelBufferLockBaseAddress",
            "CVPixelBufferGetBaseAddress",
            "CVPixelBufferGetBytesPerRow",
            "CVPixelBufferGetWidth",
            "CVPixelBufferGetHeight",
            "CVPixelBufferGetPixelFormatType",
        ];
        each(&functions, &[Fault::Wrong], predict);
        for wanted in [Fault::Error, Fault::Silent] {
            fault("CVPixelBufferGetHeight", wanted);
            assert_eq!(predict().unwrap_err().kind(), ErrorKind::Protocol);
            reset();
        }
        each(&["CVPixelBufferCreateWithBytes"], &[Fault::Silent], predict);
    });
}

/// Bytes that tell when they are let go.
struct Counted([u64; 8], #[expect(dead_code, reason = "it counts")] Arc<()>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the bytes of an array of numbers.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), 64) }
    }
}

#[test]
fn memory_is_let_go_of_whatever_core_ml_does() {
    let places = [
        "CVPixelBufferCreateWithBytes",
        "featureValueWithPixelBuffer:",
        "initWithDataPointer:shape:dataType:strides:deallocator:error:",
        "featureValueWithMultiArray:",
        "initWithDictionary:error:",
        "predictionFromFeatures:options:error:",
        "featureNames",
    ];
    case(|| {
        let text = "input x array f32 2,3\ninput z image BGRA 2 3\noutput y array f32 2,3\naffine y x 2 1\n";
        let mut model = load(text);
        let count = Arc::new(());
        for place in places {
            for wanted in [Fault::Error, Fault::Silent, Fault::Throw] {
                let bytes = || bytes::Bytes::from_owner(Counted([0; 8], Arc::clone(&count)));
                let array = Array::new(ElementType::Float32, &[2, 3], bytes().slice(..24)).unwrap();
                let image = Image::new(PixelFormat::Bgra8, 2, 3, 8, bytes().slice(..24)).unwrap();
                let inputs = Features::from([
                    ("x".to_owned(), Value::Array(array)),
                    ("z".to_owned(), Value::Image(image)),
                ]);
                fault(place, wanted);
                model.predict(&inputs, Backings::new()).unwrap_err();
                reset();
                drop(inputs);
                assert_eq!(Arc::strong_count(&count), 1, "{place} with {wanted:?}");
            }
        }
    });
}

#[test]
fn states() {
    let prediction = "predictionFromFeatures:usingState:options:error:";
    let later = "predictionFromFeatures:usingState:options:completionHandler:";
    case(|| {
        let model = std::cell::RefCell::new(load(STATEFUL));
        let state = std::cell::RefCell::new(model.borrow().new_state().unwrap());
        let x = inputs(&[3], &[1.0; 3]);
        each(&["newState"], WITHOUT_ERROR, || model.borrow().new_state());
        let predict = || model.borrow_mut().predict_with_state(&x, &mut state.borrow_mut(), Backings::new());
        each(&[prediction, "initWithDictionary:error:"], WITH_ERROR, predict);
        both(&[prediction], predict);
        let predict_later = || {
            let result = wait(None, |done| {
                let mut state = state.borrow_mut();
                model.borrow_mut().predict_with_state_async(&x, &mut state, Backings::new(), done);
            });
            standin::wait_idle();
            result
        };
        each(&[later], COMPLETION, predict_later);
        each(&["initWithDictionary:error:"], WITH_ERROR, predict_later);
        let read = || state.borrow().read("s");
        each(&["getMultiArrayForStateNamed:handler:"], &[Fault::Throw], read);
        each(&["shape", "strides"], WITHOUT_ERROR, read);
        each(&["getBytesWithHandler:"], &[Fault::Silent, Fault::Throw, Fault::Wrong], read);
        let new = Array::new(ElementType::Float16, &[3], vec![0; 6].into()).unwrap();
        let write = || state.borrow_mut().write("s", &new);
        each(&["getMultiArrayForStateNamed:handler:"], &[Fault::Throw], write);
        let bytes = &[Fault::Silent, Fault::Throw, Fault::Wrong, Fault::Never];
        each(&["getMutableBytesWithHandler:"], bytes, write);
        for wanted in [Fault::Silent, Fault::Wrong] {
            fault("getMultiArrayForStateNamed:handler:", wanted);
            assert_eq!(read().unwrap_err().kind(), ErrorKind::Invalid);
            assert_eq!(write().unwrap_err().kind(), ErrorKind::Invalid);
            reset();
        }
        for wanted in [Fault::Both, Fault::Late] {
            fault("getMutableBytesWithHandler:", wanted);
            assert_eq!(write().unwrap_err().kind(), ErrorKind::Protocol);
            reset();
        }
        fault("getMultiArrayForStateNamed:handler:", Fault::Twice);
        read().unwrap();
        write().unwrap();
    });
}

#[test]
fn batches() {
    case(|| {
        let model = std::cell::RefCell::new(load(AFFINE));
        let batch = [inputs(&[2, 3], &[1.0; 6]), inputs(&[2, 3], &[2.0; 6])];
        let predict = || model.borrow_mut().predict_batch(&batch);
        each(&["predictionsFromBatch:options:error:", "initWithDictionary:error:"], WITH_ERROR, predict);
        both(&["predictionsFromBatch:options:error:"], predict);
        each(&["initWithFeatureProviderArray:", "featuresAtIndex:", "init"], WITHOUT_ERROR, predict);
        each(&["count"], &[Fault::Wrong, Fault::Throw], predict);
        // As many as it should be, but not what was asked for.
        fault("count", Fault::Wrong);
        assert!(predict().unwrap_err().message().contains("3 results for a batch of 2"));
    });
}

#[test]
fn plans() {
    let text = "op main 0 conv y ane cpu,ane 0.5\nop main 1 add z cpu cpu 1\nlayer conv out gpu gpu\n";
    let getters = [
        "modelStructure",
        "functions",
        "block",
        "operations",
        "operatorName",
        "outputs",
        "blocks",
        "name",
        "layers",
        "type",
        "outputNames",
        "preferredComputeDevice",
        "supportedComputeDevices",
    ];
    case(|| {
        let model = package(text);
        let plan = || {
            let plan = wait(None, |done| compute_plan(&model.path, &Configuration::default(), done));
            standin::wait_idle();
            plan
        };
        each(&getters, WITHOUT_ERROR, plan);
        each(&["outputNames"], &[Fault::Wrong], plan);
        each(&["totalCoreCount"], &[Fault::Wrong, Fault::Throw], plan);
        each(&["weight"], &[Fault::Throw], plan);
        for name in ["program", "neuralNetwork"] {
            each(&[name], &[Fault::Throw], plan);
            fault(name, Fault::Silent);
            let ComputePlan { ops, layers } = plan().unwrap();
            assert_eq!((ops.len(), layers.len()), if name == "program" { (0, 1) } else { (2, 0) });
            reset();
        }
        fault("estimatedCostOfMLProgramOperation:", Fault::Silent);
        fault("computeDeviceUsageForMLProgramOperation:", Fault::Silent);
        fault("computeDeviceUsageForNeuralNetworkLayer:", Fault::Silent);
        let plan = plan().unwrap();
        let nothing = |op: &milwright_apple::PlannedOp| op.cost.is_none() && op.preferred.is_none();
        assert!(plan.ops.iter().chain(&plan.layers).all(nothing));
        reset();
        each(&["availableComputeDevices"], WITHOUT_ERROR, devices);
        each(&["totalCoreCount"], &[Fault::Wrong, Fault::Throw], devices);
    });
}

#[test]
fn plans_that_nest_without_end_are_refused() {
    case(|| {
        let plan = |depth: usize| {
            let lines = (0..depth).map(|depth| format!("op main {depth} cond z cpu cpu -\n"));
            let model = package(&lines.collect::<String>());
            wait(None, |done| compute_plan(&model.path, &Configuration::default(), done))
        };
        // The blocks of the last operation are one more, which is empty.
        assert_eq!(plan(64).unwrap().ops.len(), 64);
        for depth in [65, 200] {
            assert_eq!(plan(depth).unwrap_err().kind(), ErrorKind::Protocol);
        }
    });
}

/// Everything that ends in a completion handler.
type Start = Box<dyn Fn(Box<dyn FnOnce(Result<()>) + Send>)>;

fn asynchronous() -> Vec<(&'static str, Start)> {
    let plain = package(&format!("{AFFINE}op main 0 conv y ane cpu,ane 0.5\n"));
    let path = plain.path.clone();
    let compile: Start = Box::new(move |done| {
        let _keep = &plain;
        compile_async(&plain.path, move |r| done(r.map(drop)));
    });
    let (package_1, package_2) = (package(AFFINE), package(AFFINE));
    let load: Start = Box::new(move |done| {
        Model::load_async(&package_1.path, &Configuration::default(), move |r| done(r.map(drop)));
    });
    let plan: Start = Box::new(move |done| {
        compute_plan(&package_2.path, &Configuration::default(), move |r| done(r.map(drop)));
    });
    drop(path);
    let predict: Start = Box::new(|done| {
        let x = inputs(&[2, 3], &[1.0; 6]);
        let backing = Backing::new(ElementType::Float32, &[2, 3]).unwrap();
        // The model goes while the prediction is on its way.
        self::load(AFFINE)
            .predict_async(&x, Backings::from([("y".into(), backing)]), move |r| done(r.map(drop)));
    });
    let stateful: Start = Box::new(|done| {
        let mut model = self::load(STATEFUL);
        let mut state = model.new_state().unwrap();
        let x = inputs(&[3], &[1.0; 3]);
        model.predict_with_state_async(&x, &mut state, Backings::new(), move |r| done(r.map(drop)));
    });
    let load_name = "loadContentsOfURL:configuration:completionHandler:";
    vec![
        ("compileModelAtURL:completionHandler:", compile),
        (load_name, load),
        (load_name, plan),
        ("predictionFromFeatures:options:completionHandler:", predict),
        ("predictionFromFeatures:usingState:options:completionHandler:", stateful),
    ]
}

#[test]
fn handlers_are_called_once_whatever_core_ml_does() {
    use Fault::*;
    for (name, start) in asynchronous() {
        case(|| {
            for wanted in [None, Some(Error), Some(Silent), Some(Throw), Some(Twice), Some(Never), Some(Both)]
            {
                if let Some(wanted) = wanted {
                    fault(name, wanted);
                }
                let calls = Arc::new(AtomicUsize::new(0));
                let in_handler = Arc::clone(&calls);
                start(Box::new(move |_| {
                    in_handler.fetch_add(1, Ordering::SeqCst);
                }));
                standin::wait_idle();
                reset();
                assert_eq!(calls.load(Ordering::SeqCst), 1, "{name} with {wanted:?}");
                assert_eq!(Arc::strong_count(&calls), 1, "{name} with {wanted:?}: the handler is kept");
            }
        });
    }
}

#[test]
fn a_panic_in_a_handler_ends_there() {
    for (name, start) in asynchronous() {
        case(|| {
            for wanted in [None, Some(Fault::Throw), Some(Fault::Never), Some(Fault::Twice)] {
                if let Some(wanted) = wanted {
                    fault(name, wanted);
                }
                // Without the message that a panic prints.
                start(Box::new(|_| std::panic::resume_unwind(Box::new("a panic in a handler"))));
                standin::wait_idle();
                reset();
            }
        });
    }
}

#[test]
fn one_prediction_at_a_time() {
    case(|| {
        let mut model = load(AFFINE);
        let x = inputs(&[2, 3], &[1.0; 6]);
        fault("predictionFromFeatures:options:completionHandler:", Fault::Late);
        let (done, results) = standin::channel();
        model.predict_async(&x, Backings::new(), done);
        standin::await_late();
        let busy = [
            model.predict(&x, Backings::new()).map(drop).unwrap_err(),
            wait(None, |done| model.predict_async(&x, Backings::new(), done)).map(drop).unwrap_err(),
            model.predict_batch(std::slice::from_ref(&x)).map(drop).unwrap_err(),
        ];
        assert!(busy.iter().all(|e| e.kind() == ErrorKind::Busy), "{busy:?}");
        standin::release_late();
        assert_eq!(results().len(), 1);
        standin::wait_idle();
        reset();
        model.predict(&x, Backings::new()).unwrap();
    });
}

#[test]
fn one_prediction_with_a_state_at_a_time() {
    case(|| {
        let (mut model, mut other) = (load(STATEFUL), load(STATEFUL));
        let (mut state, mut free) = (model.new_state().unwrap(), model.new_state().unwrap());
        let x = inputs(&[3], &[1.0; 3]);
        fault("predictionFromFeatures:usingState:options:completionHandler:", Fault::Late);
        let (done, results) = standin::channel();
        model.predict_with_state_async(&x, &mut state, Backings::new(), done);
        standin::await_late();
        let new = state.read("s").map(drop).unwrap_err();
        let array = Array::new(ElementType::Float16, &[3], vec![0; 6].into()).unwrap();
        let busy = [
            new,
            state.write("s", &array).unwrap_err(),
            other.predict_with_state(&x, &mut state, Backings::new()).map(drop).unwrap_err(),
            wait(None, |done| other.predict_with_state_async(&x, &mut state, Backings::new(), done))
                .map(drop)
                .unwrap_err(),
            model.predict_with_state(&x, &mut free, Backings::new()).map(drop).unwrap_err(),
        ];
        assert!(busy.iter().all(|e| e.kind() == ErrorKind::Busy), "{busy:?}");
        // What was refused is not claimed.
        other.predict_with_state(&x, &mut free, Backings::new()).unwrap();
        standin::release_late();
        assert_eq!(results().len(), 1);
        standin::wait_idle();
        reset();
        state.read("s").unwrap();
        other.predict_with_state(&x, &mut state, Backings::new()).unwrap();
    });
}

#[test]
fn the_model_is_free_when_the_handler_runs() {
    case(|| {
        let model = Arc::new(std::sync::Mutex::new(load(AFFINE)));
        let again = Arc::clone(&model);
        let (done, results) = standin::channel();
        model.lock().unwrap().predict_async(&inputs(&[2, 3], &[1.0; 6]), Backings::new(), move |_| {
            done(again.lock().unwrap().predict(&inputs(&[2, 3], &[2.0; 6]), Backings::new()));
        });
        assert_eq!(standin::floats(&results()[0].as_ref().unwrap()["y"]), [5.0; 6]);
        standin::wait_idle();
    });
}

#[test]
fn late_answers_of_those_who_gave_up_are_dropped() {
    case(|| {
        let model = package(AFFINE);
        fault("compileModelAtURL:completionHandler:", Fault::Late);
        let result = wait(Some(std::time::Duration::ZERO), |done| compile_async(&model.path, done));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    });
}

/// Runs through everything; what fails, fails.
fn everything(random: u64) {
    let model = package(&format!("{AFFINE}function f\nop main 0 conv y ane cpu,ane 0.5\n"));
    let configuration = if random.is_multiple_of(2) { full() } else { Configuration::default() };
    seed(random);
    let _ = devices();
    if let Ok(path) = compile(&model.path) {
        assert!(path.as_os_str().len() > 1);
    }
    let _ = wait(None, |done| compile_async(&model.path, done));
    let _ = wait(None, |done| compute_plan(&model.path, &configuration, done));
    let loaded = [
        Model::load(&model.path, &configuration),
        wait(None, |done| Model::load_async(&model.path, &configuration, done)),
    ];
    let x = inputs(&[2, 3], &[1.0; 6]);
    for mut model in loaded.into_iter().flatten() {
        let _ = model.description();
        let right = |outputs: Result<Features>| {
            let Ok(outputs) = outputs else { return };
            // A wrong number is worse than an error.
            for output in outputs.values() {
                assert_eq!(standin::floats(output), [3.0; 6]);
            }
        };
        right(model.predict(&x, Backings::new()));
        let backing = Backing::new(ElementType::Float32, &[2, 3]).unwrap();
        right(model.predict(&x, Backings::from([("y".into(), backing)])));
        right(wait(None, |done| model.predict_async(&x, Backings::new(), done)));
        for outputs in model.predict_batch(&[x.clone(), x.clone()]).into_iter().flatten() {
            right(Ok(outputs));
        }
    }
    let stateful = package(STATEFUL);
    if let Ok(mut model) = Model::load(&stateful.path, &Configuration::default())
        && let Ok(mut state) = model.new_state()
    {
        let x = inputs(&[3], &[1.0; 3]);
        let _ = model.predict_with_state(&x, &mut state, Backings::new());
        let _ = wait(None, |done| model.predict_with_state_async(&x, &mut state, Backings::new(), done));
        if let Ok(array) = state.read("s") {
            let _ = state.write("s", &array);
        }
    }
    standin::wait_idle();
    seed(0);
}

/// Seeds of the fuzzed stand-in.
const SEEDS: u64 = 60;

#[test]
fn a_core_ml_that_fails_at_random() {
    for random in 1..=SEEDS {
        case(|| everything(random.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    }
}
