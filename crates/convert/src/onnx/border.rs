//! The inputs and outputs of a model, and its description.
//!
//! Core ML's arrays hold fp32, fp16 (since iOS 16) or int32, have at least one dimension, and have names that are
//! identifiers. An input that is a scalar becomes a vector of one element; bools become int32; double becomes fp32 and
//! int64 int32. Names of sizes are kept: equal names are one size.

use std::collections::{BTreeMap, HashMap, HashSet};

use milwright_formats::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use milwright_formats::onnx::proto::{GraphProto, ModelProto, TypeProto, ValueInfoProto, type_proto};
use milwright_formats::proto::array_feature_type::ArrayDataType;
use milwright_formats::proto::{
    self as pb, ArrayFeatureType, FeatureDescription, feature_type, mil_spec, model,
};
use milwright_mil::{DType, Dim, Opset, TensorType, Type, ValueId};

use super::elem::Elem;
use super::graph::Importer;
use super::item::{Item, Val};
use super::stored::Stored;
use super::{Options, Size, rank};
use crate::Error;
use crate::lower::{Result, op};
use crate::names::{identifier, is_identifier, unique};

/// An input or output of the function.
pub(super) struct Feature {
    pub name: String,
    /// The name in the ONNX model.
    onnx: String,
    pub value: ValueId,
    /// The sizes of the dimensions; empty for a scalar.
    pub sizes: Vec<Size>,
    /// The names of the sizes, where they have one.
    pub names: Vec<Option<String>>,
}

/// The key of a package's metadata for the names that were changed.
const NAMES: &str = "onnx.names";

/// A name in a list in which `;` separates.
fn escaped(name: &str) -> String {
    name.replace('\\', r"\\").replace(';', r"\;")
}

/// Returns the names of inputs and outputs of a package that an ONNX model had before they were changed, from the
/// package's metadata: the old name for each new one.
pub fn original_names(metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut entries = vec![String::new()];
    let mut chars = metadata.get(NAMES).map_or("", String::as_str).chars();
    while let Some(c) = chars.next() {
        let last = entries.last_mut().expect("there is at least one");
        match c {
            '\\' => last.extend(chars.next()),
            ';' => entries.push(String::new()),
            c => last.push(c),
        }
    }
    let pair = |entry: &String| {
        let (new, old) = entry.strip_prefix(' ').unwrap_or(entry).split_once('=')?;
        Some((new.to_owned(), old.to_owned()))
    };
    entries.iter().filter_map(pair).collect()
}

/// The names of inputs and outputs: the model's own, or ones that Core ML takes. An output that is an input of the model,
/// too, gets a name of its own.
pub(super) struct Names<'m> {
    inputs: HashMap<&'m str, String>,
    outputs: HashMap<&'m str, String>,
}

