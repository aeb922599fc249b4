//! Pipelines that mix models of all kinds, made by `pipelines/make.py`, against what NumPy, PyTorch, torchvision and
//! scikit-learn say.

mod cases;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use milwright::{
    Backend, Converter, Cpu, ErrorKind, InferenceRequest, LoadOptions, Measure, Model, ModelInfo, Optimizer,
    PredictOptions, Quantization, SampleSource, Samples, State, Task, Tensor, compare,
};
use milwright_formats::Package;
use milwright_formats::proto::{self as pb, model::Type};

use cases::{Tolerance, check, check_as};

/// Networks and programs compute in single precision, and what comes after them is as near as that.
const TOLERANCE: Tolerance = Tolerance { fp32: 2e-5, others: 2e-5 };

macro_rules! cases {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check(&path(stringify!($name)), TOLERANCE);
            }
        )*
    };
}

cases! {
    classes_within
    colors_network_trees
    detector
    image_trees
    nested
    networks
    skips
    states
    table_of_words
    vector_classifier
    words_program_line
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pipelines"))
}

fn path(name: &str) -> PathBuf {
    let paths = ["mlmodel", "mlpackage"].map(|extension| folder().join(format!("{name}.{extension}")));
    paths.into_iter().find(|path| path.exists()).unwrap()
}

#[test]
fn every_model_has_a_test() {
    let folder = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path());
    let models = folder.filter(|path| path.extension().is_some_and(|e| e == "mlmodel" || e == "mlpackage"));
    let mut found: Vec<String> =
        models.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    found.sort();
    assert_eq!(found, NAMES);
}

fn open(name: &str) -> Arc<Model> {
    Arc::new(Model::open(path(name)).unwrap())
}

/// Each is compared with itself on drawn inputs, on which every output says something.
#[test]
fn every_pipeline_is_judged() {
    for name in NAMES {
        let model = open(name);
        let samples = Samples::draw(&model, None, 0, 8).unwrap();
        let found = compare(&model, &model, None, &samples, &LoadOptions::default(), &mut || ()).unwrap();
        assert_eq!(found.failures(100.0), Vec::<String>::new(), "{name}");
        let declared = &model.info().function(None).unwrap().outputs;
        assert!(declared.iter().all(|d| found.outputs.iter().any(|o| o.name == d.name)), "{name}");
    }
}

/// As ML programs they give what their references say; so do the ones that are also compiled.
#[test]
fn as_ml_programs_they_give_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let model = open(name);
        let output = folder.path().join(format!("{name}.mlpackage"));
        if let Err(error) = model.info().check(Task::Convert) {
            panic!("{name}: {error}");
        }
        Converter::new().convert(&model, Some(&output), &mut |_| {}).unwrap();
        check_as(&output, &path(name), TOLERANCE);
        let converted = Model::open(&output).unwrap();
        assert!(types(converted.info()).iter().all(|t| !t.starts_with("neuralNetwork")), "{name}");
        // The pipeline itself, and what is no network, keep their types.
        let kept: Vec<String> = types(model.info())
            .iter()
            .map(|t| if t.starts_with("neuralNetwork") { "mlProgram".into() } else { t.clone() })
            .collect();
        assert_eq!(types(converted.info()), kept, "{name}");
        let compiled = folder.path().join(format!("{name}.mlmodelc"));
        if converted.compile_to(&compiled).is_ok() {
            check_as(&compiled, &path(name), TOLERANCE);
        }
    }
    assert!(folder.path().join("networks.mlmodelc").is_dir());
}

/// The types of a model and all that it is made of.
fn types(info: &ModelInfo) -> Vec<String> {
    let parts = info.pipeline.iter().flat_map(types);
    std::iter::once(info.model_type().to_owned()).chain(parts).collect()
}

