//! Converts tensors to Core ML's values and back.

use std::collections::HashMap;

use bytes::Bytes;
use milwright_apple::{
    Array, ElementType, Feature, FeatureKind, Features, Image, ImageSizes, Label, PixelFormat, Value,
};
use milwright_mil::{DType, Tensor, TensorError};

use milwright_formats::did_you_mean;

use crate::{ColorSpace, Error, ErrorKind, FeatureType, InferenceRequest, Model, Result};

/// Converts the inputs. `name` returns the name of a declared input, and whether it may be left out. Names are checked
/// here because Core ML ignores unknown ones.
pub(super) fn inputs<F>(
    request: &InferenceRequest,
    declared: &[F],
    name: impl Fn(&F) -> (&str, bool),
    value: impl Fn(&F, &Tensor) -> Result<Value>,
) -> Result<Features> {
    let mut features = Features::new();
    let by_name: HashMap<&str, &F> = declared.iter().map(|input| (name(input).0, input)).collect();
    for (wanted, tensor) in request.inputs() {
        let Some(&feature) = by_name.get(wanted.as_str()) else {
            let names: Vec<&str> = declared.iter().map(|input| name(input).0).collect();
            return Err(Error::invalid(format!("the model has no input `{wanted}`")).with_hint(format!(
                "{}its inputs are: {}",
                did_you_mean(wanted, names.iter().copied()),
                names.join(", ")
            )));
        };
        features.insert(wanted.clone(), value(feature, tensor)?);
    }
    let missing = |&(name, optional): &(&str, bool)| !optional && !features.contains_key(name);
    match declared.iter().map(name).find(missing) {
        Some((missing, _)) => Err(Error::invalid(format!("the input `{missing}` is missing"))),
        None => Ok(features),
    }
}

/// Converts an input. A tensor of the right element type shares its bytes with Core ML.
pub(super) fn input(model: &Model, feature: &Feature, tensor: &Tensor) -> Result<Value> {
    let name = &feature.name;
    let misfit = |wanted: &str| {
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        Error::invalid(format!("the input `{name}` is {wanted}, not a {dtype} of the shape {shape:?}"))
    };
    Ok(match &feature.kind {
        FeatureKind::Array { element, shape, .. } => {
            let element = element.ok_or_else(|| misfit("of a type that is not known here"))?;
            // Core ML's arrays have at least one dimension.
            let tensor = match tensor.shape() {
                [] => &reshaped(tensor, shape.len().max(1)),
                _ => tensor,
            };
            Value::Array(array(element, tensor).ok_or_else(|| misfit(&format!("of {element:?}")))?)
        }
        FeatureKind::Image { width, height, format, sizes } => {
            let format =
                PixelFormat::from_code(*format).ok_or_else(|| misfit("an image of unknown pixels"))?;
            let &[1, _, h, w] = tensor.shape() else {
                return Err(misfit("an image, 1 x channels x height x width"));
            };
            if *sizes == ImageSizes::Fixed && (w, h) != (*width, *height) {
                return Err(misfit(&format!("an image of {width} x {height}")));
            }
            let bgr = is_bgr(model, name);
            Value::Image(
                image(format, bgr, tensor).ok_or_else(|| misfit("an image with values from 0 to 255"))?,
            )
        }
        FeatureKind::Int64 => match tensor.to_i64().as_deref() {
            Some(&[n]) => Value::Int64(n),
            _ => return Err(misfit("one integer")),
        },
        FeatureKind::Double => match tensor.to_f64()[..] {
            [n] => Value::Double(n),
            _ => return Err(misfit("one number")),
        },
        FeatureKind::String => match tensor.strings() {
            [text] => Value::String(text.clone()),
            _ => return Err(misfit("one text")),
        },
        FeatureKind::Sequence => match tensor.to_i64() {
            Some(numbers) => Value::Integers(numbers),
            None => Value::Strings(tensor.strings().to_vec()),
        },
        _ => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                misfit("of a kind that no tensor is").to_string(),
            ));
        }
    })
}