impl<'m> Names<'m> {
    pub fn new(graph: &'m GraphProto, options: &Options) -> Names<'m> {
        let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
        let is_given = |name: &&str| !constants.contains(name) && !options.frozen.contains_key(*name);
        let given: Vec<&str> = graph.input.iter().map(|i| i.name()).filter(is_given).collect();
        let results: Vec<&str> = graph.output.iter().map(|o| o.name()).collect();
        let all = || given.iter().chain(&results).copied();
        let mut taken: HashSet<String> = all().filter(|n| is_identifier(n)).map(str::to_owned).collect();
        let mut called = |name: &str| match !options.for_package || is_identifier(name) {
            true => name.to_owned(),
            false => unique(&identifier(name), &mut taken),
        };
        let inputs: HashMap<&str, String> = given.iter().map(|&name| (name, called(name))).collect();
        let mut outputs = HashMap::new();
        for name in results.iter().filter(|name| !inputs.contains_key(*name)) {
            outputs.entry(*name).or_insert_with(|| called(name));
        }
        taken.extend(all().map(str::to_owned));
        for name in &results {
            if let Some(input) = inputs.get(name) {
                let new = || unique(&format!("{input}_output"), &mut taken);
                outputs.entry(*name).or_insert_with(new);
            }
        }
        Names { inputs, outputs }
    }

    /// Reserves the names of the outputs, which other values must not get.
    pub fn reserve(&self, importer: &mut Importer<'_>) {
        self.outputs.values().for_each(|name| importer.builder.reserve(name.clone()));
    }

    /// The name of an input in the program.
    fn of_input(&self, name: &str) -> String {
        self.inputs.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// The name of an output in the program.
    fn of_output(&self, name: &str) -> String {
        self.outputs.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// The names that differ, old and new, in the order of the old.
    fn changed(&self) -> Vec<(&str, &str)> {
        let all = self.inputs.iter().chain(&self.outputs).map(|(old, new)| (*old, new.as_str()));
        let mut changed: Vec<(&str, &str)> = all.filter(|(old, new)| old != new).collect();
        changed.sort_unstable();
        changed
    }

    /// Sentences for the user.
    pub fn notes(&self) -> Vec<String> {
        let note = |(old, new): (&str, &str)| match self.inputs.contains_key(old) && self.of_input(old) != new
        {
            true => format!("the output `{old}` is called `{new}`: there is an input of its name"),
            false => {
                format!("`{old}` is called `{new}`: names in ML programs have letters, digits and _ only")
            }
        };
        self.changed().into_iter().map(note).collect()
    }
}

/// Defines the graph's inputs and initializers. Returns the inputs of the function.
pub(super) fn bind_inputs<'m>(
    importer: &mut Importer<'m>,
    graph: &'m GraphProto,
    names: &Names<'_>,
    options: &Options,
) -> Result<Vec<Feature>> {
    let initialized: HashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
    let mut given = HashSet::new();
    for (name, tensor) in &options.frozen {
        let input = graph.input.iter().find(|i| i.name() == name);
        let input = input.ok_or_else(|| {
            let names = graph.input.iter().map(|i| i.name());
            let near = milwright_formats::did_you_mean(name, names.clone());
            let all: Vec<&str> = names.collect();
            Error::malformed(format!("there is no input `{name}` to freeze"))
                .with_hint(format!("{near}the inputs are: {}", all.join(", ")))
        })?;
        let (elem, _) = tensor_type(input)?;
        let frozen = frozen(tensor, elem).map_err(|e| e.at(format_args!("input `{name}`")))?;
        importer.scope.define(name, Val::constant(name, frozen).into());
        given.insert(input.name());
    }
    importer.define_initializers(graph, &given);
    let mut features = Vec::new();
    let mut used = HashSet::new();
    for input in graph.input.iter().filter(|i| !initialized.contains(i.name()) && !given.contains(i.name())) {
        let feature = bind_input(importer, graph, input, &names.of_input(input.name()), options, &mut used);
        features.push(feature.map_err(|e| e.at(format_args!("input `{}`", input.name())))?);
    }
    if let Some(name) = options.sizes.keys().find(|name| !used.contains(*name)) {
        let mut names: Vec<&String> = features.iter().flat_map(|f| f.names.iter().flatten()).collect();
        names.sort();
        names.dedup();
        let near = milwright_formats::did_you_mean(name, names.iter().map(|n| n.as_str()));
        let all: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
        return Err(Error::malformed(format!("no input has a size named `{name}`"))
            .with_hint(format!("{near}the names are: {}", all.join(", "))));
    }
    Ok(features)
}

fn bind_input(
    importer: &mut Importer<'_>,
    graph: &GraphProto,
    input: &ValueInfoProto,
    called: &str,
    options: &Options,
    used: &mut HashSet<String>,
) -> Result<Feature> {
    let (elem, dims) = tensor_type(input)?;
    let dims = match dims {
        Some(dims) => dims,
        None => unranked(importer, graph, input.name(), options)?,
    };
    // A cache may be empty at first, but Core ML fails on inputs that may have no elements.
    let open = || Size::Range(usize::from(options.for_package), None);
    let carrier = elem.carried()?;
    let mut sizes = Vec::with_capacity(dims.len());
    let mut names = Vec::with_capacity(dims.len());
    for (i, dim) in dims.iter().enumerate() {
        let name = match dim {
            Declared::Named(name) => Some(name.clone()),
            Declared::Unnamed => Some(format!("{}.{i}", input.name())),
            Declared::Fixed(_) => None,
        };
        let size = match (dim, &name) {
            (Declared::Fixed(n), _) => Size::Fixed(*n),
            (_, Some(name)) => {
                // A place counts more than a name, which may occur at many.
                let place = format!("{}.{i}", input.name());
                match options.sizes.get_key_value(&place).or_else(|| options.sizes.get_key_value(name)) {
                    Some((key, size)) => {
                        used.insert(key.clone());
                        size.clone()
                    }
                    None => open(),
                }
            }
            (_, None) => open(),
        };
        sizes.push(size);
        names.push(name.filter(|_| !matches!(dim, Declared::Fixed(_))));
    }
    let dtype = border_type(carrier, importer.builder.opset());
    let shape: Vec<Dim> = match sizes.is_empty() {
        true => vec![Dim::Fixed(1)],
        false => sizes
            .iter()
            .map(|size| match size {
                Size::Fixed(n) => Dim::Fixed(*n),
                Size::OneOf(all) if all.len() == 1 => Dim::Fixed(all[0]),
                _ => Dim::Unknown,
            })
            .collect(),
    };
    let value = importer.builder.input(called, Type::Tensor(TensorType::new(dtype, shape)));
    importer.label = input.name().to_owned();
    let mut inner = value;
    if sizes.is_empty() {
        inner = op!(importer, Squeeze, x = inner, axes = &[0][..])?;
    }
    if carrier == DType::Bool {
        inner = importer.bool_of(inner)?;
    } else {
        inner = importer.cast(inner, carrier)?;
    }
    importer.scope.define(input.name(), Val::new(elem, inner).into());
    Ok(Feature { name: called.to_owned(), onnx: input.name().to_owned(), value, sizes, names })
}

/// The dimensions of an input whose file declares none: as many as the options give sizes for, or as its nodes want.
fn unranked(
    importer: &mut Importer<'_>,
    graph: &GraphProto,
    name: &str,
    options: &Options,
) -> Result<Vec<Declared>> {
    let axis = |place: &String| place.strip_prefix(name)?.strip_prefix('.')?.parse::<usize>().ok();
    let stated = options.sizes.keys().filter_map(axis).max().map(|axis| axis + 1);
    let rank = match stated {
        Some(rank) => rank,
        None => {
            let rank = rank::of_input(graph, name).ok_or_else(|| {
                Error::unsupported("its number of dimensions is not known").with_hint(format!(
                    "give a size for each, which may be a range: `--size {name}.0=1 --size {name}.1=1..`, and so on"
                ))
            })?;
            importer.note(format!(
                "`{name}` is declared without dimensions; it has {rank}, as the nodes that use it want"
            ));
            rank
        }
    };
    Ok(vec![Declared::Unnamed; rank])
}

/// The type of a feature for a value of this type.
fn border_type(carrier: DType, opset: Opset) -> DType {
    match carrier {
        DType::Bool => DType::Int32,
        DType::Fp16 if opset < Opset::Ios16 => DType::Fp32,
        other => other,
    }
}

/// A constant for an input, converted to its element type without loss.
fn frozen(tensor: &milwright_mil::Tensor, elem: Elem) -> Result<Stored> {
    use crate::lower::tensor_of;
    let shape = tensor.shape();
    let lossy = || Error::malformed(format!("the values do not fit its element type, {}", elem.name()));
    let tensor = if elem.is_float() {
        let values = tensor.to_f64();
        return Ok(match elem {
            Elem::Double => Stored::new(elem, tensor_of(shape, values)?),
            Elem::Float16 => {
                Stored::new(elem, tensor_of(shape, values.iter().map(|&x| half::f16::from_f64(x)).collect())?)
            }
            Elem::Bfloat16 => Stored::new(
                elem,
                tensor_of(shape, values.iter().map(|&x| half::bf16::from_f64(x)).collect())?,
            ),
            _ => Stored::new(Elem::Float, tensor_of(shape, values.iter().map(|&x| x as f32).collect())?),
        });
    } else if elem == Elem::Bool {
        let values: Vec<bool> = tensor.to_f64().iter().map(|&x| x != 0.0).collect();
        milwright_mil::Tensor::from_bools(shape, &values).map_err(|e| Error::malformed(e.to_string()))?
    } else {
        let numbers = tensor.to_f64();
        if numbers.iter().any(|x| x.fract() != 0.0) {
            return Err(lossy());
        }
        let numbers = tensor.to_i64().unwrap_or_else(|| numbers.iter().map(|&x| x as i64).collect());
        let range = elem.int_range().map(|(a, b)| (i64::from(a), i64::from(b)));
        if numbers.iter().any(|n| range.is_some_and(|(a, b)| *n < a || *n > b)) {
            return Err(lossy());
        }
        // Stored as int64 whatever its type is: the carrier is the same.
        return Ok(Stored::new(Elem::Int64, tensor_of(shape, numbers)?));
    };
    Ok(Stored::new(elem, tensor))
}

/// A dimension as a file declares it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Declared {
    Fixed(usize),
    Named(String),
    Unnamed,
}

/// The element type and the dimensions that a file declares for a tensor; no dimensions if not even their number is
/// declared.
pub(super) fn tensor_type(info: &ValueInfoProto) -> Result<(Elem, Option<Vec<Declared>>)> {
    let untyped = || Error::malformed("it has no type");
    let ty = info.r#type.as_ref().ok_or_else(untyped)?;
    match ty.value.as_ref().ok_or_else(untyped)? {
        type_proto::Value::TensorType(tensor) => {
            Ok((Elem::from_code(tensor.elem_type())?, tensor.shape.as_ref().map(|s| dims(&s.dim))))
        }
        type_proto::Value::OptionalType(optional) => match inner_tensor(optional.elem_type.as_deref()) {
            Some(tensor) => {
                Ok((Elem::from_code(tensor.elem_type())?, tensor.shape.as_ref().map(|s| dims(&s.dim))))
            }
            None => Err(Error::unsupported("it is an optional of something else than a tensor")
                .with_hint("Core ML's inputs are single tensors: export the model with one for each")),
        },
        type_proto::Value::SequenceType(_) => Err(Error::unsupported("it is a sequence of tensors")
            .with_hint(
                "Core ML's inputs and outputs are single tensors: export the model with one for each",
            )),
        type_proto::Value::MapType(_) => Err(Error::unsupported("it is a dictionary")),
        _ => Err(Error::unsupported("it is a sparse tensor or of a type of its own")),
    }
}

fn inner_tensor(ty: Option<&TypeProto>) -> Option<&type_proto::Tensor> {
    match ty?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor),
        _ => None,
    }
}

