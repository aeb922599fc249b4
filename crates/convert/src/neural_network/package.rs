//! Converts neural networks to ML programs that Core ML loads, with the inputs and outputs that the model describes.
//!
//! The function that [`read`](super::read()) makes is for an engine: the tensors of old networks have five dimensions.
//! The function made here has inputs and outputs as the description declares them. The description is adapted where an
//! ML program cannot have what it declares.

use std::collections::{HashMap, HashSet};

use milwright_formats::proto::array_feature_type::{ArrayDataType, ShapeFlexibility};
use milwright_formats::proto::neural_network_layer::Layer;
use milwright_formats::proto::{
    self as pb, ArrayFeatureType, FeatureDescription, Model, ModelDescription, NeuralNetworkLayer,
    NeuralNetworkPreprocessing, feature_type, mil_spec, model,
};
use milwright_mil::{DType, Function, Opset, Program, ValueId, verify};

use super::net::Net;
use super::{Network, OPSET, features};
use crate::Error;
use crate::names::{identifier, is_identifier, make_identifiers, unique};

/// A network that was converted to an ML program.
#[derive(Clone, Debug)]
pub struct MlProgram {
    /// The program.
    pub program: Program,
    /// The model without its program: description, metadata and version.
    pub model: Model,
    /// The differences from the original, in sentences.
    pub notes: Vec<String>,
}

/// Turns a neural network, classifier or regressor into an ML program for systems that have `opset`, or for the oldest
/// possible opset.
///
/// The names of inputs and outputs must be identifiers already: see [`with_identifiers`].
///
/// # Errors
/// As for [`read`](super::read()), or the opset lacks an op that the network needs; the error names it.
pub fn to_ml_program(model: &Model, opset: Option<Opset>) -> Result<MlProgram, Error> {
    let network =
        Network::of(model).ok_or_else(|| Error::unsupported("the model is not a neural network"))?;
    let mut notes = Vec::new();
    let mut description = model.description.as_deref().cloned().unwrap_or_default();
    let mut function = function(&network, &description)?;
    make_identifiers(&mut function);
    describe(&mut description, &network, &function, &mut notes);
    if model.is_updatable {
        notes.push("an ML program cannot be trained on a device: how to train it is left out".to_owned());
    }
    let program = for_opset(function, opset)?;
    let opset = program.functions["main"].opset;
    let specification_version = opset.specification_version().max(needed_by(&description));
    let model = Model {
        specification_version,
        description: Some(Box::new(description)),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(mil_spec::Program::default())),
    };
    Ok(MlProgram { program, model, notes })
}

fn function(network: &Network<'_>, description: &ModelDescription) -> Result<Function, Error> {
    let mut net = Net::new(OPSET);
    net.as_declared = true;
    description.output.iter().for_each(|o| net.builder.reserve(&o.name));
    features::bind_inputs(&mut net, network, description)?;
    net.lower(network.layers);
    net.check()?;
    let outputs = features::outputs(&mut net, network, description)?;
    Ok(net.finish(outputs))
}

/// Returns the program for the wanted opset, or for the oldest one for ML programs that has all its ops.
fn for_opset(function: Function, wanted: Option<Opset>) -> Result<Program, Error> {
    let mut program = Program::default();
    program.functions.insert("main".into(), function);
    let candidates = wanted.map_or(vec![Opset::Ios15, OPSET], |opset| vec![opset]);
    let mut refused = None;
    for opset in candidates {
        program.functions["main"].opset = opset;
        match fits(&program, opset) {
            Ok(()) => return Ok(program),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::unsupported("there is no opset")))
}

/// Checks that a program is valid in this opset.
fn fits(program: &Program, opset: Opset) -> Result<(), Error> {
    let refuse = |what: String| {
        Error::unsupported(format!("it cannot be an ML program for {}: {what}", opset.text_name()))
            .with_hint(format!("it can be one for {}", OPSET.text_name()))
    };
    let function = &program.functions["main"];
    if let Some(&id) = function.walk().iter().find(|&&id| function[id].kind.version(opset).is_none()) {
        let op = &function[id];
        return Err(refuse(format!("that has no op `{}`, which `{}` becomes", op.kind.name(), op.name())));
    }
    verify(program.clone()).map(|_| ()).map_err(|errors| refuse(errors.to_string()))
}

/// Returns the specification version that the types of features require.
fn needed_by(description: &ModelDescription) -> i32 {
    use pb::image_feature_type::ColorSpace;
    let new = |f: &FeatureDescription| match feature(f) {
        Some(feature_type::Type::ImageType(i)) => i.color_space == i32::from(ColorSpace::GrayscaleFloat16),
        _ => false,
    };
    let features = description.input.iter().chain(&description.output);
    if features.into_iter().any(new) { Opset::Ios16.specification_version() } else { 0 }
}

fn feature(description: &FeatureDescription) -> Option<&feature_type::Type> {
    description.r#type.as_ref()?.r#type.as_ref()
}

