//! Models that are computed by formulas, made by `classic/make.py`, against what scikit-learn, torchvision and formulas in
//! NumPy say.

use std::path::Path;
use std::sync::Arc;

use milwright::{Backend, Cpu, DType, Dictionary, InferenceRequest, LoadOptions, Model, Prediction, Tensor};
use serde_json::Value;

/// Largest difference, relative to the largest expected value of an output where that is above 1. Arrays of fp32 are as
/// near as their rounding allows.
const TOLERANCE: f64 = 1e-10;
const TOLERANCE_FP32: f64 = 1e-7;

macro_rules! cases {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*
    };
}

cases! {
    boosted
    boosted_numbers
    detector
    detector_of_all
    detector_of_five_to_twelve
    detector_of_ten
    fill_dictionary
    fill_numbers
    fill_text
    forest
    line_of_two
    lines_one_versus_rest
    mapping_of_sequence
    mapping_to_text
    neighbors_by_distance
    neighbors_in_a_tree
    neighbors_one_by_one
    no_neighbors
    numbered_words
    nusvc_many_probability
    nusvr
    one_hot
    one_hot_sparse
    one_hot_text
    svc_linear
    svc_poly_many
    svc_rbf_probability
    svc_sigmoid_many_probability
    svc_sparse
    svr
    thresholding
    trees_of_three_classes
    trees_of_two_numbers
    trees_with_a_reference
    words
    words_to_array
}

#[test]
fn every_model_has_a_test() {
    let folder = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> =
        folder.filter_map(|f| f.strip_suffix(".mlmodel").map(str::to_owned)).collect();
    found.sort();
    assert_eq!(found, NAMES);
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/classic"))
}

fn check(name: &str) {
    let model = Arc::new(Model::open(folder().join(format!("{name}.mlmodel"))).unwrap());
    assert!(model.info().runnable);
    let mut session = Cpu.load(&model, &LoadOptions { threads: 1, ..LoadOptions::default() }).unwrap();
    let cases = std::fs::read(folder().join(format!("{name}.json"))).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    assert!(!cases.is_empty());
    let probabilities = model.info().function(None).unwrap().predicted_probabilities.clone();
    for (i, case) in cases.iter().enumerate() {
        let prediction = session.predict(&request(&case["inputs"])).unwrap();
        let expected = case["outputs"].as_object().unwrap();
        let names: Vec<&String> = prediction.outputs().iter().map(|(n, _)| n).collect();
        assert_eq!(names.len(), expected.len(), "{name}: {names:?}");
        for (output, expected) in expected {
            let found = prediction.output(output).unwrap_or_else(|| panic!("{name}: no output {output}"));
            let keys = match probabilities.as_ref() == Some(output) {
                true => prediction.classes(),
                false => prediction.keys(output),
            };
            compare(&format!("{name}, case {i}: {output}"), found, keys, expected);
        }
    }
}

fn request(inputs: &Value) -> InferenceRequest {
    let inputs = inputs.as_object().unwrap();
    inputs.iter().fold(InferenceRequest::new(), |request, (name, value)| {
        if value.get("keys").is_none() {
            return request.input(name, tensor(value));
        }
        let entries = list(value, "keys").into_iter().zip(list(value, "values"));
        let entries: Vec<(Value, f64)> = entries.map(|(k, v)| (k, number(&v))).collect();
        let dictionary =
            match entries.iter().map(|(k, v)| Some((k.as_i64()?, *v))).collect::<Option<Vec<_>>>() {
                Some(entries) => Dictionary::from_ints(entries),
                None => Dictionary::from_strings(entries.iter().map(|(k, v)| (k.as_str().unwrap(), *v))),
            };
        request.dictionary(name, dictionary)
    })
}

fn tensor(value: &Value) -> Tensor {
    if let Some(text) = value.get("text") {
        return Tensor::string(text.as_str().unwrap());
    }
    if let Some(n) = value.get("int") {
        return Tensor::scalar(n.as_i64().unwrap());
    }
    if value.get("texts").is_some() {
        let texts: Vec<String> =
            list(value, "texts").iter().map(|t| t.as_str().unwrap().to_owned()).collect();
        return Tensor::from_strings(&[texts.len()], texts).unwrap();
    }
    if value.get("ints").is_some() {
        let ints: Vec<i64> = list(value, "ints").iter().map(|n| n.as_i64().unwrap()).collect();
        return Tensor::from_vec(&[ints.len()], ints).unwrap();
    }
    let shape: Vec<usize> = list(value, "shape").iter().map(|d| d.as_u64().unwrap() as usize).collect();
    Tensor::from_vec(&shape, list(value, "elements").iter().map(number).collect::<Vec<f64>>()).unwrap()
}

fn list(value: &Value, key: &str) -> Vec<Value> {
    value[key].as_array().unwrap().clone()
}

/// JSON has no word for what is not a number.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn compare(what: &str, found: &Tensor, keys: Option<&Tensor>, expected: &Value) {
    if expected.get("keys").is_some() {
        let keys = keys.unwrap_or_else(|| panic!("{what} is no dictionary"));
        let found: Vec<(Value, f64)> = match keys.to_i64() {
            Some(ints) => ints.into_iter().map(Value::from).zip(found.to_f64()).collect(),
            None => keys.strings().iter().cloned().map(Value::from).zip(found.to_f64()).collect(),
        };
        let expected = list(expected, "keys").into_iter().zip(list(expected, "values"));
        let expected: Vec<(Value, f64)> = expected.map(|(k, v)| (k, number(&v))).collect();
        assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
        for (key, value) in &expected {
            let (_, found) =
                found.iter().find(|(k, _)| k == key).unwrap_or_else(|| panic!("{what}: no {key}"));
            assert!((found - value).abs() <= TOLERANCE, "{what}[{key}]: {found}, expected {value}");
        }
        return;
    }
    let expected = tensor(expected);
    let is_exact = matches!(expected.dtype(), DType::String | DType::Int64);
    if is_exact {
        assert_eq!(found, &expected, "{what}");
        return;
    }
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let tolerance = if found.dtype() == DType::Fp32 { TOLERANCE_FP32 } else { TOLERANCE };
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let scale = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}[{i}]: {a}, expected {b}");
    }
}

/// Bytes changed here and there: an error is a fine answer, and so is another model, but nothing else is.
#[test]
fn damaged_models_do_not_panic() {
    let mut random = 7u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    for name in NAMES {
        let bytes = std::fs::read(folder().join(format!("{name}.mlmodel"))).unwrap();
        let cases = std::fs::read(folder().join(format!("{name}.json"))).unwrap();
        let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
        for _ in 0..150 {
            let mut bytes = bytes.clone();
            for _ in 0..1 + next(3) {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
            let Ok(model) = Model::from_bytes(bytes.into(), &Default::default()) else { continue };
            let Ok(mut session) = Cpu.load(&Arc::new(model), &LoadOptions::default()) else { continue };
            let request = request(&cases[next(cases.len())]["inputs"]);
            let prediction: Option<Prediction> = session.predict(&request).ok();
            drop(prediction);
        }
    }
}
