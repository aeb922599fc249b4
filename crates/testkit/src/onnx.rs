//! Small ONNX models, for tests and as the first inputs of the fuzzer.

use milwright_formats::onnx::proto::attribute_proto::AttributeType;
use milwright_formats::onnx::proto::tensor_proto::DataType;
use milwright_formats::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use milwright_formats::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use prost::Message as _;

/// A size: a number, or a name.
#[derive(Clone, Copy)]
pub enum Dim<'a> {
    /// A number.
    Size(i64),
    /// A name.
    Name(&'a str),
}

/// An input or output of a type; `dims` are its sizes.
pub fn value(name: &str, dtype: DataType, dims: &[Dim<'_>]) -> ValueInfoProto {
    let dim = |d: &Dim<'_>| Dimension {
        denotation: None,
        value: Some(match *d {
            Dim::Size(n) => dimension::Value::DimValue(n),
            Dim::Name(n) => dimension::Value::DimParam(n.to_owned()),
        }),
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(dtype.into()), shape: Some(shape) };
    let ty = TypeProto { denotation: None, value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(ty), ..ValueInfoProto::default() }
}

/// A node; names are separated by spaces, `_` is one that is left out.
pub fn node(op: &str, inputs: &str, outputs: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let names = |text: &str| {
        text.split_whitespace().map(|n| if n == "_" { String::new() } else { n.to_owned() }).collect()
    };
    NodeProto {
        op_type: Some(op.to_owned()),
        input: names(inputs),
        output: names(outputs),
        attribute,
        ..NodeProto::default()
    }
}

/// An attribute with integers.
pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints.into()),
        ints: ints.to_vec(),
        ..AttributeProto::default()
    }
}

/// An attribute with an integer.
pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int.into()),
        i: Some(i),
        ..AttributeProto::default()
    }
}

/// An attribute with a graph.
pub fn graph_attribute(name: &str, g: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Graph.into()),
        g: Some(Box::new(g)),
        ..AttributeProto::default()
    }
}

/// A tensor of fp32.
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float.into()),
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// A vector of int64.
pub fn longs(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: vec![values.len() as i64],
        data_type: Some(DataType::Int64.into()),
        raw_data: Some(values.iter().flat_map(|n| n.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

/// A graph.
pub fn graph(
    node: Vec<NodeProto>,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
    initializer: Vec<TensorProto>,
) -> GraphProto {
    GraphProto { name: Some("g".to_owned()), node, input, output, initializer, ..GraphProto::default() }
}

/// A model of opset 17.
pub fn model(graph: GraphProto) -> ModelProto {
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    ModelProto {
        ir_version: Some(8),
        producer_name: Some("testkit".to_owned()),
        opset_import: vec![opset("", 17), opset("own", 1)],
        graph: Some(Box::new(graph)),
        ..ModelProto::default()
    }
}

/// Models of many kinds, by name.
pub fn examples() -> Vec<(&'static str, Vec<u8>)> {
    use DataType::{Bool, Float, Int64};
    use Dim::{Name, Size};
    let rows = [Name("batch"), Size(3)];
    let any = |name: &str| value(name, Float, &[Name("n"), Size(3)]);
    let x = || value("x", Float, &rows);
    let out = |name| value(name, Float, &rows);

    let weights = vec![floats("w", &[3, 2], &[1., 2., 3., 4., 5., 6.]), floats("b", &[2], &[0.5, -0.5])];
    let dense = graph(
        vec![node("Relu", "h", "y", vec![]), node("Gemm", "x w b", "h", vec![])],
        vec![x()],
        vec![value("y", Float, &[Name("batch"), Size(2)])],
        weights,
    );
    let shapes = graph(
        vec![
            node("Shape", "x", "s", vec![]),
            node("Gather", "s zero", "n", vec![]),
            node("Concat", "n three one", "t", vec![int("axis", 0)]),
            node("Reshape", "x t", "r", vec![]),
            node("Slice", "r starts ends axes", "y", vec![]),
        ],
        vec![x()],
        vec![value("y", Float, &[Name("batch"), Size(2), Size(1)])],
        vec![
            longs("zero", &[0]),
            longs("three", &[3]),
            longs("one", &[1]),
            longs("starts", &[-2]),
            longs("ends", &[i64::MAX]),
            longs("axes", &[1]),
        ],
    );
    let branch =
        |op: &str, name: &str| graph(vec![node(op, "x", name, vec![])], vec![], vec![any(name)], vec![]);
    let choice = graph(
        vec![node(
            "If",
            "c",
            "y",
            vec![
                graph_attribute("then_branch", branch("Abs", "a")),
                graph_attribute("else_branch", branch("Neg", "b")),
            ],
        )],
        vec![value("c", Bool, &[]), x()],
        vec![out("y")],
        vec![],
    );
    let body = graph(
        vec![
            node("Add", "v x", "w", vec![]),
            node("Identity", "go", "again", vec![]),
            node("Identity", "w", "seen", vec![]),
        ],
        vec![value("i", Int64, &[]), value("go", Bool, &[]), any("v")],
        vec![value("again", Bool, &[]), any("w"), any("seen")],
        vec![],
    );
    let repeated = graph(
        vec![node("Loop", "m _ x", "last all", vec![graph_attribute("body", body)])],
        vec![value("m", Int64, &[]), x()],
        vec![out("last"), value("all", Float, &[Name("turns"), Name("batch"), Size(3)])],
        vec![],
    );
    let call = NodeProto { domain: Some("own".to_owned()), ..node("Twice", "x", "y", vec![]) };
    let mut functions = model(graph(vec![call], vec![x()], vec![out("y")], vec![]));
    functions.functions.push(FunctionProto {
        name: Some("Twice".to_owned()),
        domain: Some("own".to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: vec![node("Add", "a a", "b", vec![])],
        opset_import: functions.opset_import.clone(),
        ..FunctionProto::default()
    });
    let sequences = graph(
        vec![
            node("SplitToSequence", "x", "s", vec![int("axis", 1)]),
            node("SequenceInsert", "s x", "t", vec![]),
            node("ConcatFromSequence", "t", "y", vec![int("axis", 1)]),
        ],
        vec![x()],
        vec![value("y", Float, &[Name("batch"), Size(6)])],
        vec![],
    );
    let image = [Name("batch"), Size(1), Size(6), Size(6)];
    let net = graph(
        vec![
            node("Conv", "x k", "c", vec![ints("pads", &[1, 1, 1, 1])]),
            node("MaxPool", "c", "p", vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]),
            node("Flatten", "p", "f", vec![]),
            node("Softmax", "f", "y", vec![]),
        ],
        vec![value("x", Float, &image)],
        vec![value("y", Float, &[Name("batch"), Size(18)])],
        vec![floats("k", &[2, 1, 3, 3], &[0.1; 18])],
    );
    vec![
        ("dense", model(dense).encode_to_vec()),
        ("shapes", model(shapes).encode_to_vec()),
        ("choice", model(choice).encode_to_vec()),
        ("loop", model(repeated).encode_to_vec()),
        ("functions", functions.encode_to_vec()),
        ("sequences", model(sequences).encode_to_vec()),
        ("net", model(net).encode_to_vec()),
    ]
}