/// Where a pipeline is optimized, the models that are not programs are the same messages as before.
#[test]
fn what_is_no_program_is_carried_over() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        for quantization in [Quantization::None, Quantization::Float16, Quantization::Int8] {
            let model = open(name);
            let output = folder.path().join(format!("{name}.mlpackage"));
            // Trees jump: how near a result is to be is no matter here.
            let optimizer = Optimizer::new().quantization(quantization).tolerance(milwright::Tolerance::None);
            match optimizer.optimize(&model, Some(&output), &mut |_| {}) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Tolerance => continue,
                Err(error) => panic!("{name}: {error}"),
            }
            let before = Package::open(path(name)).unwrap();
            let after = Package::open(&output).unwrap();
            let (before, after) = (others(before.model()), others(after.model()));
            assert_eq!(before, after, "{name}");
        }
    }
}

/// The models in a pipeline that are neither programs nor networks.
fn others(model: &pb::Model) -> Vec<pb::Model> {
    let parts = match model.r#type.as_ref().unwrap() {
        Type::Pipeline(p) => &p.models,
        Type::PipelineClassifier(p) => &p.pipeline.as_ref().unwrap().models,
        Type::PipelineRegressor(p) => &p.pipeline.as_ref().unwrap().models,
        Type::MlProgram(_) | Type::NeuralNetwork(_) | Type::NeuralNetworkClassifier(_) => return Vec::new(),
        // Its features are declared as the programs beside it have them.
        _ => return vec![pb::Model { description: None, ..model.clone() }],
    };
    parts.iter().flat_map(others).collect()
}

/// Core ML wants what a model of a pipeline gives to be of the type that those after it take: the same kind of feature, and of
/// arrays the same elements and shape. Programs know no doubles, networks do.
#[test]
fn what_a_model_gives_is_of_the_type_that_others_take() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let original = Package::open(path(name)).unwrap();
        assert_eq!(misfits(original.model()), Vec::<String>::new(), "{name}");
        let output = folder.path().join(format!("{name}.mlpackage"));
        Converter::new().convert(&open(name), Some(&output), &mut |_| {}).unwrap();
        let converted = Package::open(&output).unwrap();
        assert_eq!(misfits(converted.model()), Vec::<String>::new(), "{name} as ML programs");
    }
}

/// Features of a pipeline and those in it that are not of the type that they have been given.
fn misfits(model: &pb::Model) -> Vec<String> {
    let parts = match model.r#type.as_ref().unwrap() {
        Type::Pipeline(p) => &p.models,
        Type::PipelineClassifier(p) => &p.pipeline.as_ref().unwrap().models,
        Type::PipelineRegressor(p) => &p.pipeline.as_ref().unwrap().models,
        _ => return Vec::new(),
    };
    let key = |f: &pb::FeatureDescription| match f.r#type.as_ref().unwrap().r#type.as_ref().unwrap() {
        pb::feature_type::Type::MultiArrayType(a) => format!("array of {} {:?}", a.data_type, a.shape),
        other => format!("{:?}", std::mem::discriminant(other)),
    };
    let mut found: Vec<String> = parts.iter().flat_map(misfits).collect();
    let description = |m: &pb::Model| m.description.as_deref().unwrap().clone();
    let mut known: std::collections::BTreeMap<String, String> =
        description(model).input.iter().map(|f| (f.name.clone(), key(f))).collect();
    let mut take = |known: &std::collections::BTreeMap<String, String>,
                    features: &[pb::FeatureDescription]| {
        for feature in features.iter().filter(|f| known.get(&f.name) != Some(&key(f))) {
            found.push(format!("{}: {} for {:?}", feature.name, key(feature), known.get(&feature.name)));
        }
    };
    for part in parts {
        take(&known, &description(part).input);
        known.extend(description(part).output.iter().map(|f| (f.name.clone(), key(f))));
    }
    take(&known, &description(model).output);
    found
}

