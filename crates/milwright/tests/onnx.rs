//! ONNX files of strangers: each is an error that names the file and the part, or is described without being run.

use std::fs;
use std::path::{Path, PathBuf};

use milwright::{ErrorKind, FeatureType, Model, ModelInfo};
use milwright_formats::onnx::proto::tensor_proto::{DataLocation, DataType};
use milwright_formats::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use milwright_formats::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto,
    type_proto,
};
use prost::Message as _;

fn tensor_type(sizes: &[&str]) -> TypeProto {
    let dim = |size: &&str| Dimension {
        value: Some(match size.parse() {
            Ok(n) => dimension::Value::DimValue(n),
            Err(_) => dimension::Value::DimParam((*size).to_owned()),
        }),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(DataType::Float.into()),
        shape: Some(TensorShapeProto { dim: sizes.iter().map(dim).collect() }),
    };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }
}

fn info(name: &str, sizes: &[&str]) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(tensor_type(sizes)),
        ..ValueInfoProto::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: Some(op.to_owned()),
        ..NodeProto::default()
    }
}

/// From `x` to `y`.
fn graph(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        node: nodes,
        initializer,
        input: vec![info("x", &["batch", "4"])],
        output: vec![info("y", &["batch", "4"])],
        ..GraphProto::default()
    }
}

fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(9),
        opset_import: vec![
            OperatorSetIdProto { domain: None, version: Some(18) },
            OperatorSetIdProto { domain: Some("me".to_owned()), version: Some(1) },
        ],
        graph: Some(Box::new(graph)),
        ..ModelProto::default()
    }
}

fn external(entries: &[(&str, &str)]) -> TensorProto {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    TensorProto {
        name: Some("w".to_owned()),
        dims: vec![4],
        data_type: Some(DataType::Float.into()),
        data_location: Some(DataLocation::External.into()),
        external_data: entries.iter().map(entry).collect(),
        ..TensorProto::default()
    }
}

fn write(folder: &Path, name: &str, model: &ModelProto) -> PathBuf {
    let path = folder.join(format!("{name}.onnx"));
    fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

/// It cannot be opened, with this in the error, and is described all the same.
fn refused(path: &Path, text: &str) {
    let error = Model::open(path).unwrap_err();
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(error.path(), Some(path));
    let info = ModelInfo::open(path).unwrap();
    assert!(!info.runnable && info.needs.is_none());
    assert!(info.warnings[0].contains(text), "{:?}", info.warnings);
    let function = info.function(None).unwrap();
    assert_eq!((function.inputs[0].name.as_str(), function.outputs[0].name.as_str()), ("x", "y"));
}

#[test]
fn data_that_is_not_there() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("model");
    fs::create_dir(&folder).unwrap();
    fs::write(outer.path().join("secret"), [0; 64]).unwrap();
    fs::write(folder.join("short"), [0; 8]).unwrap();
    fs::write(
        folder.join("lfs"),
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456789\n",
    )
    .unwrap();
    fs::create_dir(folder.join("folder")).unwrap();
    let add = |entries| model(graph(vec![node("Add", &["x", "w"], "y")], vec![external(entries)]));
    let absolute = outer.path().join("secret").display().to_string();
    let mut cases = vec![
        (vec![("location", "gone")], "the file `gone` with the model's data is missing"),
        (vec![("location", "short")], "`short` has 8 bytes"),
        (vec![("location", "short"), ("offset", "18446744073709551615")], "`short` has 8 bytes"),
        (
            vec![("location", "short"), ("length", "8")],
            "has 8 bytes, but the element type and the shape need 16",
        ),
        (vec![("location", "lfs")], "a Git LFS pointer, not the file itself (123456789 bytes)"),
        (vec![("location", "folder")], "not a regular file, but a folder"),
        (vec![("location", "../secret")], "leaves the model's folder"),
        (vec![("location", &absolute)], "leaves the model's folder"),
        (vec![], "no location"),
    ];
    if cfg!(unix) {
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
            std::os::unix::fs::symlink("/dev/zero", folder.join("zero")).unwrap();
            assert!(
                std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success()
            );
        }
        cases.push((vec![("location", "link")], "a symbolic link"));
        cases.push((vec![("location", "zero")], "a symbolic link"));
        cases.push((vec![("location", "pipe")], "not a regular file, but a named pipe"));
    }
    for (i, (entries, text)) in cases.iter().enumerate() {
        let path = write(&folder, &format!("m{i}"), &add(entries));
        refused(&path, text);
        let error = Model::open(&path).unwrap_err().to_string();
        assert!(error.contains("initializer `w`: "), "{error}");
        // The shape says how many there are, whether the data is there or not.
        let info = ModelInfo::open(&path).unwrap();
        assert_eq!((info.storage.parameters, info.storage.bytes), (4, 16));
    }
}

