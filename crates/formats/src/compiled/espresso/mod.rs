//! Compiled neural networks: the compiled form of Core ML's older kind of model.
//!
//! ```text
//! coremldata.bin                      as in every compiled model; the labels of a classifier follow the description
//! model.espresso.net                  the layers, as JSON
//! model.espresso.shape                the shape of every tensor, as JSON
//! model.espresso.weights              a table of numbered blobs
//! neural_network_optionals/coremldata.bin   zeros, if there is nothing out of the ordinary
//! model/coremldata.bin                how images are scaled, in eight tables; the layers' file says it, too
//! ```
//!
//! [`read`] returns the network of the specification that computes the same, so that later stages know only one kind of
//! network. Each layer carries its output's shape from the file, against which the lowered ops can be checked. A layer
//! that this crate does not understand has no content; a list beside the network gives the reason.

mod attributes;
mod blobs;
mod layers;
mod shapes;

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use serde_json::{Map, Value};

use self::attributes::Attributes;
use self::blobs::Blobs;
use self::layers::{Context, Meaning};
use self::shapes::Shapes;
use super::{HEADER_FILE, NETWORK_FILE, Reader, recompile};
use crate::limits::{MAX_COMPILED_JSON_BYTES, MAX_WEIGHT_FILE_BYTES};
use crate::manifest::beside;
use crate::proto::feature_type::Type as FeatureType;
use crate::proto::image_feature_type::ColorSpace;
use crate::proto::neural_network_classifier::ClassLabels;
use crate::proto::neural_network_preprocessing::Preprocessor;
use crate::proto::{
    FeatureDescription, Int64Vector, ModelDescription, NeuralNetwork, NeuralNetworkClassifier,
    NeuralNetworkImageScaler, NeuralNetworkImageShapeMapping as ImageMapping, NeuralNetworkLayer,
    NeuralNetworkMultiArrayShapeMapping as ArrayMapping, NeuralNetworkPreprocessing, NeuralNetworkRegressor,
    StringVector, model,
};
use crate::{Error, ErrorKind, Result, lfs_pointer};
use milwright_files::map_bytes;

const SHAPE_FILE: &str = "model.espresso.shape";
const WEIGHTS_FILE: &str = "model.espresso.weights";
const OPTIONALS: &str = "neural_network_optionals";

/// The numbers of neural networks among the model types in `Model`.
const REGRESSOR: u32 = 303;
const CLASSIFIER: u32 = 403;
const NETWORK: u32 = 500;

/// Whether the model type with this number is a neural network.
pub(super) fn is_network(code: u32) -> bool {
    [REGRESSOR, CLASSIFIER, NETWORK].contains(&code)
}

