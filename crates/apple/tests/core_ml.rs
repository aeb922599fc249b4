//! The bridge on Core ML itself, with a model that ships with the project. Prints what it saw, for who reads the log of a
//! machine that is far away.
#![cfg(target_vendor = "apple")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use milwright_apple::{
    Array, Backing, Backings, ComputeUnits, Configuration, ElementType, ErrorKind, FeatureKind, Features,
    Model, Value, compile, compile_async, compute_plan, devices, system, wait,
};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(300));

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits.mlpackage")
}

/// The model, compiled, and gone afterwards.
struct Compiled(PathBuf);

impl Compiled {
    fn new() -> Compiled {
        Compiled(compile(&package()).unwrap())
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load(compute_units: ComputeUnits) -> (Compiled, Model) {
    let compiled = Compiled::new();
    let configuration = Configuration { compute_units, ..Configuration::default() };
    let model = Model::load(&compiled.0, &configuration).unwrap();
    (compiled, model)
}

/// One input of the model, all of one value, and the element type and shape that it has.
fn inputs(model: &Model) -> Features {
    let input = &model.description().unwrap().inputs[0];
    let FeatureKind::Array { element: Some(element), shape, .. } = &input.kind else {
        panic!("an input of another kind: {input:?}")
    };
    let len = shape.iter().product::<usize>() * element.size();
    let array = Array::new(*element, shape, vec![0; len].into()).unwrap();
    Features::from([(input.name.clone(), Value::Array(array))])
}

#[test]
fn this_system() {
    println!("core_ml: {}", system().unwrap());
    match devices() {
        Ok(devices) => println!("core_ml: {devices:?}"),
        Err(e) => assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}"),
    }
}

#[test]
fn compiling_both_ways() {
    drop(Compiled::new());
    match wait(PATIENCE, |done| compile_async(&package(), done)) {
        Ok(path) => drop(Compiled(path)),
        Err(e) => assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}"),
    }
    let e = compile(Path::new("/nowhere/at-all.mlpackage")).unwrap_err();
    println!("core_ml: {e}");
    assert!(matches!(e.kind(), ErrorKind::Framework | ErrorKind::Exception), "{e:?}");
}

#[test]
fn describing() {
    let (_compiled, model) = load(ComputeUnits::CpuOnly);
    let description = model.description().unwrap();
    println!("core_ml: {description:?}");
    assert_eq!(description.inputs[0].name, "image");
}

#[test]
fn predicting_in_every_way() {
    for units in [ComputeUnits::CpuOnly, ComputeUnits::All] {
        let (_compiled, mut model) = load(units);
        let inputs = inputs(&model);
        let plain = model.predict(&inputs, Backings::new()).unwrap();
        println!("core_ml: {units:?}: {plain:?}");
        let batch = model.predict_batch(&[inputs.clone(), inputs.clone()]).unwrap();
        assert_eq!(batch, [plain.clone(), plain.clone()]);
        match wait(PATIENCE, |done| model.predict_async(&inputs, Backings::new(), done)) {
            Ok(outputs) => assert_eq!(outputs, plain),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}"),
        }
        let mut backings = Backings::new();
        for (name, value) in &plain {
            if let Value::Array(array) = value {
                backings.insert(name.clone(), Backing::new(array.element(), array.shape()).unwrap());
            }
        }
        assert_eq!(model.predict(&inputs, backings).unwrap(), plain);
        let e = model.predict(&Features::new(), Backings::new()).unwrap_err();
        println!("core_ml: {e}");
        assert_eq!(e.domain(), Some("com.apple.CoreML"));
    }
}

#[test]
fn planning() {
    let compiled = Compiled::new();
    match wait(PATIENCE, |done| compute_plan(&compiled.0, &Configuration::default(), done)) {
        Ok(plan) => {
            for op in &plan.ops {
                println!("core_ml: {op:?}");
            }
            assert!(!plan.ops.is_empty());
        }
        Err(e) => assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}"),
    }
}

#[test]
fn loading_again_and_again() {
    let compiled = Compiled::new();
    for _ in 0..20 {
        let mut model = Model::load(&compiled.0, &Configuration::default()).unwrap();
        let inputs = inputs(&model);
        model.predict(&inputs, Backings::new()).unwrap();
    }
    let wrong = Array::new(ElementType::Float64, &[1], vec![0; 8].into()).unwrap();
    let mut model = Model::load(&compiled.0, &Configuration::default()).unwrap();
    let wrong = Features::from([("image".to_owned(), Value::Array(wrong))]);
    println!("core_ml: {}", model.predict(&wrong, Backings::new()).unwrap_err());
}