/// What is in the way of compiling is named, and a remedy only if it is one: converting networks is no help beside trees.
#[test]
fn compiling_names_what_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |name: &str| {
        let error = open(name).compile_to(folder.path().join("m.mlmodelc")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        // Behind the file's path.
        (error.to_string().split_once(": ").unwrap().1.to_owned(), error.hint().unwrap().to_owned())
    };
    let (message, hint) = refusal("skips");
    assert!(message.starts_with("model 2 of the pipeline: a model of type scaler,"), "{message}");
    assert!(hint.contains("on a Mac"), "{hint}");
    let (message, hint) = refusal("nested");
    assert!(message.contains("`front`: model 1 of the pipeline: a model of type scaler,"), "{message}");
    assert!(hint.contains("on a Mac"), "{hint}");
    let (message, hint) = refusal("networks");
    assert!(
        message.starts_with("model 1 of the pipeline, `front`: a model of type neuralNetwork,"),
        "{message}"
    );
    assert!(hint.contains("milwright convert"), "{hint}");
    let (message, hint) = refusal("image_trees");
    assert!(
        message.starts_with("model 2 of the pipeline: a model of type arrayFeatureExtractor,"),
        "{message}"
    );
    assert!(hint.contains("on a Mac"), "{hint}");
}

/// The layout is that of a file of Core ML's compiler: a classifier of a feature vectorizer and trees, specification version 1.
#[test]
fn compiled_vectorizers_are_their_specification() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = folder.path().join("m.mlmodelc");
    let model = open("vector_classifier");
    model.compile_to(&compiled).unwrap();
    check_as(&compiled, &path("vector_classifier"), TOLERANCE);
    assert_eq!(Model::open(&compiled).unwrap().info(), model.info());

    let original = Package::open(path("vector_classifier")).unwrap();
    let Some(Type::PipelineClassifier(classifier)) = &original.model().r#type else { panic!() };
    let vectorizer = &classifier.pipeline.as_ref().unwrap().models[0];
    let mut expected = vec![0x5a, 2, 0, 0, 1];
    expected.resize(0x1c, 0);
    expected.extend(b"\x04\0\0\0\0\0\0\0spec\x01");
    expected.resize(0x48, 0);
    expected.extend(prost::Message::encode_to_vec(vectorizer));
    assert_eq!(std::fs::read(compiled.join("model0/coremldata.bin")).unwrap(), expected);
    assert!(!compiled.join("model0/analytics").exists());

    let header = std::fs::read(compiled.join("coremldata.bin")).unwrap();
    assert_eq!(header[..0x1c], *[&[200, 0, 0, 0, 1][..], &[0; 15], &[1, 0, 0, 0, 0, 0, 0, 0]].concat());
    let label = b"generic.model0v1.0.0spec.model1v7.0.0generic";
    assert_eq!(header[0x24..0x24 + label.len()], *label);
    assert!(header.ends_with(b"\x02\0\0\0\0\0\0\0\xc8\0\0\0\0\0\0\0"));
    let metadata = std::fs::read_to_string(compiled.join("metadata.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let kind = serde_json::json!({ "name": "MLModelType_pipelineClassifier", "structure": [
        { "name": "MLModelType_featureVectorizer" }, { "name": "MLModelType_mlProgram" },
    ] });
    assert_eq!(metadata[0]["modelType"], kind);

    // Trees are kept in another way: what the pipeline takes and gives is said, and what is not understood is named.
    let trees = folder.path().join("m.mlmodelc/model0/coremldata.bin");
    let mut header = std::fs::read(compiled.join("model1/coremldata.bin")).unwrap();
    header[..4].copy_from_slice(&402u32.to_le_bytes());
    std::fs::write(&trees, header).unwrap();
    let error = Model::open(&compiled).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("model0: a model of type treeEnsembleClassifier,"), "{error}");
    let info = ModelInfo::open(&compiled).unwrap();
    assert_eq!(types(&info), ["pipelineClassifier", "treeEnsembleClassifier", "mlProgram"]);
    assert!(!info.runnable && info.warnings.len() == 1);
    // A specification of another type than the header says, cut off, or damaged, is an error.
    for at in [0, 0x24, 0x48, 0x50, expected.len() - 1] {
        let mut damaged = expected.clone();
        damaged[at] ^= 1;
        std::fs::write(&trees, &damaged).unwrap();
        let _ = Model::open(&compiled);
        std::fs::write(&trees, &damaged[..at]).unwrap();
        assert!(Model::open(&compiled).is_err());
    }
}

