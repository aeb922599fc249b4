//! What descriptions say of the models that `models/make.py` makes. The counts are those of its shapes.

use std::path::Path;

use milwright::{ClassLabels, ColorSpace, FeatureType, Model, ModelInfo};

fn info(name: &str) -> ModelInfo {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(format!("{name}.mlmodel"));
    let info = ModelInfo::open(&path).unwrap();
    // What a model that runs says of itself is the same.
    let opened = Model::open(&path).unwrap();
    assert_eq!(opened.info().storage, info.storage);
    info
}

#[test]
fn parameters_of_networks() {
    // Two layers of 4 x 6 with 4 biases: 24 and 4 numbers of 3 bits with 8 entries, of 4 bits with scales and biases.
    let quantized = info("quantized").storage;
    assert_eq!(quantized.parameters, 2 * (24 + 4));
    let forms: Vec<&str> = quantized.forms.iter().map(|f| f.form.as_str()).collect();
    assert!(forms.contains(&"palettized 3-bit") && forms.contains(&"linear 4-bit"), "{forms:?}");
    // A bidirectional LSTM of 3 and 5, four states of 2 x 5, and a GRU of 3 and 5.
    let (lstm, states, gru) = (2 * 4 * (5 * 3 + 5 * 5 + 5), 4 * 2 * 5, 3 * (5 * 3 + 5 * 5 + 5));
    let recurrent = info("recurrent").storage;
    assert_eq!(recurrent.parameters, lstm + states + gru);
    assert_eq!(recurrent.bytes, 4 * recurrent.parameters);
}

#[test]
fn a_classifier_with_an_image() {
    let info = info("classifier");
    assert_eq!(info.storage.parameters, 3 * 12 + 3);
    let function = info.function(None).unwrap();
    let labels = ["cat", "dog", "eel"].map(str::to_owned).to_vec();
    assert_eq!(function.classes, Some(ClassLabels::Text(labels)));
    // A matrix of 3 x 12.
    assert_eq!(function.multiply_adds, Some(36));
    let image = &function.inputs[0];
    assert!(matches!(&image.ty, FeatureType::Image { color, .. } if *color == ColorSpace::Bgr));
    let scaling = image.preprocessing.as_ref().unwrap();
    assert_eq!((&scaling.scale[..], &scaling.bias[..]), (&[0.5][..], &[-3.0, -2.0, -1.0][..]));
}

#[test]
fn systems_of_specification_versions() {
    // Of coremltools' deployment targets: version 1 is iOS 11 and macOS 10.13.
    let needs = info("tree_classifier").needs.unwrap();
    assert_eq!((needs.ios.as_str(), needs.macos.as_str()), ("11", "10.13"));
}
