//! `metadata.json`: the description of a compiled model, for people and tools.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::proto::{
    ArrayFeatureType, FeatureDescription, FeatureType, ImageFeatureType, Model, ModelDescription, SizeRange,
    array_feature_type::{ArrayDataType, ShapeFlexibility},
    dictionary_feature_type::KeyType,
    feature_type,
    image_feature_type::{ColorSpace, SizeFlexibility},
    sequence_feature_type, state_feature_type,
};

/// The summary of a function in `metadata.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionSummary {
    /// How often each op is used, by opset and name, such as `Ios16.mul`.
    pub ops: BTreeMap<String, usize>,
    /// The element types that it computes in, such as `Float16`.
    pub compute_types: BTreeSet<String>,
    /// The element types of its weights.
    pub storage_types: BTreeSet<String>,
}

/// Returns the file's content. `kind` is the type of the model, `name` its name.
pub(super) fn json(
    compiled: &Model,
    functions: &BTreeMap<String, FunctionSummary>,
    kind: Value,
    name: &str,
) -> String {
    let empty = ModelDescription::default();
    let description = compiled.description.as_deref().unwrap_or(&empty);
    let mut model = Map::new();
    let mut put = |key: &str, value: Value| model.insert(key.to_owned(), value);
    put("metadataOutputVersion", "3.0".into());

    let metadata = description.metadata.clone().unwrap_or_default();
    for (key, text) in [
        ("author", metadata.author),
        ("license", metadata.license),
        ("shortDescription", metadata.short_description),
        ("version", metadata.version_string),
    ] {
        if !text.is_empty() {
            put(key, text.into());
        }
    }
    put("userDefinedMetadata", json!(metadata.user_defined));
    put("specificationVersion", compiled.specification_version.into());
    put("availability", availability(compiled.specification_version));
    put("modelType", kind);
    put("modelParameters", json!([]));
    put("generatedClassName", class_name(name).into());
    put("isUpdatable", "0".into());
    put("method", "predict".into());

    let interfaces = description
        .functions
        .iter()
        .map(|f| (f.name.as_str(), Interface { input: &f.input, output: &f.output, state: &f.state }));
    let interfaces: Vec<(&str, Interface<'_>)> = interfaces.collect();
    let summary = |name: &str| functions.get(name).cloned().unwrap_or_default();
    let named = interfaces.iter().find(|(name, _)| *name == description.default_function_name);
    let (default, interface) = named.or(interfaces.first()).copied().unwrap_or_else(|| {
        let (input, output, state) = (&description.input, &description.output, &description.state);
        ("main", Interface { input, output, state })
    });
    interface.describe(&summary(default), &mut put);
    if !interfaces.is_empty() {
        let functions = interfaces.iter().map(|(name, interface)| {
            let mut function = Map::from_iter([("name".to_owned(), Value::from(*name))]);
            interface.describe(&summary(name), &mut |key, value| function.insert(key.to_owned(), value));
            Value::Object(function)
        });
        put("functions", functions.collect());
        put("defaultFunctionName", default.into());
    }
    let mut text = serde_json::to_string_pretty(&json!([model])).expect("strings and numbers serialize");
    text.push('\n');
    text
}

/// The inputs, outputs and states of a function.
#[derive(Clone, Copy)]
struct Interface<'a> {
    input: &'a [FeatureDescription],
    output: &'a [FeatureDescription],
    state: &'a [FeatureDescription],
}

impl Interface<'_> {
    fn describe(&self, summary: &FunctionSummary, put: &mut dyn FnMut(&str, Value) -> Option<Value>) {
        let schema = |features: &[FeatureDescription]| features.iter().map(feature).collect::<Value>();
        put("inputSchema", schema(self.input));
        put("outputSchema", schema(self.output));
        put("stateSchema", schema(self.state));
        put("mlProgramOperationTypeHistogram", json!(summary.ops));
        put("computePrecision", mixed(&summary.compute_types).into());
        if !summary.storage_types.is_empty() {
            put("storagePrecision", mixed(&summary.storage_types).into());
        }
    }
}

/// One type, or several as `Mixed (Float16, Int32)`.
fn mixed(types: &BTreeSet<String>) -> String {
    let names: Vec<&str> = types.iter().map(String::as_str).collect();
    match names.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("Mixed ({})", several.join(", ")),
    }
}

/// The oldest systems that can run models of a specification version.
fn availability(version: i32) -> Value {
    let (ios, mac_os, watch_os, vision_os) = match version {
        ..=6 => ("15.0", "12.0", "8.0", "1.0"),
        7 => ("16.0", "13.0", "9.0", "1.0"),
        8 => ("17.0", "14.0", "10.0", "1.0"),
        9 => ("18.0", "15.0", "11.0", "2.0"),
        10.. => ("26.0", "26.0", "26.0", "26.0"),
    };
    json!({ "iOS": ios, "macCatalyst": ios, "macOS": mac_os, "tvOS": ios, "visionOS": vision_os, "watchOS": watch_os })
}

/// The name of the class that Xcode generates for a model: every character that cannot be in an identifier becomes `_`.
fn class_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect()
}