/// Reads the network of a compiled model of type `code`. `rest` is what follows the description in `coremldata.bin`.
/// Also returns the layers that are not understood, each with the reason.
pub(super) fn read(
    folder: &Path,
    code: u32,
    description: &ModelDescription,
    rest: &Bytes,
) -> Result<(model::Type, Vec<String>)> {
    let file = |name: &str, len: u64| {
        let path = beside(folder, name)?;
        let data = map_bytes(&path, len)?;
        match lfs_pointer(&data) {
            Some(error) => Err(error.at(path)),
            None => Ok((data, path)),
        }
    };
    let (network, path) = file(NETWORK_FILE, MAX_COMPILED_JSON_BYTES)?;
    let network = json(&network).map_err(|error| error.at(&path))?;
    check_version(&network).map_err(|error| error.at(&path))?;
    let (shapes, shapes_path) = file(SHAPE_FILE, MAX_COMPILED_JSON_BYTES)?;
    let shapes = json(&shapes).and_then(|shapes| Shapes::new(&shapes)).map_err(|e| e.at(&shapes_path))?;
    let (weights, weights_path) = file(WEIGHTS_FILE, MAX_WEIGHT_FILE_BYTES)?;
    let blobs = Blobs::new(weights).map_err(|error| error.at(&weights_path))?;
    check_optionals(folder)?;
    check_scaling(folder, description)?;

    let flexible = description.input.iter().any(|input| is_flexible(input.r#type.as_ref()));
    let context = Context { blobs, shapes, flexible };
    let read = Network::read(&network, context, description).map_err(|error| error.at(&path))?;
    let labels = match code {
        CLASSIFIER => Some(labels(rest.clone()).map_err(|error| error.at(folder.join(HEADER_FILE)))?),
        _ => None,
    };
    Ok(read.finish(code, labels))
}

/// A network of the specification under construction.
struct Network {
    layers: Vec<NeuralNetworkLayer>,
    preprocessing: Vec<NeuralNetworkPreprocessing>,
    array_mapping: ArrayMapping,
    image_mapping: ImageMapping,
    /// The layers that are not understood, each with the reason.
    unread: Vec<String>,
}

impl Network {
    fn read(
        file: &Map<String, Value>,
        mut context: Context,
        description: &ModelDescription,
    ) -> Result<Network> {
        let Some(Value::Array(found)) = file.get("layers") else {
            return Err(Error::malformed("it has no `layers`"));
        };
        let exact = context.shapes.exact;
        let mut network = Network {
            layers: Vec::with_capacity(found.len()),
            preprocessing: preprocessing(file, description)?,
            array_mapping: if exact {
                ArrayMapping::ExactArrayMapping
            } else {
                ArrayMapping::Rank5ArrayMapping
            },
            image_mapping: image_mapping(&context.shapes, description)?,
            unread: Vec::new(),
        };
        check_inputs(&context.shapes, description)?;
        let mut taken = names(found);
        for layer in found {
            network.layer(layer, &mut context, &mut taken)?;
        }
        Ok(network)
    }

    fn layer(&mut self, layer: &Value, context: &mut Context, taken: &mut BTreeSet<String>) -> Result<()> {
        let Value::Object(layer) = layer else {
            return Err(Error::malformed("a layer that is not an object"));
        };
        let text = |key: &str| layer.get(key).and_then(Value::as_str).unwrap_or_default();
        let (name, kind) = (text("name"), text("type"));
        let place = |error: &Error| format!("layer `{name}` ({kind}): {error}");
        let mut a = Attributes::new(layer);
        let named = a.names("bottom").and_then(|inputs| Ok((inputs, a.names("top")?)));
        let (inputs, outputs) = named.map_err(|error| Error::malformed(place(&error)))?;
        let mut message = NeuralNetworkLayer {
            name: name.to_owned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: outputs.iter().map(|&name| name.to_owned()).collect(),
            ..NeuralNetworkLayer::default()
        };
        let read = layers::read(kind, &mut a, context, &inputs, &outputs).and_then(|meaning| {
            let shapes = outputs.iter().map(|name| context.shapes.of(name).map(shapes::Shape::message));
            Ok((meaning, shapes.collect::<Result<Vec<_>>>()?))
        });
        let (Meaning { layer, then }, shapes) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.unread.push(place(&error));
                self.layers.push(message);
                return Ok(());
            }
            Err(error) => return Err(Error::new(error.kind(), place(&error))),
        };
        message.layer = Some(layer);
        let Some(then) = then else {
            message.output_tensor = shapes;
            self.layers.push(message);
            return Ok(());
        };
        // The tensor between a layer and the function applied to its result has no name in the file.
        let Some(output) = outputs.first() else { return Err(Error::malformed("a layer without outputs")) };
        let mut between = format!("{output}_before");
        while !taken.insert(between.clone()) {
            between.push('_');
        }
        message.output = vec![between.clone()];
        message.output_tensor.clone_from(&shapes);
        self.layers.push(message);
        self.layers.push(NeuralNetworkLayer {
            name: format!("{name}_function"),
            input: vec![between],
            output: outputs.iter().map(|&name| name.to_owned()).collect(),
            output_tensor: shapes,
            layer: Some(layers::activation_layer(then)),
            ..NeuralNetworkLayer::default()
        });
        Ok(())
    }

    fn finish(self, code: u32, labels: Option<(ClassLabels, String)>) -> (model::Type, Vec<String>) {
        let (array_input_shape_mapping, image_input_shape_mapping) =
            (self.array_mapping.into(), self.image_mapping.into());
        let (layers, preprocessing) = (self.layers, self.preprocessing);
        let network = match (code, labels) {
            (_, Some((labels, label_probability_layer_name))) => {
                model::Type::NeuralNetworkClassifier(Box::new(NeuralNetworkClassifier {
                    layers,
                    preprocessing,
                    array_input_shape_mapping,
                    image_input_shape_mapping,
                    label_probability_layer_name,
                    class_labels: Some(labels),
                    ..NeuralNetworkClassifier::default()
                }))
            }
            (REGRESSOR, None) => model::Type::NeuralNetworkRegressor(Box::new(NeuralNetworkRegressor {
                layers,
                preprocessing,
                array_input_shape_mapping,
                image_input_shape_mapping,
                ..NeuralNetworkRegressor::default()
            })),
            (_, None) => model::Type::NeuralNetwork(Box::new(NeuralNetwork {
                layers,
                preprocessing,
                array_input_shape_mapping,
                image_input_shape_mapping,
                ..NeuralNetwork::default()
            })),
        };
        (network, self.unread)
    }
}

