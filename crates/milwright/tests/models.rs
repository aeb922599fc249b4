//! Models that are not ML programs, made by `models/make.py` and `models/make_compiled.py`, against what NumPy, PyTorch and scikit-learn compute.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use milwright::{
    Backend, Converter, Cpu, DType, ErrorKind, InferenceRequest, LoadOptions, Model, ModelInfo, Task, Tensor,
};
use serde_json::Value;

/// Largest difference, relative to the largest expected value of an output where that is above 1.
const TOLERANCE: f64 = 2e-5;

fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let paths = ["mlmodel", "mlmodelc"].map(|extension| folder.join(format!("{name}.{extension}")));
    let path = paths.iter().find(|path| path.exists()).unwrap();
    let model = Arc::new(Model::open(path).unwrap());
    assert!(model.info().runnable);
    let mut session = Cpu.session(&model, &LoadOptions { threads: 1, ..LoadOptions::default() }).unwrap();
    let cases = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    assert!(!cases.is_empty());
    for case in &cases {
        let inputs = case["inputs"].as_object().unwrap();
        let request = inputs
            .iter()
            .fold(InferenceRequest::new(), |request, (name, value)| request.input(name, tensor(value)));
        let prediction = session.predict(&request).unwrap();
        let expected = case["outputs"].as_object().unwrap();
        assert_eq!(prediction.outputs().len(), expected.len());
        for (output, expected) in expected {
            let found = prediction.output(output).unwrap_or_else(|| panic!("{name}: no output {output}"));
            match expected.as_str() {
                Some(label) => assert_eq!(found.strings(), [label], "{name}: {output}"),
                None => compare(&format!("{name}: {output}"), found, &tensor(expected)),
            }
        }
    }
}

/// A compiled network with a layer that nobody knows is described, and refused by the layer's name.
#[test]
fn compiled_layers_that_are_not_understood() {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/compiled_classifier.mlmodelc");
    for file in ["coremldata.bin", "model.espresso.net", "model.espresso.shape", "model.espresso.weights"] {
        std::fs::copy(from.join(file), folder.path().join(file)).unwrap();
    }
    let net = folder.path().join("model.espresso.net");
    let text = std::fs::read_to_string(&net).unwrap();
    let open = |from: &str, to: &str| {
        assert!(text.contains(from));
        std::fs::write(&net, text.replace(from, to)).unwrap();
        Model::open(folder.path()).unwrap_err()
    };
    let error = open("\"softmax\"", "\"hardmax\"");
    assert!(error.to_string().contains("layer `scores_layer` (hardmax)"), "{error}");
    assert!(error.hint().unwrap().contains("compiled from"));
    let info = ModelInfo::open(folder.path()).unwrap();
    assert_eq!((info.runnable, info.warnings.len()), (false, 1));
    assert_eq!(info.function(None).unwrap().inputs[0].name, "image");
    // A layer that would give another shape than the file says.
    let error = open("\"pad_mode\": 4", "\"pad_mode\": 2");
    assert!(error.to_string().contains("layer `conv_layer` (convolution)"), "{error}");
    assert!(error.to_string().contains("where the model says that the shape is [1, 1, 4, 9, 11]"), "{error}");
}

fn compare(what: &str, found: &Tensor, expected: &Tensor) {
    if found.dtype() != DType::Fp64 || !found.shape().is_empty() {
        assert_eq!(found.shape(), expected.shape(), "{what}");
    }
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let scale = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * scale, "{what}[{i}]: {a}, expected {b}");
    }
}

fn tensor(value: &Value) -> Tensor {
    let list = |key: &str| value[key].as_array().unwrap().clone();
    let shape: Vec<usize> = list("shape").iter().map(|d| d.as_u64().unwrap() as usize).collect();
    Tensor::from_vec(&shape, list("elements").iter().map(|x| x.as_f64().unwrap()).collect()).unwrap()
}

macro_rules! cases {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*
    };
}

cases! {
    convolution
    normalization
    recurrent
    resizing
    quantized
    control_flow
    classifier
    old_sequence
    flexible
    regressor
    tree_classifier
    pipeline
    compiled_classifier
    compiled_layers
    compiled_pipeline
}

/// Files with a few bytes changed: an error is a fine answer, and so is another model, but nothing else is.
#[test]
fn damaged_models_do_not_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    for name in ["regressor", "tree_classifier", "pipeline", "control_flow", "recurrent", "old_sequence"] {
        let bytes = std::fs::read(folder.join(format!("{name}.mlmodel"))).unwrap();
        for _ in 0..300 {
            let mut bytes = bytes.clone();
            for _ in 0..1 + next(3) {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
            let Ok(model) = Model::from_bytes(bytes.into(), &BTreeMap::new()) else { continue };
            if model.program().is_err()
                && let Ok(mut session) = Cpu.session(&Arc::new(model), &LoadOptions::default())
            {
                let x = Tensor::from_vec(&[4], vec![1.0f64, f64::NAN, -1.0, 0.0]).unwrap();
                drop(session.predict(&InferenceRequest::new().input("x", x)));
            }
        }
    }
}

/// Every network here as an ML program, against the same expected values. What conversion says that it cannot do is
/// listed, so that a network that is refused by mistake is seen.
#[test]
fn networks_as_ml_programs() {
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let mut converted = Vec::new();
    let mut refused = Vec::new();
    for entry in std::fs::read_dir(models).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !path.extension().is_some_and(|e| e == "mlmodel" || e == "mlmodelc") {
            continue;
        }
        let model = Arc::new(Model::open(&path).unwrap());
        if model.info().check(Task::Convert).is_err() {
            continue;
        }
        let output = folder.path().join(format!("{name}.mlpackage"));
        let report = match Converter::new().convert(&model, Some(&output), &mut |_| {}) {
            Ok(report) => report,
            Err(error) => {
                refused.push(format!("{name}: {error}"));
                continue;
            }
        };
        assert!(report.specification_version >= 6);
        let package = Arc::new(Model::open(&output).unwrap());
        assert_eq!(package.info().metadata, model.info().metadata, "{name}");
        assert_eq!(package.info().user_defined, model.info().user_defined, "{name}");
        let mut session = Cpu.session(&package, &LoadOptions::default()).unwrap();
        let cases = std::fs::read(path.with_extension("json")).unwrap();
        let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
        let mut fit = 0;
        for case in &cases {
            let inputs = case["inputs"].as_object().unwrap().iter();
            let request = inputs.fold(InferenceRequest::new(), |r, (n, value)| r.input(n, tensor(value)));
            let prediction = match session.predict(&request) {
                Ok(prediction) => prediction,
                // A sequence, or a batch, of what is declared: an ML program takes one.
                Err(error) if error.kind() == ErrorKind::InvalidInput => continue,
                Err(error) => panic!("{name}: {error}"),
            };
            fit += 1;
            for (output, expected) in case["outputs"].as_object().unwrap() {
                let found = prediction.output(output).unwrap_or_else(|| panic!("{name}: no output {output}"));
                match expected.as_str() {
                    Some(label) => assert_eq!(found.strings(), [label], "{name}: {output}"),
                    None => compare(&format!("{name}: {output}"), found, &tensor(expected)),
                }
            }
        }
        converted.push((name, fit));
    }
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(converted.iter().any(|(_, fit)| *fit > 0), "{converted:?}");
}