/// Converts an output. If Core ML wrote into our memory, the tensor shares it.
pub(super) fn output(model: &Model, name: &str, value: Value, classes: &[Label]) -> Result<Tensor> {
    let bad = |e: TensorError| Error::new(ErrorKind::Runtime, format!("the output `{name}`: {e}"));
    match value {
        Value::Array(array) => tensor(&array),
        Value::Image(image) => pixels(&image, is_bgr(model, name)).map_err(bad),
        Value::Int64(n) => Ok(Tensor::scalar(n)),
        Value::Double(n) => Ok(Tensor::scalar(n)),
        Value::String(text) => Ok(Tensor::string(text)),
        Value::Strings(texts) => Tensor::from_strings(&[texts.len()], texts).map_err(bad),
        Value::Integers(numbers) => Tensor::from_vec(&[numbers.len()], numbers).map_err(bad),
        Value::Dictionary(entries) => {
            // In the order of the classes, if there are any.
            let mut entries = entries;
            let place = |label: &Label| classes.iter().position(|class| class == label).unwrap_or(usize::MAX);
            entries.sort_by_key(|(label, _)| place(label));
            let values: Vec<f32> = entries.iter().map(|(_, value)| *value as f32).collect();
            Tensor::from_vec(&[values.len()], values).map_err(bad)
        }
    }
}

/// A classifier's classes.
pub(super) fn classes(labels: &[Label]) -> Option<Tensor> {
    let numbers: Vec<i64> =
        labels.iter().filter_map(|l| if let Label::Int64(n) = l { Some(*n) } else { None }).collect();
    let texts: Vec<String> =
        labels.iter().filter_map(|l| if let Label::String(s) = l { Some(s.clone()) } else { None }).collect();
    match (numbers.len(), texts.len()) {
        (0, 0) => None,
        (n, 0) => Tensor::from_vec(&[n], numbers).ok(),
        (_, n) => Tensor::from_strings(&[n], texts).ok(),
    }
}

/// The initial value of a state.
pub(super) fn zeros(element: ElementType, shape: &[usize]) -> Option<Tensor> {
    let size = shape.iter().try_fold(element.size(), |n, d| n.checked_mul(*d))?;
    Tensor::from_bytes(dtype(element), shape, vec![0; size].into()).ok()
}

/// Reshapes a scalar to `rank` dimensions.
pub(super) fn reshaped(scalar: &Tensor, rank: usize) -> Tensor {
    scalar.reshaped(&vec![1; rank]).unwrap_or_else(|_| scalar.clone())
}

/// Converts a tensor to an array. If the element type is right, they share their bytes.
pub(super) fn array(element: ElementType, tensor: &Tensor) -> Option<Array> {
    let converted;
    let tensor = match tensor.dtype() == dtype(element) {
        true => tensor,
        false => {
            converted = tensor.converted(dtype(element))?;
            &converted
        }
    };
    Array::new(element, tensor.shape(), tensor.shared_bytes()).ok()
}

/// Converts an array to a tensor over the same memory, if the array is contiguous.
pub(super) fn tensor(array: &Array) -> Result<Tensor> {
    Tensor::from_bytes(dtype(array.element()), array.shape(), array.packed())
        .map_err(|e| Error::new(ErrorKind::Runtime, e.to_string()))
}

pub(super) fn dtype(element: ElementType) -> DType {
    match element {
        ElementType::Float16 => DType::Fp16,
        ElementType::Float32 => DType::Fp32,
        ElementType::Float64 => DType::Fp64,
        ElementType::Int8 => DType::Int8,
        ElementType::Int32 => DType::Int32,
    }
}

/// Whether the tensor of an image has its channels in the order blue, green, red.
fn is_bgr(model: &Model, name: &str) -> bool {
    let features = model.info().functions.iter().flat_map(|f| f.inputs.iter().chain(&f.outputs));
    let mut types = features.filter(|f| f.name == name).map(|f| &f.ty);
    types.any(|ty| matches!(ty, FeatureType::Image { color, .. } if *color == ColorSpace::Bgr))
}

