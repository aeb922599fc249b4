//! Converts neural networks, the older kind of Core ML model, to IR. A network is a list of layers.
//!
//! [`read()`] lowers each layer to MIL ops that compute the same. [`table`] says which function lowers which kind of
//! layer; there is a file for each family. If layers cannot be lowered, the error lists them all, each with its name,
//! its kind and the reason.
//!
//! Networks only know floats. The IR keeps the type that an op returns (bool, int32), and converts it when a layer
//! computes with it. Up to specification version 3, and later on request, every tensor has five dimensions: sequence,
//! batch, channel, height, width (see [`has_five_dimensions`]).

mod activation;
mod control;
mod convolution;
mod elementwise;
mod features;
mod gather;
mod image;
mod linear;
mod net;
mod normalization;
mod package;
mod pool;
mod random;
mod recurrent;
mod reduce;
mod select;
mod shape;
pub mod table;
mod weights;

use milwright_formats::proto::{
    self as pb, Model, NeuralNetworkLayer, NeuralNetworkMultiArrayShapeMapping as ArrayMapping,
    NeuralNetworkPreprocessing, model, neural_network_classifier,
};
use milwright_mil::{Function, Opset, Program};

use crate::Error;
use net::Net;
pub use package::{MlProgram, to_ml_program, with_identifiers};

/// The opset of converted networks: the last in which `non_maximum_suppression` returns the number of its boxes.
const OPSET: Opset = Opset::Ios16;

/// A network: plain, classifier or regressor.
#[derive(Clone, Copy)]
pub(crate) struct Network<'a> {
    pub layers: &'a [NeuralNetworkLayer],
    pub preprocessing: &'a [NeuralNetworkPreprocessing],
    array_mapping: i32,
    image_mapping: i32,
    pub classifier: Option<&'a pb::NeuralNetworkClassifier>,
}

/// Lowers a neural network, classifier or regressor.
///
/// # Errors
/// The model is not a neural network, is malformed, or has layers that cannot be lowered; the error lists them.
pub fn read(model: &Model) -> Result<Program, Error> {
    lower(model, false)
}

/// Lowers a compiled network, whose layers have the shapes of their results, as [`read()`] does. Checks that the
/// lowered layers give the same shapes.
///
/// # Errors
/// As for [`read()`], or a lowered layer gives another shape.
pub fn read_with_shapes(model: &Model) -> Result<Program, Error> {
    lower(model, true)
}

fn lower(model: &Model, checks_shapes: bool) -> Result<Program, Error> {
    let network =
        Network::of(model).ok_or_else(|| Error::unsupported("the model is not a neural network"))?;
    let empty = pb::ModelDescription::default();
    let description = model.description.as_deref().unwrap_or(&empty);
    let mut program = Program::default();
    program.functions.insert("main".into(), function(&network, description, checks_shapes)?);
    Ok(program)
}

/// Whether the tensors of a network, and so those of its function, have five dimensions: sequence, batch, channel,
/// height, width. Its inputs and outputs are described with one (channel) or three (channel, height, width).
pub fn has_five_dimensions(model: &Model) -> bool {
    Network::of(model).is_some_and(|n| n.has_five_dimensions())
}

/// The layers of a network, if the model is one.
pub fn layers(model: &Model) -> Option<&[NeuralNetworkLayer]> {
    Network::of(model).map(|n| n.layers)
}

fn function(
    network: &Network<'_>,
    description: &pb::ModelDescription,
    checks_shapes: bool,
) -> Result<Function, Error> {
    let mut net = Net::new(OPSET);
    net.checks_shapes = checks_shapes;
    description.output.iter().for_each(|o| net.builder.reserve(&o.name));
    features::bind_inputs(&mut net, network, description)?;
    net.lower(network.layers);
    net.check()?;
    let outputs = features::outputs(&mut net, network, description)?;
    Ok(net.finish(outputs))
}

impl<'a> Network<'a> {
    fn of(model: &'a Model) -> Option<Network<'a>> {
        macro_rules! network {
            ($n:expr, $classifier:expr) => {
                Network {
                    layers: &$n.layers,
                    preprocessing: &$n.preprocessing,
                    array_mapping: $n.array_input_shape_mapping,
                    image_mapping: $n.image_input_shape_mapping,
                    classifier: $classifier,
                }
            };
        }
        Some(match &model.r#type {
            Some(model::Type::NeuralNetwork(n)) => network!(n, None),
            Some(model::Type::NeuralNetworkRegressor(n)) => network!(n, None),
            Some(model::Type::NeuralNetworkClassifier(n)) => network!(n, Some(&**n)),
            _ => return None,
        })
    }

    pub fn has_five_dimensions(&self) -> bool {
        self.array_mapping == i32::from(ArrayMapping::Rank5ArrayMapping)
    }

    pub fn has_images_of_five_dimensions(&self) -> bool {
        self.image_mapping == i32::from(pb::NeuralNetworkImageShapeMapping::Rank5ImageMapping)
    }

    /// The blob with a classifier's probabilities: the named one, or that of the last layer.
    pub fn probabilities(&self, classifier: &'a pb::NeuralNetworkClassifier) -> Option<&'a str> {
        let named = Some(classifier.label_probability_layer_name.as_str()).filter(|n| !n.is_empty());
        named.or_else(|| classifier.layers.last()?.output.first().map(String::as_str))
    }
}

/// Returns the class labels as a constant.
pub(crate) fn classes(classifier: &pb::NeuralNetworkClassifier) -> Result<milwright_mil::Tensor, Error> {
    use neural_network_classifier::ClassLabels;
    match &classifier.class_labels {
        Some(ClassLabels::StringClassLabels(labels)) => crate::labels::strings(&labels.vector),
        Some(ClassLabels::Int64ClassLabels(labels)) => crate::labels::ints(&labels.vector),
        None => Err(Error::malformed("the classifier has no class labels")),
    }
}