fn feature(feature: &FeatureDescription) -> Value {
    let empty = FeatureType::default();
    let ty = feature.r#type.as_ref().unwrap_or(&empty);
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("name", feature.name.clone().into());
    put("shortDescription", feature.short_description.clone().into());
    put("isOptional", flag(ty.is_optional));
    match &ty.r#type {
        Some(feature_type::Type::MultiArrayType(array)) => {
            describe_array("MultiArray", array, &mut put);
            let flexibility = shape_flexibility(array);
            put("hasShapeFlexibility", flag(flexibility.is_some()));
            if let Some((words, key, shapes)) = flexibility {
                put("shapeFlexibility", words.into());
                put(key, shapes.into());
            }
        }
        Some(feature_type::Type::StateType(state)) => {
            if let Some(state_feature_type::Type::ArrayType(array)) = &state.r#type {
                describe_array("State", array, &mut put);
            }
        }
        Some(feature_type::Type::ImageType(image)) => describe_image(image, &mut put),
        Some(feature_type::Type::DictionaryType(dictionary)) => {
            let key = match dictionary.key_type {
                Some(KeyType::Int64KeyType(_)) => "Int64",
                _ => "String",
            };
            put("type", "Dictionary".into());
            put("keyType", key.into());
            put("formattedType", format!("Dictionary ({key} → Double)").into());
        }
        Some(feature_type::Type::SequenceType(sequence)) => {
            let element = match sequence.r#type {
                Some(sequence_feature_type::Type::Int64Type(_)) => "Int64",
                _ => "String",
            };
            put("type", "Sequence".into());
            put("formattedType", format!("Sequence ({element})").into());
        }
        Some(feature_type::Type::Int64Type(_)) => plain("Int64", &mut put),
        Some(feature_type::Type::DoubleType(_)) => plain("Double", &mut put),
        Some(feature_type::Type::StringType(_)) => plain("String", &mut put),
        None => {}
    }
    Value::Object(object)
}

type Put<'a> = dyn FnMut(&str, Value) -> Option<Value> + 'a;

fn plain(name: &str, put: &mut Put<'_>) {
    put("type", name.into());
    put("formattedType", name.into());
}

fn describe_array(kind: &str, array: &ArrayFeatureType, put: &mut Put<'_>) {
    let dtype = match ArrayDataType::try_from(array.data_type) {
        Ok(ArrayDataType::Float16) => "Float16",
        Ok(ArrayDataType::Float32) => "Float32",
        Ok(ArrayDataType::Double) => "Double",
        Ok(ArrayDataType::Int32) => "Int32",
        Ok(ArrayDataType::Int8) => "Int8",
        _ => "Unknown",
    };
    put("type", kind.into());
    put("dataType", dtype.into());
    put("shape", format!("{:?}", array.shape).into());
    let shape = if array.shape.is_empty() { String::new() } else { format!(" {}", product(&array.shape)) };
    put("formattedType", format!("{kind} ({dtype}{shape})").into());
}

/// The shapes that an array may have: in words, and the key and text that programs read.
fn shape_flexibility(array: &ArrayFeatureType) -> Option<(String, &'static str, String)> {
    Some(match array.shape_flexibility.as_ref()? {
        ShapeFlexibility::EnumeratedShapes(shapes) => {
            let shapes: Vec<&[i64]> = shapes.shapes.iter().map(|shape| shape.shape.as_slice()).collect();
            let words: Vec<String> = shapes.iter().map(|shape| product(shape)).collect();
            (words.join(" | "), "enumeratedShapes", format!("{shapes:?}"))
        }
        ShapeFlexibility::ShapeRange(ranges) => {
            let words: Vec<String> = ranges.size_ranges.iter().map(range_in_words).collect();
            let bounds: Vec<String> = ranges.size_ranges.iter().map(bounds).collect();
            (words.join(" × "), "shapeRange", format!("[{}]", bounds.join(", ")))
        }
    })
}

fn describe_image(image: &ImageFeatureType, put: &mut Put<'_>) {
    let color = ColorSpace::try_from(image.color_space).unwrap_or_default();
    let gray = matches!(color, ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16);
    let kind = match color {
        ColorSpace::GrayscaleFloat16 => "Grayscale16Half",
        ColorSpace::Grayscale => "Grayscale",
        _ => "Color",
    };
    put("type", "Image".into());
    put("width", image.width.to_string().into());
    put("height", image.height.to_string().into());
    put("colorspace", color.as_str_name().into());
    put("isColor", flag(!gray));
    put("formattedType", format!("Image ({kind} {} × {})", image.width, image.height).into());
    put("hasSizeFlexibility", flag(image.size_flexibility.is_some()));
    match &image.size_flexibility {
        Some(SizeFlexibility::EnumeratedSizes(sizes)) => {
            let words: Vec<String> =
                sizes.sizes.iter().map(|s| format!("{} × {}", s.width, s.height)).collect();
            let pairs: Vec<[u64; 2]> = sizes.sizes.iter().map(|s| [s.width, s.height]).collect();
            put("sizeFlexibility", words.join(" | ").into());
            put("enumeratedSizes", format!("{pairs:?}").into());
        }
        Some(SizeFlexibility::ImageSizeRange(range)) => {
            let (width, height) =
                (range.width_range.unwrap_or_default(), range.height_range.unwrap_or_default());
            let words = format!("{} × {}", range_in_words(&width), range_in_words(&height));
            put("sizeFlexibility", words.into());
            put("sizeRange", format!("[{}, {}]", bounds(&width), bounds(&height)).into());
        }
        None => {}
    }
}

fn bounds(range: &SizeRange) -> String {
    format!("[{}, {}]", range.lower_bound, range.upper_bound)
}

fn range_in_words(range: &SizeRange) -> String {
    match range.upper_bound {
        ..0 => format!("{}...", range.lower_bound),
        high if u64::try_from(high) == Ok(range.lower_bound) => high.to_string(),
        high => format!("{}...{high}", range.lower_bound),
    }
}

fn product(shape: &[i64]) -> String {
    shape.iter().map(i64::to_string).collect::<Vec<_>>().join(" × ")
}

fn flag(is: bool) -> Value {
    if is { "1" } else { "0" }.into()
}