/// Adapts the description to the function's inputs and outputs, within what an ML program can have.
fn describe(
    description: &mut ModelDescription,
    network: &Network<'_>,
    function: &Function,
    notes: &mut Vec<String>,
) {
    let label_and_probabilities =
        [description.predicted_feature_name.clone(), description.predicted_probabilities_name.clone()];
    if network.classifier.is_none() {
        // These fields make an ML program a classifier.
        description.predicted_feature_name.clear();
        description.predicted_probabilities_name.clear();
    }
    description.training_input.clear();
    let outputs = &function[function.body].outputs;
    for (input, &value) in description.input.iter_mut().zip(&function.inputs) {
        describe_feature(input, function, value, "input", notes);
    }
    for (output, &value) in description.output.iter_mut().zip(outputs) {
        if network.classifier.is_some() && label_and_probabilities.contains(&output.name) {
            continue;
        }
        describe_feature(output, function, value, "output", notes);
    }
}

fn describe_feature(
    described: &mut FeatureDescription,
    function: &Function,
    value: ValueId,
    what: &str,
    notes: &mut Vec<String>,
) {
    let Some(ty) = function[value].ty.as_tensor() else { return };
    let Some(feature) = described.r#type.as_mut() else { return };
    let dtype = match ty.dtype {
        DType::Int32 => ArrayDataType::Int32,
        _ => ArrayDataType::Float32,
    };
    let fixed = ty.fixed_shape().map(|shape| shape.iter().map(|&n| n as i64).collect::<Vec<i64>>());
    match &mut feature.r#type {
        Some(feature_type::Type::MultiArrayType(array)) => {
            let is_double = array.data_type == i32::from(ArrayDataType::Double);
            array.data_type = dtype.into();
            if is_double {
                notes.push(format!("the {what} `{}` is of float32, which was double", described.name));
            }
            let ranked = match &array.shape_flexibility {
                Some(ShapeFlexibility::ShapeRange(r)) => r.size_ranges.len() == ty.rank(),
                Some(ShapeFlexibility::EnumeratedShapes(e)) => {
                    e.shapes.iter().all(|s| s.shape.len() == ty.rank())
                }
                None => false,
            };
            match fixed {
                Some(shape) => {
                    array.shape = shape;
                    array.shape_flexibility = None;
                }
                None if array.shape.len() == ty.rank() || ranked => {}
                // The declared shape does not fit the value.
                None => {
                    array.shape.clear();
                    array.shape_flexibility = None;
                }
            }
        }
        Some(feature_type::Type::ImageType(_)) => {}
        other => {
            notes.push(format!(
                "the {what} `{}` is an array of one number, which was a number",
                described.name
            ));
            *other = Some(feature_type::Type::MultiArrayType(ArrayFeatureType {
                shape: fixed.unwrap_or_default(),
                data_type: dtype.into(),
                ..ArrayFeatureType::default()
            }));
        }
    }
}

/// Renames inputs and outputs whose names are not MIL identifiers. Returns the network, with the old and the new name
/// of each; `None` if all names are identifiers.
pub fn with_identifiers(model: &Model) -> Option<(Model, Vec<(String, String)>)> {
    let description = model.description.as_deref()?;
    let features = || description.input.iter().chain(&description.output).map(|f| &f.name);
    let mut taken: HashSet<String> = features().filter(|name| is_identifier(name)).cloned().collect();
    let mut renamed: Vec<(String, String)> = Vec::new();
    for name in features().filter(|name| !is_identifier(name)) {
        if !renamed.iter().any(|(old, _)| old == name) {
            renamed.push((name.clone(), unique(&identifier(name), &mut taken)));
        }
    }
    if renamed.is_empty() {
        return None;
    }
    let names: HashMap<&str, &str> = renamed.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
    let rename = &|name: &mut String| {
        if let Some(&new) = names.get(name.as_str()) {
            new.clone_into(name);
        }
    };
    let mut model = model.clone();
    if let Some(description) = &mut model.description {
        let d = &mut **description;
        for feature in d.input.iter_mut().chain(&mut d.output).chain(&mut d.training_input) {
            rename(&mut feature.name);
        }
        rename(&mut d.predicted_feature_name);
        rename(&mut d.predicted_probabilities_name);
    }
    match &mut model.r#type {
        Some(model::Type::NeuralNetwork(n)) => rename_in(&mut n.layers, &mut n.preprocessing, rename),
        Some(model::Type::NeuralNetworkRegressor(n)) => {
            rename_in(&mut n.layers, &mut n.preprocessing, rename)
        }
        Some(model::Type::NeuralNetworkClassifier(n)) => {
            rename_in(&mut n.layers, &mut n.preprocessing, rename);
            rename(&mut n.label_probability_layer_name);
        }
        _ => {}
    }
    Some((model, renamed))
}

/// Renames in layers, and in layers of networks inside them. The decoder limits how deep they nest.
fn rename_in(
    layers: &mut [NeuralNetworkLayer],
    preprocessing: &mut [NeuralNetworkPreprocessing],
    rename: &dyn Fn(&mut String),
) {
    preprocessing.iter_mut().for_each(|step| rename(&mut step.feature_name));
    for layer in layers {
        layer.input.iter_mut().chain(&mut layer.output).for_each(rename);
        let inside = match &mut layer.layer {
            Some(Layer::Branch(branch)) => [branch.if_branch.as_mut(), branch.else_branch.as_mut()],
            Some(Layer::Loop(l)) => {
                rename(&mut l.condition_var);
                [l.condition_network.as_mut(), l.body_network.as_mut()]
            }
            _ => [None, None],
        };
        for network in inside.into_iter().flatten() {
            rename_in(&mut network.layers, &mut network.preprocessing, rename);
        }
    }
}
