//! The inputs and outputs of a network, as the model describes them.

use milwright_formats::proto::array_feature_type::{ArrayDataType, ShapeFlexibility};
use milwright_formats::proto::image_feature_type::{ColorSpace, SizeFlexibility};
use milwright_formats::proto::neural_network_preprocessing::Preprocessor;
use milwright_formats::proto::{
    ArrayFeatureType, FeatureDescription, ImageFeatureType, ModelDescription, NeuralNetworkImageScaler,
    NeuralNetworkMeanImage, NeuralNetworkPreprocessing, SizeRange, feature_type,
};
use milwright_mil::{DType, Dim, Input, OpKind, TensorType, Type, Value, ValueId, param};

use super::net::Net;
use super::{Network, classes};
use crate::Error;
use crate::lower::{Result, Size, op, tensor_of, usize_of};

/// Declares the inputs of the function, and makes their names refer to them.
pub(super) fn bind_inputs(
    net: &mut Net,
    network: &Network<'_>,
    description: &ModelDescription,
) -> Result<()> {
    let is_image = |f: &FeatureDescription| matches!(feature(f), Some(feature_type::Type::ImageType(_)));
    let images = description.input.iter().filter(|f| is_image(f)).count();
    check_preprocessing(network.preprocessing, &description.input)?;
    for input in &description.input {
        net.label = input.name.clone();
        let value = bind_input(net, network, input, images == 1 && is_image(input));
        let value = value.map_err(|e| e.at(format_args!("input `{}`", input.name)))?;
        net.scope.define(&input.name, value);
    }
    Ok(())
}

/// The format requires that a preprocessing step has the name of its input. A step with another name is an error: if it
/// were ignored, every result would be silently wrong.
fn check_preprocessing(steps: &[NeuralNetworkPreprocessing], inputs: &[FeatureDescription]) -> Result<()> {
    let is_input = |name: &String| name.is_empty() || inputs.iter().any(|input| input.name == *name);
    let Some(step) = steps.iter().find(|step| !is_input(&step.feature_name)) else { return Ok(()) };
    let what = match step.preprocessor {
        Some(Preprocessor::Scaler(_)) => "preprocessing (an image scaler)",
        Some(Preprocessor::MeanImage(_)) => "preprocessing (a mean image)",
        None => return Ok(()),
    };
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    let message = format!("{what} for `{}`, which is no input", step.feature_name);
    Err(Error::malformed(message).with_hint(format!(
        "the inputs are: {}. Give the step (`preprocessing[…].featureName` in the specification) the name of its input",
        names.join(", ")
    )))
}

fn bind_input(
    net: &mut Net,
    network: &Network<'_>,
    input: &FeatureDescription,
    only_image: bool,
) -> Result<ValueId> {
    if net.scope.contains(&input.name) {
        return Err(Error::malformed("there are two of this name"));
    }
    match feature(input) {
        Some(feature_type::Type::MultiArrayType(array)) => {
            let mut shape = array_shape(array)?;
            let axes = if network.has_five_dimensions() { added_axes(shape.len())? } else { &[] };
            if network.has_five_dimensions() && !net.as_declared {
                shape = five_dimensions(&shape)?;
            }
            let is_int = array.data_type == i32::from(ArrayDataType::Int32);
            let dtype = if is_int { DType::Int32 } else { DType::Fp32 };
            let mut value = net.builder.input(&input.name, TensorType::new(dtype, shape).into());
            if net.as_declared && !axes.is_empty() {
                value = op!(net, ExpandDims, x = value, axes = axes)?;
            }
            preprocess(net, network.preprocessing, &input.name, None, value, only_image)
        }
        Some(feature_type::Type::ImageType(image)) => {
            let shape = image_shape(image)?;
            let value = net.builder.input(&input.name, TensorType::new(DType::Fp32, shape).into());
            let color = ColorSpace::try_from(image.color_space).ok();
            let value = preprocess(net, network.preprocessing, &input.name, color, value, only_image)?;
            if network.has_images_of_five_dimensions() {
                return op!(net, ExpandDims, x = value, axes = &[0][..]);
            }
            Ok(value)
        }
        Some(feature_type::Type::DoubleType(_) | feature_type::Type::Int64Type(_)) => {
            let five = network.has_five_dimensions();
            let rank = if five && !net.as_declared { 5 } else { 1 };
            let ty = TensorType::new(DType::Fp32, vec![Dim::Fixed(1); rank]);
            let value = net.builder.input(&input.name, ty.into());
            match five && net.as_declared {
                true => op!(net, ExpandDims, x = value, axes = added_axes(1)?),
                false => Ok(value),
            }
        }
        _ => Err(Error::unsupported("neither an array nor an image")),
    }
}

