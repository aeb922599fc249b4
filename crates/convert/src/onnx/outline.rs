//! What a file declares of itself, for models that cannot be imported: nothing is lowered, and no data is read.

use std::collections::{BTreeMap, HashSet};

use milwright_formats::onnx::OnnxFile;
use milwright_formats::onnx::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use milwright_formats::proto::array_feature_type::ArrayDataType;
use milwright_formats::proto::{self as pb, ArrayFeatureType, feature_type, mil_spec, model};
use milwright_mil::{DType, Opset};

use super::Size;
use super::border::{Declared, tensor_type};
use super::elem::Elem;
use super::flexible::flexibility;

/// The description of a model as its file declares it, and what the model consists of.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The model without its program. A feature of a type that Core ML does not have has no type.
    pub model: pb::Model,
    /// How often each op is used, in nested graphs and in functions, too.
    pub ops: BTreeMap<String, usize>,
    /// The parameters: constants of real numbers, and of integers of at most eight bits, that are no scalars.
    pub weights: Vec<OutlineWeight>,
}

/// A parameter of an [`Outline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlineWeight {
    /// The element type: MIL's name, or ONNX's if MIL has no such type.
    pub dtype: &'static str,
    /// The number of elements.
    pub elements: u64,
    /// The number of bytes.
    pub bytes: u64,
}

/// Describes a model.
pub fn outline(file: &OnnxFile) -> Outline {
    let onnx = file.model();
    let graph = onnx.graph.as_deref();
    // Before version 4, files declare initializers among the inputs, too.
    let initialized: HashSet<&str> =
        graph.into_iter().flat_map(|g| &g.initializer).map(|t| t.name()).collect();
    let inputs = graph.into_iter().flat_map(|g| &g.input).filter(|i| !initialized.contains(i.name()));
    let outputs = graph.into_iter().flat_map(|g| &g.output);
    let opset = |o: &milwright_formats::onnx::proto::OperatorSetIdProto| {
        format!("{}={}", if o.domain().is_empty() { "ai.onnx" } else { o.domain() }, o.version())
    };
    let mut opsets: Vec<String> = onnx.opset_import.iter().map(opset).collect();
    opsets.sort();
    let producer = [onnx.producer_name(), onnx.producer_version()].join(" ");
    let mut user_defined: BTreeMap<String, String> =
        onnx.metadata_props.iter().map(|e| (e.key().to_owned(), e.value().to_owned())).collect();
    user_defined.insert("onnx.opset".into(), opsets.join(" "));
    if !producer.trim().is_empty() {
        user_defined.insert("onnx.producer".into(), producer.trim().to_owned());
    }
    let metadata = pb::Metadata {
        short_description: onnx.doc_string().to_owned(),
        user_defined,
        ..pb::Metadata::default()
    };
    let description = pb::ModelDescription {
        input: inputs.map(|info| feature(info, true)).collect(),
        output: outputs.map(|info| feature(info, false)).collect(),
        metadata: Some(metadata),
        ..pb::ModelDescription::default()
    };
    let (mut ops, mut weights) = (BTreeMap::new(), Vec::new());
    let mut graphs: Vec<&GraphProto> = graph.into_iter().collect();
    let mut bodies: Vec<&[NodeProto]> = onnx.functions.iter().map(|f| &f.node[..]).collect();
    loop {
        if let Some(graph) = graphs.pop() {
            weights.extend(graph.initializer.iter().filter_map(weight));
            bodies.push(&graph.node);
        }
        let Some(nodes) = bodies.pop() else { break };
        for node in nodes {
            *ops.entry(node.op_type().to_owned()).or_default() += 1;
            for attribute in &node.attribute {
                graphs.extend(attribute.g.as_deref().into_iter().chain(&attribute.graphs));
                if node.op_type() == "Constant" {
                    weights.extend(attribute.t.as_deref().and_then(weight));
                }
            }
        }
    }
    let model = pb::Model {
        specification_version: Opset::Ios15.specification_version(),
        description: Some(Box::new(description)),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(mil_spec::Program::default())),
    };
    Outline { model, ops, weights }
}

fn feature(info: &ValueInfoProto, is_input: bool) -> pb::FeatureDescription {
    let ty = tensor_type(info).ok().and_then(|(elem, dims)| {
        let data_type = match elem.carrier()? {
            DType::Fp16 => ArrayDataType::Float16,
            DType::Int32 | DType::Bool => ArrayDataType::Int32,
            _ => ArrayDataType::Float32,
        };
        let mut array = ArrayFeatureType { data_type: data_type.into(), ..ArrayFeatureType::default() };
        let size = |dim: &Declared| match dim {
            Declared::Fixed(n) => Size::Fixed(*n),
            _ => Size::Range(1, None),
        };
        let sizes: Vec<Size> = dims.unwrap_or_default().iter().map(size).collect();
        let is_fixed = sizes.iter().all(|size| matches!(size, Size::Fixed(_)));
        // As for imported models: an output that is not of one shape is described without any.
        if is_fixed || is_input {
            array.shape = sizes.iter().map(|size| size.default() as i64).collect();
        }
        if !is_fixed && is_input {
            array.shape_flexibility = Some(flexibility(&sizes));
        }
        let r#type = Some(feature_type::Type::MultiArrayType(array));
        Some(pb::FeatureType { r#type, is_optional: false })
    });
    let (name, short_description) = (info.name().to_owned(), info.doc_string().to_owned());
    pb::FeatureDescription { name, short_description, r#type: ty }
}

fn weight(tensor: &TensorProto) -> Option<OutlineWeight> {
    let elem = Elem::from_code(tensor.data_type()).ok()?;
    if tensor.dims.is_empty() || !(elem.is_float() || elem.is_int() && elem.bits() <= 8) {
        return None;
    }
    // Whether there is so much data is not looked at; sums of what shapes claim saturate.
    let mut sizes = tensor.dims.iter().map(|&n| u64::try_from(n).ok());
    let elements = sizes.try_fold(1u64, |all, n| Some(all.saturating_mul(n?)))?;
    let dtype = match elem {
        Elem::Float => "fp32",
        Elem::Float16 => "fp16",
        Elem::Double => "fp64",
        other => other.name(),
    };
    let bits = elements.saturating_mul(elem.bits() as u64);
    Some(OutlineWeight { dtype, elements, bytes: bits.div_ceil(8) })
}
