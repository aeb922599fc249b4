//! Compiled neural networks: what is understood, what is refused, and what is damaged.

use std::fs;
use std::path::{Path, PathBuf};

use milwright_formats::proto::{
    ArrayFeatureType, FeatureDescription, FeatureType, ImageFeatureType, ModelDescription, feature_type,
    model, neural_network_classifier::ClassLabels, neural_network_layer::Layer,
};
use milwright_formats::{Error, ErrorKind, Package};
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;

const NETWORK: u32 = 500;
const CLASSIFIER: u32 = 403;
const PIPELINE: u32 = 202;

/// The files of a compiled network, which are damaged one by one.
#[derive(Clone)]
struct Files {
    header: Vec<u8>,
    net: Value,
    shape: Value,
    weights: Vec<u8>,
}

impl Files {
    /// A matrix of 2 × 3 and a bias, of a vector of 3.
    fn good() -> Files {
        let layer = json!({
            "type": "inner_product", "name": "m", "bottom": "x", "top": "y", "nB": 3, "nC": 2, "has_biases": 1,
            "has_relu": 0, "has_tanh": 0, "has_prelu": 0, "blob_weights": 3, "blob_biases": 1, "weights": {},
        });
        let blobs: [(u64, Vec<f32>); 3] =
            [(1, vec![0.5, -0.5]), (2, vec![]), (3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
        let data = blobs.each_ref().map(|(_, x)| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        let mut weights = 3u64.to_le_bytes().to_vec();
        for ((number, _), data) in blobs.iter().zip(&data) {
            weights.extend(number.to_le_bytes());
            weights.extend((data.len() as u64).to_le_bytes());
        }
        weights.extend(data.concat());
        Files {
            header: header(NETWORK, &[]),
            net: json!({ "format_version": 200, "storage": "model.espresso.weights", "layers": [layer] }),
            shape: json!({ "layer_shapes": {
                "x": { "k": 1, "h": 1, "w": 3, "n": 1, "_rank": 1 }, "y": { "k": 1, "h": 1, "w": 2, "n": 1, "_rank": 1 },
            } }),
            weights,
        }
    }

    fn write(&self, folder: &Path) {
        let _ = fs::create_dir(folder);
        fs::write(folder.join("coremldata.bin"), &self.header).unwrap();
        fs::write(folder.join("model.espresso.net"), self.net.to_string()).unwrap();
        fs::write(folder.join("model.espresso.shape"), self.shape.to_string()).unwrap();
        fs::write(folder.join("model.espresso.weights"), &self.weights).unwrap();
    }

    fn open(&self) -> Result<Package, Error> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        Package::open(folder.path())
    }

    /// Sets an attribute of the layer.
    fn with(mut self, key: &str, value: Value) -> Files {
        self.net["layers"][0][key] = value;
        self
    }
}

fn array(name: &str, shape: &[i64]) -> FeatureDescription {
    let array = ArrayFeatureType { shape: shape.to_vec(), data_type: 65568, ..ArrayFeatureType::default() };
    let ty =
        FeatureType { r#type: Some(feature_type::Type::MultiArrayType(array)), ..FeatureType::default() };
    FeatureDescription { name: name.into(), r#type: Some(ty), ..FeatureDescription::default() }
}

fn header(code: u32, rest: &[u8]) -> Vec<u8> {
    header_of(code, array("x", &[3]), rest)
}

fn header_of(code: u32, input: FeatureDescription, rest: &[u8]) -> Vec<u8> {
    let description = ModelDescription {
        input: vec![input],
        output: vec![array("y", &[2])],
        ..ModelDescription::default()
    };
    let sized = |data: &mut Vec<u8>, bytes: &[u8]| {
        data.extend((bytes.len() as u64).to_le_bytes());
        data.extend(bytes);
    };
    let mut data = code.to_le_bytes().to_vec();
    data.extend([0; 24]);
    sized(&mut data, b"generic");
    data.extend(4u32.to_le_bytes());
    data.extend([0; 28]);
    sized(&mut data, &description.encode_to_vec());
    data.extend(rest);
    data
}

/// What follows the description of a classifier.
fn labels(kind: u64, labels: &[&[u8]], name: &str) -> Vec<u8> {
    let mut data = u64::from(CLASSIFIER).to_le_bytes().to_vec();
    data.extend(kind.to_le_bytes());
    data.extend((labels.len() as u64).to_le_bytes());
    labels.iter().for_each(|label| data.extend(*label));
    data.extend((name.len() as u64).to_le_bytes());
    data.extend(name.as_bytes());
    data
}

#[track_caller]
fn refused(files: &Files, kind: ErrorKind, message: &str) {
    let error = files.open().expect_err(message);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(message), "{error}");
    if kind == ErrorKind::Unsupported {
        assert!(error.hint().unwrap_or_default().contains("compiled from"), "{:?}", error.hint());
    }
}

/// The model is described, and its layer is not understood.
#[track_caller]
fn unread(files: &Files, message: &str) {
    let package = files.open().unwrap_or_else(|error| panic!("{message}: {error}"));
    let [layer] = package.unread_layers() else { panic!("{message}: {:?}", package.unread_layers()) };
    assert!(layer.starts_with("layer `m` (") && layer.contains(message), "{layer}");
    assert_eq!(package.model().description.as_ref().unwrap().input[0].name, "x");
}

#[test]
fn a_network_becomes_the_one_of_the_specification() {
    let package = Files::good().open().unwrap();
    assert!(package.unread_layers().is_empty());
    let Some(model::Type::NeuralNetwork(network)) = &package.model().r#type else { panic!() };
    let [layer] = &network.layers[..] else { panic!() };
    let Some(Layer::InnerProduct(matrix)) = &layer.layer else { panic!() };
    assert_eq!((&layer.input[..], &layer.output[..]), (&["x".to_owned()][..], &["y".to_owned()][..]));
    assert_eq!(matrix.weights.as_ref().unwrap().float_value, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(matrix.bias.as_ref().unwrap().float_value, [0.5, -0.5]);
    assert_eq!((layer.output_tensor[0].rank, &layer.output_tensor[0].dim_value[..]), (1, &[2][..]));
    // Spoken for by nobody: hints.
    assert!(
        Files::good().with("hint_fallback_from_ane", json!(1)).open().unwrap().unread_layers().is_empty()
    );
}

#[test]
fn class_labels() {
    let mut files = Files::good();
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    files.header = header(CLASSIFIER, &labels(100, &[&text("a"), &text("b, c")], "y"));
    let package = files.open().unwrap();
    let Some(model::Type::NeuralNetworkClassifier(network)) = &package.model().r#type else { panic!() };
    let Some(ClassLabels::StringClassLabels(found)) = &network.class_labels else { panic!() };
    assert_eq!(
        (&found.vector[..], &network.label_probability_layer_name[..]),
        (&["a".to_owned(), "b, c".to_owned()][..], "y")
    );
    files.header = header(CLASSIFIER, &labels(101, &[&(-7i64).to_le_bytes(), &[1; 8]], "y"));
    let package = files.open().unwrap();
    let Some(model::Type::NeuralNetworkClassifier(network)) = &package.model().r#type else { panic!() };
    let Some(ClassLabels::Int64ClassLabels(found)) = &network.class_labels else { panic!() };
    assert_eq!(found.vector, [-7, 0x0101_0101_0101_0101]);

    let malformed = ErrorKind::Malformed;
    for (rest, message) in [
        (vec![], "cut off"),
        (vec![0; 16], "0 is where the class labels should be"),
        (labels(102, &[], ""), "of the kind 102"),
        (labels(100, &[&u64::MAX.to_le_bytes()], ""), "cut off"),
        (labels(100, &[&text("\u{1}"), &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]], ""), "UTF-8"),
    ] {
        files.header = header(CLASSIFIER, &rest);
        refused(&files, malformed, message);
    }
    let mut many = labels(101, &[], "");
    many[16..24].fill(0xff);
    files.header = header(CLASSIFIER, &many);
    refused(&files, malformed, "class labels, in");
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let good = Files::good;
    unread(&good().with("type", json!("rnn_arch")), "(rnn_arch): layers of this type are not read");
    unread(&good().with("is_lookup", json!(1)), "`is_lookup` has no known meaning");
    unread(&good().with("has_prelu", json!(1)), "1 as its `has_prelu`");
    unread(&good().with("quantization_lut_weights_blob", json!(3)), "looked up in ranges");
    unread(&good().with("weights", json!({ "W_int4": 3 })), "W_int4");
    unread(&good().with("attributes", json!({ "is_output": 1, "is_odd": 1 })), "`is_odd`");
    unread(&good().with("has_biases", json!(0)), "says that it has none");
    let mut both = good().with("has_relu", json!(1)).with("has_tanh", json!(1));
    unread(&both, "at once");
    both.net["layers"][0]["has_tanh"] = json!(2);
    unread(&both, "2 as its `has_tanh`");
    let elementwise = |operation: i64, inputs: &str| {
        let mut files = good();
        files.net["layers"][0] = json!({
            "type": "elementwise", "name": "m", "bottom": inputs, "top": "y", "operation": operation, "alpha": 1,
            "beta": 0, "fused_relu": 0,
        });
        files
    };
    unread(&elementwise(33, "x"), "33 as its `operation`");
    unread(&elementwise(101, "x"), "101 as its `operation`");
    unread(&elementwise(0, "x"), "with 2 inputs, not with 1");
    unread(&elementwise(2, "x,x"), "with 1 inputs, not with 2");
    unread(&elementwise(0, "x,x").with("alpha", json!(2)), "2 as its `alpha`");
    unread(&elementwise(3, "x").with("beta", json!(0.5)), "0.5 as its `beta`");

    let unsupported = ErrorKind::Unsupported;
    let with = |key: &str, value: Value| {
        let mut files = good();
        files.net[key] = value;
        files
    };
    refused(&with("format_version", json!(300)), unsupported, "version 300");
    refused(&with("subnetworks", json!([])), unsupported, "`subnetworks`");
    refused(&with("storage", json!("../../other.weights")), unsupported, "not in model.espresso.weights");
    refused(&with("metadata_in_weights", json!([1])), unsupported, "metadata among its weights");
}

#[test]
fn compressed_networks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    Files::good().write(folder.path());
    for name in ["model.espresso.shape", "model.espresso.net"] {
        fs::write(folder.path().join(name), b"pbze\0\0\0\0bvx2").unwrap();
        let error = Package::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("compressed (pbze"), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.hint().unwrap().contains("compiled from"));
    }
}

#[test]
fn damaged_layers() {
    let good = Files::good;
    let malformed = ErrorKind::Malformed;
    refused(&good().with("blob_weights", json!(4)), malformed, "no blob 4");
    refused(&good().with("blob_weights", json!(-1)), malformed, "no blob -1");
    refused(&good().with("blob_weights", json!(2)), malformed, "too few");
    refused(&good().with("blob_weights", json!(1)), malformed, "too few for 6");
    refused(&good().with("nC", json!(1)), malformed, "where 3 elements of 4 are needed");
    refused(&good().with("nC", json!(0)), malformed, "its `nC` is 0");
    refused(&good().with("nB", json!(-3)), malformed, "its `nB` is -3");
    refused(&good().with("nB", json!(1u64 << 40)), malformed, "its `nB` is 1099511627776");
    refused(&good().with("nB", json!(2.5)), malformed, "its `nB` is 2.5");
    refused(&good().with("nB", json!("3")), malformed, "its `nB` is \"3\"");
    refused(&good().with("nB", json!([3])), malformed, "its `nB` is a list");
    refused(&good().with("nC", json!(i32::MAX)).with("nB", json!(i32::MAX)), malformed, "too few");
    refused(&good().with("top", json!("z")), malformed, "no shape of `z`");
    refused(&good().with("top", Value::Null), malformed, "`top` is missing");
    let mut files = good();
    files.net["layers"] = json!([1]);
    refused(&files, malformed, "not an object");
    files.net["layers"] = Value::Null;
    refused(&files, malformed, "no `layers`");
}

#[test]
fn damaged_shapes() {
    let files = |x: Value| {
        let mut files = Files::good();
        files.shape["layer_shapes"]["x"] = x;
        files
    };
    let malformed = ErrorKind::Malformed;
    for size in [json!(0), json!(-1), json!(1.5), json!(1e300), json!("3"), Value::Null] {
        refused(&files(json!({ "w": size, "_rank": 1 })), malformed, "the shape of `x`: its `w`");
    }
    refused(&files(json!({ "w": 3, "_rank": 6 })), malformed, "a rank that is not 1 to 5");
    refused(&files(json!({ "w": 3, "h": 2, "_rank": 1 })), malformed, "more dimensions than its rank");
    refused(&files(json!([3])), malformed, "not an object");
    refused(
        &files(json!({ "w": 4, "_rank": 1 })),
        malformed,
        "[4] in the network, and [3] in the description",
    );
    let mixed = files(json!({ "w": 3 })).open().unwrap_err();
    assert!(mixed.to_string().contains("some of the shapes have a rank"), "{mixed}");
    let mut none = Files::good();
    none.shape = json!({});
    refused(&none, malformed, "no `layer_shapes`");
}

#[test]
fn damaged_files() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, content: &[u8], kind: ErrorKind, message: &str| {
        Files::good().write(folder.path());
        fs::write(folder.path().join(name), content).unwrap();
        let error = Package::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(message) && error.to_string().contains(name), "{error}");
    };
    let (malformed, limit) = (ErrorKind::Malformed, ErrorKind::LimitExceeded);
    for name in ["model.espresso.net", "model.espresso.shape"] {
        open(name, b"", malformed, "not JSON");
        open(name, b"[]", malformed, "not a JSON object");
        open(name, &[b'['; 1 << 20], malformed, "recursion limit");
        open(name, &vec![b' '; (16 << 20) + 1], limit, "more than the limit");
    }
    open("model.espresso.net", b"{\"layers\": [{\"nB\": 1e999}]}", malformed, "not JSON");
    open("model.espresso.net", b"{\"layers\": [{\"nB\": NaN}]}", malformed, "not JSON");
    open("model.espresso.weights", b"", malformed, "cut off");
    open("model.espresso.weights", &[0xff; 64], malformed, "longer than the file");
    for name in ["model.espresso.shape", "model.espresso.weights", "coremldata.bin"] {
        Files::good().write(folder.path());
        fs::remove_file(folder.path().join(name)).unwrap();
        let error = Package::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    Files::good().write(folder.path());
    let optionals = folder.path().join("neural_network_optionals");
    fs::create_dir(&optionals).unwrap();
    fs::write(optionals.join("coremldata.bin"), [0; 40]).unwrap();
    Package::open(folder.path()).unwrap();
    fs::write(optionals.join("coremldata.bin"), [0, 0, 1, 0]).unwrap();
    let error = Package::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("optional parts"), "{error}");
}