#[test]
fn graphs_without_an_order() {
    let folder = tempfile::tempdir().unwrap();
    let relu = |from: &str, to: &str| node("Relu", &[from], to);
    let cases = [
        (vec![node("Add", &["x", "b"], "a"), relu("a", "b"), relu("b", "y")], "in a circle"),
        (vec![node("Add", &["x", "y"], "y")], "in a circle"),
        (vec![relu("x", "y"), node("Abs", &["x"], "y")], "two nodes define `y`"),
        (vec![node("Add", &["x", "gone"], "y")], "node `y` (Add): its input `gone` is not defined"),
        (vec![relu("x", "z")], "output `y`: nothing defines it"),
        (vec![node("Frobnicate", &["x"], "y")], "node `y` (Frobnicate): there is no op of this name"),
    ];
    for (i, (nodes, text)) in cases.into_iter().enumerate() {
        let path = write(folder.path(), &format!("m{i}"), &model(graph(nodes, Vec::new())));
        refused(&path, text);
    }
}

/// Functions that call themselves, and those whose calls double 30 and 39 times; graphs in graphs, as deep as files may be.
#[test]
fn recursion_ends() {
    let folder = tempfile::tempdir().unwrap();
    let call = |name: &str, from: &str, to: &str| NodeProto {
        domain: Some("me".to_owned()),
        ..node(name, &[from], to)
    };
    let function = |name: &str, nodes: Vec<NodeProto>| FunctionProto {
        name: Some(name.to_owned()),
        domain: Some("me".to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: nodes,
        opset_import: model(GraphProto::default()).opset_import,
        ..FunctionProto::default()
    };
    let whole = |functions| ModelProto { functions, ..model(graph(vec![call("F0", "x", "y")], Vec::new())) };
    let own = whole(vec![function("F0", vec![call("F0", "a", "b")])]);
    refused(&write(folder.path(), "own", &own), "functions call each other more than");
    let deep = |i: usize, last: usize| {
        let next = format!("F{}", i + 1);
        let nodes = match i {
            _ if i == last => vec![node("Relu", &["a"], "b")],
            _ => vec![call(&next, "a", "c"), call(&next, "c", "b")],
        };
        function(&format!("F{i}"), nodes)
    };
    for last in [30, 39] {
        let double = whole((0..=last).map(|i| deep(i, last)).collect());
        refused(&write(folder.path(), "double", &double), "too many nodes");
    }

    let mut inner = GraphProto {
        node: vec![node("Relu", &["x"], "y")],
        output: vec![info("y", &["batch", "4"])],
        ..GraphProto::default()
    };
    for _ in 0..60 {
        let branch = |name: &str, graph: &GraphProto| AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(attribute_proto::AttributeType::Graph.into()),
            g: Some(Box::new(graph.clone())),
            ..AttributeProto::default()
        };
        let mut choice = node("If", &["x"], "y");
        choice.attribute = vec![branch("then_branch", &inner), branch("else_branch", &GraphProto::default())];
        inner = GraphProto { node: vec![choice], ..inner };
    }
    let error = Model::open(write(folder.path(), "nested", &model(inner))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(
        error.to_string().contains("nested.onnx: ") && error.to_string().contains("recursion"),
        "{error}"
    );
}

#[test]
fn what_is_cut_off_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let weight = TensorProto {
        name: Some("w".to_owned()),
        dims: vec![4],
        data_type: Some(DataType::Float.into()),
        raw_data: Some(vec![1; 16].into()),
        ..TensorProto::default()
    };
    let whole = model(graph(vec![node("Add", &["x", "w"], "y")], vec![weight])).encode_to_vec();
    let path = folder.path().join("m.onnx");
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        match Model::open(&path) {
            Ok(_) => assert!(end > whole.len() - 40, "only the last entry may be missing"),
            Err(error) => assert_eq!(error.path(), Some(&*path), "{error}"),
        }
    }
    fs::write(&path, &whole).unwrap();
    let info = ModelInfo::open(&path).unwrap();
    assert!(info.runnable && matches!(info.functions[0].inputs[0].ty, FeatureType::MultiArray { .. }));
}
