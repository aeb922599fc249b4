//! Models that are computed by formulas, made by `classic/make.py`, against what scikit-learn, torchvision and formulas in
//! NumPy say.

mod cases;

use std::path::Path;
use std::sync::Arc;

use milwright::{Backend, Cpu, LoadOptions, Model, Prediction};
use serde_json::Value;

use cases::{Tolerance, check, request};

/// Arrays of fp32 are as near as their rounding allows.
const TOLERANCE: Tolerance = Tolerance { fp32: 1e-7, others: 1e-10 };

macro_rules! cases {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check(&folder().join(concat!(stringify!($name), ".mlmodel")), TOLERANCE);
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
            let Ok(mut session) = Cpu.session(&Arc::new(model), &LoadOptions::default()) else { continue };
            let request = request(&cases[next(cases.len())]["inputs"]);
            let prediction: Option<Prediction> = session.predict(&request).ok();
            drop(prediction);
        }
    }
}