/// A regressor predicts a quantity, which is measured as one, whatever models lead to it.
#[test]
fn predicted_quantities_are_numbers() {
    for (name, output) in [("image_trees", "weight"), ("words_program_line", "price")] {
        let model = open(name);
        let samples = Samples::draw(&model, None, 0, 4).unwrap();
        let found = compare(&model, &model, None, &samples, &LoadOptions::default(), &mut || ()).unwrap();
        assert_eq!(
            found.outputs.iter().find(|o| o.name == output).unwrap().measure,
            Measure::Numbers,
            "{name}"
        );
    }
}

/// The thresholds of a detector are left out of every second set, and said to be.
#[test]
fn thresholds_are_drawn_around_the_model_s() {
    let samples = Samples::draw(&open("detector"), None, 0, 4).unwrap();
    let given: Vec<usize> = samples.requests.iter().map(|r| r.inputs().len()).collect();
    assert_eq!(given, [1, 3, 1, 3]);
    let SampleSource::Drawn { ranges, .. } = &samples.source else { panic!() };
    assert_eq!(ranges["least"], "left out, or 0.0000 to 0.6000");
    assert_eq!(ranges["iou"], "left out, or 0.4500 to 1.0000");
}

/// States of models in a pipeline are states of the pipeline: whoever has them decides what shares them, and they are compared.
#[test]
fn states_of_models_are_states_of_the_pipeline() {
    let model = open("states");
    let mut session = Cpu.session(&model, &LoadOptions::default()).unwrap();
    let mut state = session.new_state();
    assert_eq!(state.names(), ["model 1 of the pipeline: sum", "model 3 of the pipeline: sum"]);
    let x = || InferenceRequest::new().input("x", Tensor::from_vec(&[3], vec![1f32, 2.0, -4.0]).unwrap());
    let first = session.predict(&x()).unwrap();
    let mut run = |state: &mut State| {
        let options = PredictOptions { state: Some(state), ..PredictOptions::default() };
        session.predict_with(&x(), options).unwrap()
    };
    assert_eq!(run(&mut state), first, "the session's own states are others");
    assert_ne!(run(&mut state), first);
    assert_eq!(state.read("model 1 of the pipeline: sum").unwrap().to_f64(), [1.5, 3.0, -6.0]);
    let samples = Samples::draw(&model, None, 0, 4).unwrap();
    let found = compare(&model, &model, None, &samples, &LoadOptions::default(), &mut || ()).unwrap();
    let names: Vec<&str> = found.outputs.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["c", "a", "model 1 of the pipeline: sum", "model 3 of the pipeline: sum"]);
}

#[test]
fn errors_name_the_model_of_the_pipeline() {
    let predict = |request: InferenceRequest| {
        let mut session = Cpu.session(&open("nested"), &LoadOptions::default()).unwrap();
        let error = session.predict(&request).unwrap_err();
        assert!(error.path().unwrap().ends_with("nested.mlpackage"));
        error.to_string().split_once(": ").unwrap().1.to_owned()
    };
    let message = predict(InferenceRequest::new());
    assert_eq!(message, "the input `x` is missing");
    let message =
        predict(InferenceRequest::new().input("x", Tensor::from_vec(&[2], vec![1f64, 2.0]).unwrap()));
    assert!(
        message.starts_with("model 1 of the pipeline, `front`: model 1 of the pipeline: the input `x`"),
        "{message}"
    );
}