/// Some exporters write unknown sizes as negative ones, and an unknown batch size as 0. Other dimensions may well be
/// empty.
fn dims(dims: &[Dimension]) -> Vec<Declared> {
    let declared = |(i, dim): (usize, &Dimension)| match &dim.value {
        Some(dimension::Value::DimValue(0)) if i == 0 && dims.len() > 1 => Declared::Unnamed,
        Some(dimension::Value::DimValue(n)) => usize::try_from(*n).map_or(Declared::Unnamed, Declared::Fixed),
        Some(dimension::Value::DimParam(name)) if !matches!(&name[..], "" | "?") => {
            Declared::Named(name.clone())
        }
        _ => Declared::Unnamed,
    };
    dims.iter().enumerate().map(declared).collect()
}

/// Makes the outputs of the function, each a value of its own under its name.
pub(super) fn outputs(
    importer: &mut Importer<'_>,
    graph: &GraphProto,
    names: &Names<'_>,
) -> Result<Vec<Feature>> {
    let mut features = Vec::with_capacity(graph.output.len());
    for output in &graph.output {
        let feature = self::output(importer, output.name(), &names.of_output(output.name()));
        features.push(feature.map_err(|e| e.at(format_args!("output `{}`", output.name())))?);
    }
    Ok(features)
}