fn feature(description: &FeatureDescription) -> Option<&feature_type::Type> {
    description.r#type.as_ref()?.r#type.as_ref()
}

/// Returns the declared shape; sizes that may vary are unknown.
fn array_shape(array: &ArrayFeatureType) -> Result<Vec<Dim>> {
    let size = |n: &i64| {
        let n = usize::try_from(*n).map_err(|_| Error::malformed(format!("a dimension of {n}")))?;
        Ok(Dim::Fixed(n))
    };
    let default = array.shape.iter().map(size).collect::<Result<Vec<Dim>>>()?;
    let shape = match &array.shape_flexibility {
        Some(ShapeFlexibility::ShapeRange(range)) => range.size_ranges.iter().map(in_range).collect(),
        Some(ShapeFlexibility::EnumeratedShapes(shapes)) => {
            let shapes = shapes.shapes.iter().map(|s| s.shape.iter().map(size).collect::<Result<Vec<_>>>());
            let mut shapes = shapes.collect::<Result<Vec<_>>>()?;
            if !default.is_empty() {
                shapes.push(default);
            }
            let mut shapes = shapes.into_iter();
            let mut shape = shapes.next().unwrap_or_default();
            for other in shapes {
                if other.len() != shape.len() {
                    return Err(Error::unsupported("shapes of different rank"));
                }
                let join = |(a, b): (&mut Dim, Dim)| *a = if *a == b { b } else { Dim::Unknown };
                shape.iter_mut().zip(other).for_each(join);
            }
            shape
        }
        None => default,
    };
    if shape.is_empty() {
        return Err(Error::unsupported("its shape is not declared")
            .with_hint("give the input a shape, with coremltools' flexible_shape_utils for example"));
    }
    Ok(shape)
}

fn in_range(range: &SizeRange) -> Dim {
    match usize::try_from(range.upper_bound) {
        Ok(n) if n as u64 == range.lower_bound => Dim::Fixed(n),
        _ => Dim::Unknown,
    }
}

/// Returns the axes to add to a tensor of a declared rank, so that it has sequence, batch, channel, height and width.
fn added_axes(rank: usize) -> Result<&'static [i32]> {
    match rank {
        1 => Ok(&[0, 1, 3, 4]),
        3 => Ok(&[0, 1]),
        4 => Ok(&[0]),
        5 => Ok(&[]),
        _ => Err(Error::unsupported(format!("a shape of {rank} dimensions, in an old network"))),
    }
}

/// Returns the shape as sequence, batch, channel, height, width. The first two may have any size at run time.
fn five_dimensions(shape: &[Dim]) -> Result<Vec<Dim>> {
    let (any, one) = (Dim::Unknown, Dim::Fixed(1));
    match *shape {
        [c] => Ok(vec![any, any, c, one, one]),
        [c, h, w] => Ok(vec![any, any, c, h, w]),
        [_, c, h, w] => Ok(vec![any, any, c, h, w]),
        [_, _, c, h, w] => Ok(vec![any, any, c, h, w]),
        _ => Err(Error::unsupported(format!("a shape of {} dimensions, in an old network", shape.len()))),
    }
}

/// Returns 1 × channels × height × width.
fn image_shape(image: &ImageFeatureType) -> Result<Vec<Dim>> {
    let channels = match ColorSpace::try_from(image.color_space) {
        Ok(ColorSpace::Rgb | ColorSpace::Bgr) => 3,
        Ok(ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16) => 1,
        _ => return Err(Error::malformed("an image without a colour space")),
    };
    let size = |n: i64| usize::try_from(n).ok().filter(|&n| n > 0).map_or(Dim::Unknown, Dim::Fixed);
    let default = [size(image.height), size(image.width)];
    let [h, w] = match &image.size_flexibility {
        Some(SizeFlexibility::ImageSizeRange(range)) => {
            [&range.height_range, &range.width_range].map(|r| r.as_ref().map_or(Dim::Unknown, in_range))
        }
        Some(SizeFlexibility::EnumeratedSizes(sizes)) => {
            let joined = |d: usize| {
                let same = |s: &milwright_formats::proto::image_feature_type::ImageSize| {
                    default[d] == Dim::Fixed(if d == 0 { s.height } else { s.width } as usize)
                };
                if sizes.sizes.iter().all(same) { default[d] } else { Dim::Unknown }
            };
            [joined(0), joined(1)]
        }
        None => default,
    };
    Ok(vec![Dim::Fixed(1), Dim::Fixed(channels), h, w])
}