/// Parses a file that contains a JSON object.
fn json(data: &Bytes) -> Result<Map<String, Value>> {
    if data.starts_with(b"pbze") {
        return Err(recompile(Error::unsupported(
            "it is compressed (pbze, LZFSE), as in models that Apple's systems bring along",
        )));
    }
    // The parser limits how deep objects and lists nest. It reads the bytes in place: a copy would be as
    // large as the file.
    match serde_json::from_slice(data) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::malformed("not a JSON object")),
        Err(error) => Err(Error::malformed(format!("not JSON: {error}")).with_source(error)),
    }
}

/// Checks that the file has a known version and only known parts.
fn check_version(file: &Map<String, Value>) -> Result<()> {
    /// The only known version.
    const VERSION: i64 = 200;
    /// The known parts. Those that are not read do not affect the result: where the network comes from, what else was
    /// found out about it, and the shapes that inputs may have, which the description has, too.
    const KNOWN: [&str; 8] = [
        "format_version",
        "layers",
        "storage",
        "transform_params",
        "metadata_in_weights",
        "analyses",
        "properties",
        "configurations",
    ];
    if let Some(version) = file.get("format_version")
        && version.as_i64() != Some(VERSION)
    {
        return Err(recompile(Error::unsupported(format!(
            "version {version} of a compiled network; {VERSION} is known"
        ))));
    }
    if let Some(key) = file.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(recompile(Error::unsupported(format!("its part `{key}` has no known meaning"))));
    }
    if file.get("storage").is_some_and(|name| name != WEIGHTS_FILE) {
        return Err(recompile(Error::unsupported(format!("its weights are not in {WEIGHTS_FILE}"))));
    }
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    if file.get("metadata_in_weights").is_some_and(|value| !empty(value)) {
        return Err(recompile(Error::unsupported("it has metadata among its weights")));
    }
    Ok(())
}

/// Checks the file of optional parts, which every network has. If it is not empty, the network has a part whose layout
/// is unknown: a mean image, a custom layer, or trainable parameters.
fn check_optionals(folder: &Path) -> Result<()> {
    /// The largest file. An empty one has 40 bytes.
    const MAX: u64 = 1 << 24;
    if !folder.join(OPTIONALS).join(HEADER_FILE).exists() {
        return Ok(());
    }
    let path = beside(folder, &format!("{OPTIONALS}/{HEADER_FILE}"))?;
    if map_bytes(&path, MAX)?.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    let error = Error::unsupported(
        "the network has optional parts (a mean image, a custom layer, or what is trained on a device), whose \
         compiled form is not known",
    );
    Err(recompile(error).at(path))
}