fn output(importer: &mut Importer<'_>, name: &str, called: &str) -> Result<Feature> {
    let item = importer.scope.get(name).cloned();
    let val = match item.ok_or_else(|| Error::malformed("nothing defines it"))? {
        Item::Tensor(val) => val,
        Item::Optional(Some(inner)) => match &*inner {
            Item::Tensor(val) => val.clone(),
            _ => return Err(Error::unsupported("it is not a tensor")),
        },
        Item::Optional(None) => return Err(Error::unsupported("it is an optional that is empty")),
        Item::Sequence(_) => {
            return Err(Error::unsupported("it is a sequence of tensors").with_hint(
                "Core ML's inputs and outputs are single tensors: export the model with one for each",
            ));
        }
    };
    importer.label = name.to_owned();
    let inner = importer.value_of(&val)?;
    let dtype = border_type(importer.ty(inner)?.dtype, importer.builder.opset());
    let cast = importer.cast(inner, dtype)?;
    let value = op!(importer, Identity, x = cast)?;
    importer.builder.rename(value, called);
    let sizes = importer.ty(value)?.shape.iter().map(|d| d.fixed().map_or(Size::Range(0, None), Size::Fixed));
    let sizes: Vec<Size> = sizes.collect();
    let names = vec![None; sizes.len()];
    Ok(Feature { name: called.to_owned(), onnx: name.to_owned(), value, sizes, names })
}