fn preprocess(
    net: &mut Net,
    steps: &[NeuralNetworkPreprocessing],
    name: &str,
    color: Option<ColorSpace>,
    mut value: ValueId,
    only_image: bool,
) -> Result<ValueId> {
    for step in steps {
        if step.feature_name != name && !(step.feature_name.is_empty() && only_image) {
            continue;
        }
        value = match &step.preprocessor {
            Some(Preprocessor::Scaler(scaler)) => scale(net, scaler, color, value)?,
            Some(Preprocessor::MeanImage(mean)) => subtract_mean(net, mean, value)?,
            None => value,
        };
    }
    Ok(value)
}

fn scale(
    net: &mut Net,
    scaler: &NeuralNetworkImageScaler,
    color: Option<ColorSpace>,
    value: ValueId,
) -> Result<ValueId> {
    let (red, green, blue) = (scaler.red_bias, scaler.green_bias, scaler.blue_bias);
    let biases = match color {
        Some(ColorSpace::Bgr) => vec![blue, green, red],
        Some(ColorSpace::Rgb) => vec![red, green, blue],
        Some(_) => vec![scaler.gray_bias],
        None => return Err(Error::malformed("an image scaler for an array")),
    };
    let bias = tensor_of(&[1, biases.len(), 1, 1], biases)?;
    let value = op!(net, Mul, x = value, y = scaler.channel_scale)?;
    op!(net, Add, x = value, y = bias)
}

fn subtract_mean(net: &mut Net, mean: &NeuralNetworkMeanImage, value: ValueId) -> Result<ValueId> {
    let shape = &net.ty(value)?.shape;
    let last = &shape[shape.len().saturating_sub(3)..];
    let shape = last.iter().map(|d| d.fixed()).collect::<Option<Vec<usize>>>();
    let shape = shape.ok_or_else(|| Error::unsupported("a mean image for images of any size"))?;
    let mean = tensor_of(&shape, mean.mean_image.clone())?;
    let value = net.float_of(value)?;
    op!(net, Sub, x = value, y = mean)
}

/// The outputs of the function, in the order in which the model describes them.
pub(super) fn outputs(
    net: &mut Net,
    network: &Network<'_>,
    description: &ModelDescription,
) -> Result<Vec<ValueId>> {
    let mut outputs = Vec::with_capacity(description.output.len());
    let classified = match network.classifier {
        Some(_) => Some(classify(net, network, description)?),
        None => None,
    };
    for output in &description.output {
        let name = &output.name;
        let of_classifier = [&description.predicted_feature_name, &description.predicted_probabilities_name]
            .into_iter()
            .position(|n| n == name);
        if let (Some(i), Some(values)) = (of_classifier, &classified) {
            outputs.push(values[i]);
            continue;
        }
        net.label = name.clone();
        let value = net.scope.get(name).copied();
        let value = value.ok_or_else(|| Error::malformed(format!("no layer gives the output `{name}`")))?;
        let value = match net.as_declared && network.has_five_dimensions() {
            true => without_five_dimensions(net, output, value)?,
            false => value,
        };
        let value = declared(net, output, value).map_err(|e| e.at(format_args!("output `{name}`")))?;
        net.builder.rename(value, name);
        outputs.push(value);
    }
    Ok(outputs)
}

/// Removes from an output of an old network the dimensions that are not declared, if their sizes are 1.
fn without_five_dimensions(net: &mut Net, output: &FeatureDescription, value: ValueId) -> Result<ValueId> {
    let one = Some(Dim::Fixed(1));
    let shape = net.ty(value)?.shape.clone();
    let is_one = |d: usize| shape.get(d).copied() == one;
    if shape.len() != 5 || !is_one(0) || !is_one(1) {
        return Ok(value);
    }
    let (declared, is_array) = match feature(output) {
        Some(feature_type::Type::MultiArrayType(array)) => (array.shape.len(), true),
        _ => (0, false),
    };
    if is_array && declared <= 1 && is_one(3) && is_one(4) {
        return op!(net, Squeeze, x = value, axes = &[0, 1, 3, 4][..]);
    }
    match is_array && declared != 5 {
        true => op!(net, Squeeze, x = value, axes = &[0, 1][..]),
        false => Ok(value),
    }
}

