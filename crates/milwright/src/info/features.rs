//! Reads the features of a Core ML file.

use milwright_formats::proto as pb;

use crate::{ArrayType, ColorSpace, FeatureInfo, FeatureType, Flexibility, KeyType, SizeRange};

pub(super) fn feature(feature: &pb::FeatureDescription) -> FeatureInfo {
    FeatureInfo {
        name: feature.name.clone(),
        description: feature.short_description.clone(),
        optional: feature.r#type.as_ref().is_some_and(|t| t.is_optional),
        default: feature.r#type.as_ref().and_then(default_value),
        preprocessing: None,
        program_shape: None,
        ty: feature.r#type.as_ref().map_or(FeatureType::Unknown, feature_type),
    }
}

fn feature_type(ty: &pb::FeatureType) -> FeatureType {
    use pb::feature_type::Type;
    match &ty.r#type {
        Some(Type::MultiArrayType(array)) => FeatureType::MultiArray {
            dtype: array_type(array),
            shape: sizes(&array.shape),
            flexibility: array_flexibility(array),
        },
        Some(Type::ImageType(image)) => image_type(image),
        Some(Type::Int64Type(_)) => FeatureType::Int64,
        Some(Type::DoubleType(_)) => FeatureType::Double,
        Some(Type::StringType(_)) => FeatureType::String,
        Some(Type::DictionaryType(dictionary)) => FeatureType::Dictionary {
            key: match dictionary.key_type {
                Some(pb::dictionary_feature_type::KeyType::Int64KeyType(_)) => KeyType::Int64,
                _ => KeyType::String,
            },
        },
        Some(Type::SequenceType(sequence)) => FeatureType::Sequence {
            element: match sequence.r#type {
                Some(pb::sequence_feature_type::Type::Int64Type(_)) => KeyType::Int64,
                _ => KeyType::String,
            },
        },
        Some(Type::StateType(state)) => match &state.r#type {
            Some(pb::state_feature_type::Type::ArrayType(array)) => {
                FeatureType::State { dtype: array_type(array), shape: sizes(&array.shape) }
            }
            None => FeatureType::Unknown,
        },
        None => FeatureType::Unknown,
    }
}

fn default_value(ty: &pb::FeatureType) -> Option<f64> {
    use pb::array_feature_type::DefaultOptionalValue as Value;
    let Some(pb::feature_type::Type::MultiArrayType(array)) = ty.r#type.as_ref().filter(|_| ty.is_optional)
    else {
        return None;
    };
    Some(match array.default_optional_value {
        None => 0.0,
        Some(Value::IntDefaultValue(x)) => f64::from(x),
        Some(Value::FloatDefaultValue(x)) => f64::from(x),
        Some(Value::DoubleDefaultValue(x)) => x,
    })
}

fn array_type(array: &pb::ArrayFeatureType) -> ArrayType {
    use pb::array_feature_type::ArrayDataType as D;
    match D::try_from(array.data_type) {
        Ok(D::Float16) => ArrayType::Float16,
        Ok(D::Float32) => ArrayType::Float32,
        Ok(D::Double) => ArrayType::Double,
        Ok(D::Int32) => ArrayType::Int32,
        Ok(D::Int8) => ArrayType::Int8,
        _ => ArrayType::Unknown,
    }
}

fn array_flexibility(array: &pb::ArrayFeatureType) -> Flexibility {
    use pb::array_feature_type::ShapeFlexibility as F;
    match &array.shape_flexibility {
        Some(F::EnumeratedShapes(e)) => {
            Flexibility::Enumerated { shapes: e.shapes.iter().map(|s| sizes(&s.shape)).collect() }
        }
        Some(F::ShapeRange(r)) => {
            Flexibility::Range { dimensions: r.size_ranges.iter().map(size_range).collect() }
        }
        None => Flexibility::Fixed,
    }
}

fn image_type(image: &pb::ImageFeatureType) -> FeatureType {
    use pb::image_feature_type::SizeFlexibility as F;
    let any = SizeRange { least: 0, most: None };
    let range = |r: &Option<pb::SizeRange>| r.as_ref().map_or(any, size_range);
    FeatureType::Image {
        width: image.width.max(0) as u64,
        height: image.height.max(0) as u64,
        color: color_space(image.color_space),
        flexibility: match &image.size_flexibility {
            Some(F::EnumeratedSizes(e)) => {
                Flexibility::Enumerated { shapes: e.sizes.iter().map(|s| vec![s.height, s.width]).collect() }
            }
            Some(F::ImageSizeRange(r)) => {
                Flexibility::Range { dimensions: vec![range(&r.height_range), range(&r.width_range)] }
            }
            None => Flexibility::Fixed,
        },
    }
}

fn sizes(shape: &[i64]) -> Vec<u64> {
    shape.iter().map(|&n| n.max(0) as u64).collect()
}

/// A negative upper bound means unlimited.
fn size_range(range: &pb::SizeRange) -> SizeRange {
    SizeRange { least: range.lower_bound, most: range.upper_bound.try_into().ok() }
}

fn color_space(code: i32) -> ColorSpace {
    use pb::image_feature_type::ColorSpace as C;
    match C::try_from(code) {
        Ok(C::Rgb) => ColorSpace::Rgb,
        Ok(C::Bgr) => ColorSpace::Bgr,
        Ok(C::Grayscale) => ColorSpace::Grayscale,
        Ok(C::GrayscaleFloat16) => ColorSpace::GrayscaleFloat16,
        Ok(C::InvalidColorSpace) => ColorSpace::Invalid,
        Err(_) => ColorSpace::Unknown,
    }
}