#[test]
fn images_that_are_prepared_in_another_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::good();
    let gray = ImageFeatureType { width: 3, height: 1, color_space: 10, ..ImageFeatureType::default() };
    let ty = FeatureType { r#type: Some(feature_type::Type::ImageType(gray)), ..FeatureType::default() };
    let image = FeatureDescription { r#type: Some(ty), ..array("x", &[]) };
    files.header = header_of(NETWORK, image, &[]);
    files.shape["layer_shapes"] = json!({ "x": { "w": 3, "_rank": 4 }, "y": { "w": 2, "_rank": 1 } });
    files.write(folder.path());
    fs::create_dir(folder.path().join("model")).unwrap();
    let table = |name: &str| {
        let mut data = 1u64.to_le_bytes().to_vec();
        data.extend((name.len() as u64).to_le_bytes());
        data.extend(name.as_bytes());
        data.extend(0.5f32.to_le_bytes());
        data
    };
    let open = |content: &[u8]| {
        fs::write(folder.path().join("model/coremldata.bin"), content).unwrap();
        Package::open(folder.path())
    };
    assert!(open(&table("x").repeat(8)).is_ok());
    assert!(open(&[0; 64]).is_ok());
    for bad in [
        vec![],
        table("x").repeat(7),
        table("x").repeat(9),
        table("z").repeat(8),
        vec![0xff; 200],
        [table("x").repeat(8), vec![0]].concat(),
    ] {
        let error = open(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("prepared in a way that is not known"), "{error}");
    }
}

fn pipeline(parts: &[(&str, Files)]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.mlmodelc");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("coremldata.bin"), header(PIPELINE, &[])).unwrap();
    parts.iter().for_each(|(name, files)| files.write(&path.join(name)));
    (folder, path)
}

#[test]
fn pipelines() {
    let (_folder, path) =
        pipeline(&[("model0", Files::good()), ("model1", Files::good().with("type", json!("odd")))]);
    let package = Package::open(&path).unwrap();
    let Some(model::Type::Pipeline(found)) = &package.model().r#type else { panic!() };
    assert_eq!((found.models.len(), found.names.len()), (2, 0));
    let [layer] = package.unread_layers() else { panic!() };
    assert!(layer.starts_with("model1: layer `m` (odd)"), "{layer}");

    let (_folder, path) = pipeline(&[("model1", Files::good())]);
    let error = Package::open(&path).unwrap_err();
    assert!(error.to_string().contains("without its models"), "{error}");
    let mut trees = Files::good();
    trees.header = header(402, &[]);
    let (_folder, path) = pipeline(&[("model0", trees)]);
    let package = Package::open(&path).unwrap();
    let [part] = package.unread_layers() else { panic!() };
    assert_eq!(part, "model0: a model of type treeEnsembleClassifier, whose compiled form is not known");

    // Pipelines that hold themselves.
    let (_folder, outermost) = pipeline(&[]);
    let mut path = outermost.clone();
    for _ in 0..20 {
        path.push("model0");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("coremldata.bin"), header(PIPELINE, &[])).unwrap();
    }
    let error = Package::open(&outermost).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    #[cfg(unix)]
    {
        let (_folder, path) = pipeline(&[]);
        std::os::unix::fs::symlink(".", path.join("model0")).unwrap();
        let error = Package::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        let (_folder, path) = pipeline(&[]);
        std::os::unix::fs::symlink("..", path.join("model0")).unwrap();
        let error = Package::open(&path).unwrap_err();
        assert!(error.to_string().contains("leads out of the package"), "{error}");
    }
}