/// For each byte of a pixel, the channel of the tensor. `None` stands for alpha.
fn channels(format: PixelFormat, bgr: bool) -> &'static [Option<usize>] {
    match (format, bgr) {
        (PixelFormat::Gray8 | PixelFormat::Gray16Half, _) => &[Some(0)],
        (PixelFormat::Bgra8, false) => &[Some(2), Some(1), Some(0), None],
        (PixelFormat::Bgra8, true) => &[Some(0), Some(1), Some(2), None],
        (PixelFormat::Argb8, false) => &[None, Some(0), Some(1), Some(2)],
        (PixelFormat::Argb8, true) => &[None, Some(2), Some(1), Some(0)],
    }
}

/// Converts a tensor, 1 × channels × height × width, to an image.
fn image(format: PixelFormat, bgr: bool, tensor: &Tensor) -> Option<Image> {
    let &[1, depth, height, width] = tensor.shape() else { return None };
    let plane = width * height;
    let order = channels(format, bgr);
    if order.iter().flatten().count() != depth {
        return None;
    }
    if format == PixelFormat::Gray16Half {
        let half = tensor.converted(DType::Fp16)?;
        return Image::new(format, width, height, width * format.size(), half.shared_bytes()).ok();
    }
    let values = tensor.to_f64();
    let mut bytes = Vec::with_capacity(plane * format.size());
    for pixel in 0..plane {
        for channel in order {
            let value = channel.map_or(255.0, |channel| values[channel * plane + pixel].round());
            if !(0.0..=255.0).contains(&value) {
                return None;
            }
            bytes.push(value as u8);
        }
    }
    Image::new(format, width, height, width * format.size(), Bytes::from(bytes)).ok()
}

/// Converts an image to a tensor, 1 × channels × height × width: fp32 from 0 to 255, or the unchanged fp16 values.
fn pixels(image: &Image, bgr: bool) -> Result<Tensor, TensorError> {
    let (width, height, size) = (image.width(), image.height(), image.format().size());
    let row = |y: usize| &image.data()[y * image.row_bytes()..][..width * size];
    if image.format() == PixelFormat::Gray16Half {
        let bytes: Vec<u8> = (0..height).flat_map(|y| row(y).iter().copied()).collect();
        return Tensor::from_bytes(DType::Fp16, &[1, 1, height, width], bytes.into());
    }
    let order = channels(image.format(), bgr);
    let depth = order.iter().flatten().count();
    let mut values = vec![0f32; depth * width * height];
    for y in 0..height {
        for (x, pixel) in row(y).chunks_exact(size).enumerate() {
            for (byte, channel) in pixel.iter().zip(order) {
                if let Some(channel) = channel {
                    values[(channel * height + y) * width + x] = f32::from(*byte);
                }
            }
        }
    }
    Tensor::from_vec(&[1, depth, height, width], values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_go_there_and_back() {
        let values: Vec<f32> = (0..12).map(|n| n as f32 * 20.0).collect();
        let tensor = Tensor::from_vec(&[1, 3, 2, 2], values).unwrap();
        for (format, bgr, first) in [
            (PixelFormat::Bgra8, false, [160, 80, 0, 255]),
            (PixelFormat::Bgra8, true, [0, 80, 160, 255]),
            (PixelFormat::Argb8, false, [255, 0, 80, 160]),
            (PixelFormat::Argb8, true, [255, 160, 80, 0]),
        ] {
            let image = image(format, bgr, &tensor).unwrap();
            assert_eq!(image.data()[..4], first);
            assert_eq!(pixels(&image, bgr).unwrap(), tensor);
        }
        let gray = Tensor::from_vec(&[1, 1, 1, 2], vec![0f32, 255.0]).unwrap();
        let image = image(PixelFormat::Gray8, false, &gray).unwrap();
        assert_eq!(image.data()[..], [0, 255]);
        assert_eq!(pixels(&image, false).unwrap(), gray);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let tensor = |value: f32| Tensor::from_vec(&[1, 1, 1, 1], vec![value]).unwrap();
        assert!(image(PixelFormat::Gray8, false, &tensor(255.4)).is_some());
        assert!(image(PixelFormat::Gray8, false, &tensor(256.0)).is_none());
        assert!(image(PixelFormat::Gray8, false, &tensor(-1.0)).is_none());
        assert!(image(PixelFormat::Gray8, false, &tensor(f32::NAN)).is_none());
        assert!(image(PixelFormat::Bgra8, false, &tensor(0.0)).is_none());
    }
}
