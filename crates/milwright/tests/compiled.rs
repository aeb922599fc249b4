//! A compiled model is as good as the package that it was compiled from.

use std::sync::Arc;

use milwright::{
    Backend, Cpu, LoadOptions, Model, ModelInfo, Optimizer, Quantization, Samples, Snr, compare,
};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits.mlpackage");

#[test]
fn the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits.mlmodelc");
    let package = Arc::new(Model::open(DIGITS).unwrap());
    package.compile_to(&path).unwrap();
    let compiled = Arc::new(Model::open(&path).unwrap());
    assert_eq!(compiled.info(), package.info());
    assert_eq!(ModelInfo::open(&path).unwrap(), ModelInfo::open(DIGITS).unwrap());
    assert_ne!(compiled.digest(), package.digest());
    assert!(compiled.size() > 340_000);

    let samples = Samples::draw(&package, None, 0, 2).unwrap();
    for request in &samples.requests {
        let options = LoadOptions::default();
        let [a, b] = [&package, &compiled].map(|m| Cpu.load(m, &options).unwrap().predict(request).unwrap());
        assert_eq!(a.outputs(), b.outputs());
    }
}

#[test]
fn can_be_optimized_to_a_package() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits.mlmodelc");
    Model::open(DIGITS).unwrap().compile_to(&path).unwrap();
    let compiled = Arc::new(Model::open(&path).unwrap());
    let optimizer = Optimizer::new().quantization(Quantization::Int8).tolerance(20.0);
    let out = folder.path().join("small.mlpackage");
    optimizer.optimize(&compiled, Some(&out), &mut |_| {}).unwrap();
    let small = Arc::new(Model::open(&out).unwrap());
    assert!(small.size() < compiled.size() / 3);
    assert_eq!(small.info().metadata, compiled.info().metadata);

    // And that compiled: the same again.
    let again = folder.path().join("small.mlmodelc");
    small.compile_to(&again).unwrap();
    let again = Arc::new(Model::open(&again).unwrap());
    let samples = Samples::draw(&small, None, 0, 2).unwrap();
    let options = LoadOptions::default();
    let found = compare(&small, &again, None, &samples, &options, &mut || {}).unwrap();
    assert!(found.outputs.iter().all(|o| o.snr_db == Snr::Equal && o.faults.is_empty()), "{found:?}");

    let error = optimizer.optimize(&small, Some(&path), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("the result is a package"), "{error}");
}