/// Checks the second file that describes the scaling of images: eight tables, each with the number of its entries and
/// the entries (a name and a number). The numbers are not used. If the file has another form, images are prepared in an
/// unknown way.
fn check_scaling(folder: &Path, description: &ModelDescription) -> Result<()> {
    const FOLDER: &str = "model";
    const TABLES: usize = 8;
    const MAX: u64 = 1 << 24;
    if !description.input.iter().any(is_image) || !folder.join(FOLDER).join(HEADER_FILE).exists() {
        return Ok(());
    }
    let path = beside(folder, &format!("{FOLDER}/{HEADER_FILE}"))?;
    let mut rest = Reader(map_bytes(&path, MAX)?);
    let mut table = || -> Result<bool> {
        let entries = rest.u64()?;
        let mut known = true;
        for _ in 0..entries {
            let name = rest.text()?;
            known &= description.input.iter().any(|input| input.name == name);
            rest.skip(4)?;
        }
        Ok(known)
    };
    let known = (0..TABLES).try_fold(true, |known, _| Ok::<_, Error>(table()? && known));
    if known.is_ok_and(|known| known) && rest.0.is_empty() {
        return Ok(());
    }
    Err(recompile(Error::unsupported("images are prepared in a way that is not known")).at(path))
}

/// Reads the class labels of a classifier, and the name of the tensor with their probabilities.
///
/// The layout: the model type (`u64`); the type of the labels (`u64`, the number of their field in
/// `NeuralNetworkClassifier`); their count and the labels; the name; the names of the outputs that are not derived from
/// that tensor.
fn labels(rest: Bytes) -> Result<(ClassLabels, String)> {
    const STRINGS: u64 = 100;
    const INTS: u64 = 101;
    let mut rest = Reader(rest);
    let code = rest.u64()?;
    if code != u64::from(CLASSIFIER) {
        return Err(Error::malformed(format!("{code} is where the class labels should be")));
    }
    let kind = rest.u64()?;
    let count = rest.u64()?;
    if count > rest.0.len() as u64 / 8 {
        return Err(Error::malformed(format!("{count} class labels, in {} bytes", rest.0.len())));
    }
    let labels = match kind {
        STRINGS => {
            let vector = (0..count).map(|_| rest.text()).collect::<Result<Vec<String>>>()?;
            ClassLabels::StringClassLabels(StringVector { vector })
        }
        INTS => {
            let vector =
                (0..count).map(|_| rest.u64().map(u64::cast_signed)).collect::<Result<Vec<i64>>>()?;
            ClassLabels::Int64ClassLabels(Int64Vector { vector })
        }
        other => return Err(Error::malformed(format!("class labels of the kind {other}"))),
    };
    Ok((labels, rest.text()?))
}

/// Reads how images are scaled to numbers.
fn preprocessing(
    file: &Map<String, Value>,
    description: &ModelDescription,
) -> Result<Vec<NeuralNetworkPreprocessing>> {
    let Some(transforms) = file.get("transform_params") else { return Ok(Vec::new()) };
    let Value::Object(transforms) = transforms else {
        return Err(Error::malformed("`transform_params` are not an object"));
    };
    let mut steps = Vec::with_capacity(transforms.len());
    for (name, transform) in transforms {
        let scaler = scaler(name, transform, description).map_err(|error| {
            Error::new(error.kind(), format!("how the input `{name}` is scaled: {error}"))
        })?;
        let preprocessor = Some(Preprocessor::Scaler(scaler));
        steps.push(NeuralNetworkPreprocessing { feature_name: name.clone(), preprocessor });
    }
    Ok(steps)
}