/// Converts a value to the declared type of a feature, under a name of its own.
fn declared(net: &mut Net, output: &FeatureDescription, value: ValueId) -> Result<ValueId> {
    let value = match feature(output) {
        Some(feature_type::Type::MultiArrayType(a)) if a.data_type == i32::from(ArrayDataType::Int32) => {
            net.int_of(value)?
        }
        Some(feature_type::Type::ImageType(_)) => {
            let value = net.float_of(value)?;
            match net.rank(value)? {
                0..=2 => return Err(Error::malformed("an image of less than three dimensions")),
                4 => value,
                rank => {
                    let last = (rank - 3..rank).map(|d| Size::Of(value, d..d + 1));
                    let sizes: Vec<Size> = [Size::Fixed(1)].into_iter().chain(last).collect();
                    net.reshape_to(value, &sizes)?
                }
            }
        }
        _ => net.float_of(value)?,
    };
    let value = in_declared_shape(net, output, value)?;
    op!(net, Identity, x = value)
}

/// Reshapes a value to the declared shape, if the two differ only by dimensions of size 1.
fn in_declared_shape(net: &mut Net, output: &FeatureDescription, value: ValueId) -> Result<ValueId> {
    let Some(feature_type::Type::MultiArrayType(array)) = feature(output) else { return Ok(value) };
    let Some(found) = net.ty(value)?.fixed_shape() else { return Ok(value) };
    let large = |shape: &mut dyn Iterator<Item = i64>| shape.filter(|&d| d != 1).collect::<Vec<i64>>();
    let same = large(&mut found.iter().map(|&d| d as i64)) == large(&mut array.shape.iter().copied());
    let differs = found.len() != array.shape.len();
    if array.shape.is_empty() || array.shape_flexibility.is_some() || !same || !differs {
        return Ok(value);
    }
    net.reshape(value, &array.shape)
}

/// Turns a vector of strings or int64 into a list, as Core ML wants class labels to be.
fn list_of(labels: &milwright_mil::Tensor) -> Value {
    match labels.to_i64() {
        Some(numbers) => {
            let number = |n| Value::Tensor(milwright_mil::Tensor::scalar(n));
            Value::List(Type::scalar(DType::Int64), numbers.into_iter().map(number).collect())
        }
        None => Value::List(
            Type::scalar(DType::String),
            labels.strings().iter().map(|s| Value::string(s.clone())).collect(),
        ),
    }
}

/// Adds the outputs of a classifier: the class label and the probability of each class.
fn classify(net: &mut Net, network: &Network<'_>, description: &ModelDescription) -> Result<Vec<ValueId>> {
    let classifier = network.classifier.ok_or_else(|| Error::malformed("not a classifier"))?;
    let name = network.probabilities(classifier).ok_or_else(|| Error::malformed("there are no layers"))?;
    let probabilities = net.scope.get(name).copied();
    let probabilities = probabilities
        .ok_or_else(|| Error::malformed(format!("no layer gives the probabilities `{name}`")))?;
    net.label = "classify".into();
    let probabilities = net.float_of(probabilities)?;
    let probabilities = match net.as_declared && net.rank(probabilities)? != 1 {
        true => net.reshape(probabilities, &[-1])?,
        false => probabilities,
    };
    let labels = classes(classifier)?;
    let count = usize_of(labels.elements() as u64)?;
    if net.ty(probabilities)?.elements().is_some_and(|n| n != count) {
        let ty = net.ty(probabilities)?;
        return Err(Error::malformed(format!("{count} class labels for probabilities of the type {ty}")));
    }
    let labels = if net.as_declared { list_of(&labels) } else { Value::Tensor(labels) };
    let inputs = vec![
        Input::value(param!(Classify.probabilities), probabilities),
        Input::constant(param!(Classify.classes), labels),
    ];
    let values = net.ops(OpKind::Classify, inputs)?;
    let names = [&description.predicted_feature_name, &description.predicted_probabilities_name];
    for (&value, name) in values.iter().zip(names) {
        if description.output.iter().any(|o| o.name == *name) {
            net.builder.rename(value, name);
        }
    }
    Ok(values)
}