/// Describes the model, without its program.
pub(super) fn describe(
    importer: &Importer<'_>,
    onnx: &ModelProto,
    graph: &GraphProto,
    inputs: &[Feature],
    outputs: &[Feature],
    names: &Names<'_>,
) -> pb::Model {
    let text =
        |texts: &[&str]| texts.iter().find(|t| !t.is_empty()).map_or(String::new(), |t| (*t).to_owned());
    let mut user_defined: BTreeMap<String, String> = BTreeMap::new();
    user_defined.insert("com.github.apple.coremltools.source_dialect".into(), "ONNX".into());
    for entry in &onnx.metadata_props {
        user_defined.insert(entry.key().to_owned(), entry.value().to_owned());
    }
    let producer = [onnx.producer_name(), onnx.producer_version()].join(" ");
    if !producer.trim().is_empty() {
        user_defined.insert("onnx.producer".into(), producer.trim().to_owned());
    }
    let mut opsets: Vec<String> = importer
        .frame
        .opsets
        .iter()
        .map(|(d, v)| format!("{}={v}", if d.is_empty() { "ai.onnx" } else { d }))
        .collect();
    opsets.sort();
    user_defined.insert("onnx.opset".into(), opsets.join(" "));
    let sizes: HashMap<&String, Vec<String>> = inputs.iter().fold(HashMap::new(), |mut all, f| {
        for (i, name) in f.names.iter().enumerate() {
            if let Some(name) = name {
                all.entry(name).or_insert_with(Vec::new).push(format!("{}[{i}]", f.name));
            }
        }
        all
    });
    let mut sizes: Vec<String> =
        sizes.into_iter().map(|(name, places)| format!("{name}: {}", places.join(" "))).collect();
    sizes.sort();
    if !sizes.is_empty() {
        user_defined.insert("onnx.sizes".into(), sizes.join("; "));
    }
    let renamed: Vec<String> =
        names.changed().into_iter().map(|(old, new)| format!("{new}={}", escaped(old))).collect();
    if !renamed.is_empty() {
        user_defined.insert(NAMES.into(), renamed.join("; "));
    }
    let metadata = pb::Metadata {
        short_description: text(&[onnx.doc_string(), graph.doc_string()]),
        version_string: onnx.model_version.filter(|&v| v > 0).map_or(String::new(), |v| v.to_string()),
        author: String::new(),
        license: String::new(),
        user_defined,
    };
    let feature = |f: &Feature, docs: &[ValueInfoProto]| {
        let doc = docs.iter().find(|d| d.name() == f.onnx).map_or("", |d| d.doc_string());
        describe_feature(importer, f, doc)
    };
    let description = pb::ModelDescription {
        input: inputs.iter().map(|f| feature(f, &graph.input)).collect(),
        output: outputs.iter().map(|f| feature(f, &graph.output)).collect(),
        metadata: Some(metadata),
        ..pb::ModelDescription::default()
    };
    pb::Model {
        specification_version: importer.builder.opset().specification_version(),
        description: Some(Box::new(description)),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(mil_spec::Program::default())),
    }
}

fn describe_feature(importer: &Importer<'_>, feature: &Feature, doc: &str) -> FeatureDescription {
    let ty = importer.builder.tensor_type(feature.value);
    let data_type = match ty.map(|t| t.dtype) {
        Some(DType::Int32) => ArrayDataType::Int32,
        Some(DType::Fp16) => ArrayDataType::Float16,
        _ => ArrayDataType::Float32,
    };
    let is_input = importer.builder.is_input(feature.value);
    let sizes = match (feature.sizes.is_empty(), is_input) {
        (true, true) => &[Size::Fixed(1)][..],
        _ => &feature.sizes,
    };
    let is_flexible = sizes.iter().any(|s| !matches!(s, Size::Fixed(_)));
    // An output that is not of one shape is described without any.
    let shape: Vec<i64> = if is_flexible && !is_input {
        Vec::new()
    } else {
        sizes.iter().map(|s| s.default() as i64).collect()
    };
    let array = ArrayFeatureType { shape, data_type: data_type.into(), ..ArrayFeatureType::default() };
    let ty = pb::FeatureType { r#type: Some(feature_type::Type::MultiArrayType(array)), is_optional: false };
    FeatureDescription { name: feature.name.clone(), short_description: doc.to_owned(), r#type: Some(ty) }
}