fn scaler(name: &str, transform: &Value, description: &ModelDescription) -> Result<NeuralNetworkImageScaler> {
    let Value::Object(transform) = transform else { return Err(Error::malformed("it is not an object")) };
    let input = description.input.iter().find(|input| input.name == name);
    let Some(FeatureType::ImageType(image)) = input.and_then(|i| i.r#type.as_ref()?.r#type.as_ref()) else {
        return Err(Error::unsupported("it is not an image"));
    };
    let mut a = Attributes::new(transform);
    a.is("center_mean", &[0.0])?;
    a.is("bias_a", &[0.0])?;
    let bgr = a.flag("is_network_bgr")?;
    let (red, green, blue) = (a.float("bias_r")?, a.float("bias_g")?, a.float("bias_b")?);
    let channel_scale = a.float("scale")?;
    a.finish()?;
    let color = ColorSpace::try_from(image.color_space).unwrap_or_default();
    match color {
        ColorSpace::Rgb | ColorSpace::Bgr if bgr != (color == ColorSpace::Bgr) => {
            return Err(Error::unsupported("the order of its colours differs from what is declared"));
        }
        // It is unknown which bias applies to grey values, so all three must be equal.
        ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 if red != green || green != blue => {
            return Err(Error::unsupported("a grey image with several biases"));
        }
        _ => {}
    }
    Ok(NeuralNetworkImageScaler {
        channel_scale,
        blue_bias: blue,
        green_bias: green,
        red_bias: red,
        gray_bias: red,
    })
}

/// Whether images have rank 4 or rank 5.
fn image_mapping(shapes: &Shapes, description: &ModelDescription) -> Result<ImageMapping> {
    let mut mapping = None;
    for input in &description.input {
        if !is_image(input) {
            continue;
        }
        let found = match shapes.of(&input.name)?.rank {
            None | Some(5) => ImageMapping::Rank5ImageMapping,
            Some(4) => ImageMapping::Rank4ImageMapping,
            Some(rank) => return Err(Error::unsupported(format!("an image of rank {rank}"))),
        };
        if mapping.is_some_and(|mapping| mapping != found) {
            return Err(Error::unsupported("images of different ranks"));
        }
        mapping = Some(found);
    }
    Ok(mapping.unwrap_or(ImageMapping::Rank5ImageMapping))
}

/// Checks that inputs have the shapes of the description, apart from dimensions of size 1.
fn check_inputs(shapes: &Shapes, description: &ModelDescription) -> Result<()> {
    for input in &description.input {
        let ty = input.r#type.as_ref();
        let declared: Vec<u64> = match ty.and_then(|ty| ty.r#type.as_ref()) {
            _ if is_flexible(ty) => continue,
            Some(FeatureType::MultiArrayType(array)) => {
                array.shape.iter().map(|&size| u64::try_from(size).unwrap_or(0)).collect()
            }
            Some(FeatureType::ImageType(image)) => {
                let color = ColorSpace::try_from(image.color_space).unwrap_or_default();
                let channels = if matches!(color, ColorSpace::Rgb | ColorSpace::Bgr) { 3 } else { 1 };
                vec![
                    channels,
                    u64::try_from(image.height).unwrap_or(0),
                    u64::try_from(image.width).unwrap_or(0),
                ]
            }
            _ => continue,
        };
        let shape = shapes.of(&input.name)?.dimensions();
        let large = |sizes: &[u64]| sizes.iter().copied().filter(|&size| size != 1).collect::<Vec<u64>>();
        if !declared.is_empty() && large(shape) != large(&declared) {
            return Err(Error::malformed(format!(
                "the input `{}` has the shape {shape:?} in the network, and {declared:?} in the description",
                input.name
            )));
        }
    }
    Ok(())
}

fn is_image(input: &FeatureDescription) -> bool {
    matches!(input.r#type.as_ref().and_then(|ty| ty.r#type.as_ref()), Some(FeatureType::ImageType(_)))
}

fn is_flexible(ty: Option<&crate::proto::FeatureType>) -> bool {
    match ty.and_then(|ty| ty.r#type.as_ref()) {
        Some(FeatureType::MultiArrayType(array)) => array.shape_flexibility.is_some(),
        Some(FeatureType::ImageType(image)) => image.size_flexibility.is_some(),
        _ => false,
    }
}

/// Returns the names of all output tensors of layers.
fn names(layers: &[Value]) -> BTreeSet<String> {
    let tops = layers.iter().filter_map(|layer| layer.get("top")?.as_str());
    tops.flat_map(|names| names.split(',')).map(str::to_owned).collect()
}
