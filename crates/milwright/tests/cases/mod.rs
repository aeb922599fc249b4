//! Models and what they are to give, in the form that `classic/make.py` describes.

use std::path::Path;
use std::sync::Arc;

use milwright::{Backend, Cpu, DType, Dictionary, InferenceRequest, LoadOptions, Model, Tensor};
use serde_json::Value;

/// Largest difference, relative to the largest expected value of an output where that is above 1.
#[derive(Clone, Copy)]
pub struct Tolerance {
    pub fp32: f64,
    pub others: f64,
}

/// The model gives what the file beside it says.
pub fn check(path: &Path, tolerance: Tolerance) {
    check_as(path, path, tolerance);
}

/// The model at `path` gives what the file beside the model at `original` says.
pub fn check_as(path: &Path, original: &Path, tolerance: Tolerance) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let model = Arc::new(Model::open(path).unwrap());
    assert!(model.info().runnable);
    let mut session = Cpu.session(&model, &LoadOptions { threads: 1, ..LoadOptions::default() }).unwrap();
    let cases = std::fs::read(original.with_extension("json")).unwrap();
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
            compare(&format!("{name}, case {i}: {output}"), found, keys, expected, tolerance);
        }
    }
}

pub fn request(inputs: &Value) -> InferenceRequest {
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

fn compare(what: &str, found: &Tensor, keys: Option<&Tensor>, expected: &Value, tolerance: Tolerance) {
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
            assert!((found - value).abs() <= tolerance.others, "{what}[{key}]: {found}, expected {value}");
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
    let tolerance = if found.dtype() == DType::Fp32 { tolerance.fp32 } else { tolerance.others };
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let scale = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}[{i}]: {a}, expected {b}");
    }
}
