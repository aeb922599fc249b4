//! The text of compiled ML programs.

use std::collections::{BTreeMap, HashMap};

use milwright_formats::blob::BlobType;
use milwright_formats::proto::{self as pb, array_feature_type, feature_type, image_feature_type};
use milwright_formats::{FunctionSummary, Package};
use milwright_mil::text::{self, BlobRef, Printer, TextVersion};
use milwright_mil::{Checked, DType, Dim, Function, OpKind, Opset, Program, Tensor, TensorType, Type, Value};

use super::values::{blob_type, read_blob};
use crate::Error;

/// The attribute with the shapes that a function's inputs may have, for Core ML's compiler. The model's description has
/// the same shapes; when a model is read, only the description counts.
const FLEXIBLE_SHAPES: &str = "FlexibleShapeInformation";

/// The attribute that names the tools which made a program.
const BUILD_INFO: &str = "buildInfo";

/// The first specification version whose compiled programs have the form `program(1.3)`.
const FIRST_WITH_SCALARS: i32 = 9;

/// Reads a program's text. Weights are shared with the package's files, not copied.
pub(super) fn read_text(text: &str, package: &Package) -> Result<Program, Error> {
    let mut blobs = |file_name: &str, offset: u64, ty: &TensorType| {
        read_blob(ty, file_name, offset, package).map_err(|e| e.to_string())
    };
    let mut program = text::parse_with(text, &mut blobs).map_err(|e| {
        Error::malformed(e.message())
            .with_hint("the compiled model is damaged: copy it again, or compile it again")
            .at(format_args!("model.mil:{}:{}", e.line(), e.column()))
    })?;
    for function in program.functions.values_mut() {
        function.attributes.shift_remove(FLEXIBLE_SHAPES);
    }
    Ok(program)
}

/// Writes the text of a compiled program, in the form that Core ML's compiler uses for the model's specification
/// version. The program must have been [read](super::read()) from `package`: the text refers to constants in the
/// package's weight files. `tool`, a name and a version, is added to the tools that made the program.
pub fn write_text(program: &Checked, package: &Package, tool: (&str, &str)) -> String {
    let mut program: Program = (**program).clone();
    let description = package.model().description.as_deref();
    for (name, function) in &mut program.functions {
        let inputs = description.map_or(&[][..], |d| match d.functions.iter().find(|f| f.name == *name) {
            Some(function) => &function.input,
            None => &d.input,
        });
        if let Some(shapes) = flexible_shapes(inputs, function) {
            function.attributes.insert(FLEXIBLE_SHAPES.to_owned(), shapes);
        }
    }
    add_build_info(&mut program, tool);

    let places = Places::new(package);
    let mut blobs = |tensor: &Tensor| places.find(tensor).cloned();
    let version = match package.model().specification_version {
        ..FIRST_WITH_SCALARS => TextVersion::V1_0,
        _ => TextVersion::V1_3,
    };
    Printer::new().version(version).weights(&mut blobs).print(&program).trim_end().to_owned()
}

/// Returns what `metadata.json` says about each function of a program that was [read](super::read()) from `package`.
pub fn summaries(program: &Program, package: &Package) -> BTreeMap<String, FunctionSummary> {
    let places = Places::new(package);
    let summaries = program.functions.iter().map(|(name, f)| (name.clone(), summary(f, &places)));
    summaries.collect()
}

/// The places of constants in weight files, by address: a constant that was read from a file shares its bytes.
struct Places(HashMap<(usize, usize, BlobType), BlobRef>);

impl Places {
    fn new(package: &Package) -> Places {
        let mut places = HashMap::new();
        for (name, file) in package.weight_files() {
            for (offset, blob) in file.blobs().flatten().filter(|(_, blob)| !blob.data.is_empty()) {
                let key = (blob.data.as_ptr() as usize, blob.data.len(), blob.dtype);
                places.insert(key, BlobRef { path: name.clone(), offset });
            }
        }
        Places(places)
    }

    fn find(&self, tensor: &Tensor) -> Option<&BlobRef> {
        let dtype = blob_type(tensor.dtype())?;
        self.0.get(&(tensor.bytes().as_ptr() as usize, tensor.bytes().len(), dtype))
    }
}

fn add_build_info(program: &mut Program, (tool, version): (&str, &str)) {
    let string = Type::scalar(DType::String);
    let info = program
        .attributes
        .entry(BUILD_INFO.to_owned())
        .or_insert_with(|| Value::Dict(string.clone(), string, Vec::new()));
    if let Value::Dict(_, _, entries) = info {
        entries.retain(|(key, _)| key.as_str() != Some(tool));
        entries.push((Value::string(tool), Value::string(version)));
        entries.sort_by(|(a, _), (b, _)| a.as_str().cmp(&b.as_str()));
    }
}

/// Returns, by input, the default shapes of inputs with flexible shapes, and their other shapes. `None` if all are
/// fixed.
fn flexible_shapes(features: &[pb::FeatureDescription], function: &Function) -> Option<Value> {
    let flexible = features.iter().filter_map(|f| Some((f.name.as_str(), shapes(f, function)?)));
    let mut flexible: Vec<(&str, Shapes)> = flexible.collect();
    flexible.sort_by_key(|(name, _)| *name);
    if flexible.is_empty() {
        return None;
    }
    let string = Type::scalar(DType::String);
    let shape_type = Type::Tensor(TensorType::new(DType::Int32, [Dim::Unknown]));
    let pair_type = Type::tensor(DType::Int32, &[2]);
    let ranges_type = Type::List(Box::new(pair_type.clone()), Dim::Unknown);
    let entry = |name: &str, value: Value| (Value::string(name), value);
    let named = |key: &str, ty: &Type, entries: Vec<(Value, Value)>| {
        Value::Tuple(vec![Value::string(key), Value::Dict(string.clone(), ty.clone(), entries)])
    };

    let defaults = flexible.iter().map(|(name, shapes)| entry(name, Value::ints(&shapes.default)));
    let mut parts = vec![named("DefaultShapes", &shape_type, defaults.collect())];
    let ranges: Vec<(Value, Value)> = flexible
        .iter()
        .filter(|(_, shapes)| !shapes.ranges.is_empty())
        .map(|(name, shapes)| {
            let pairs = shapes.ranges.iter().map(|&(low, high)| Value::ints(&[low, high]));
            entry(name, Value::List(pair_type.clone(), pairs.collect()))
        })
        .collect();
    if !ranges.is_empty() {
        parts.push(named("RangeDims", &ranges_type, ranges));
    }
    // Each entry chooses one shape for every input.
    let choices = flexible.iter().map(|(_, shapes)| shapes.enumerated.len()).max().unwrap_or(0);
    let enumerated: Vec<(Value, Value)> = (0..choices)
        .map(|i| {
            let inputs = flexible.iter().filter(|(_, shapes)| !shapes.enumerated.is_empty());
            let inputs = inputs.map(|(name, shapes)| {
                entry(name, Value::ints(shapes.enumerated.get(i).unwrap_or(&shapes.default)))
            });
            let choice = Value::Dict(string.clone(), shape_type.clone(), inputs.collect());
            (Value::string(format!("{i:08x}")), choice)
        })
        .collect();
    if !enumerated.is_empty() {
        let ty = Type::Dict(Box::new(string.clone()), Box::new(shape_type.clone()));
        parts.push(named("EnumeratedShapes", &ty, enumerated));
    }
    Some(Value::Tuple(parts))
}

/// The shapes that an input may have: the default, and either ranges or an enumeration.
struct Shapes {
    default: Vec<i32>,
    ranges: Vec<(i32, i32)>,
    enumerated: Vec<Vec<i32>>,
}

fn shapes(feature: &pb::FeatureDescription, function: &Function) -> Option<Shapes> {
    match feature.r#type.as_ref()?.r#type.as_ref()? {
        feature_type::Type::MultiArrayType(array) => array_shapes(array),
        feature_type::Type::ImageType(image) => {
            let input = function.inputs.iter().find(|&&v| function[v].name == feature.name)?;
            // In front of height and width are the batch and channel sizes that the program has.
            let shape = &function[*input].ty.as_tensor()?.shape;
            let outer = shape.len().checked_sub(2)?;
            let outer = shape[..outer].iter().map(|d| d.fixed().map_or(1, narrow)).collect::<Vec<i32>>();
            image_shapes(image, &outer)
        }
        _ => None,
    }
}

fn array_shapes(array: &pb::ArrayFeatureType) -> Option<Shapes> {
    let sizes = |shape: &[i64]| shape.iter().map(|&n| narrow(n)).collect::<Vec<i32>>();
    let mut shapes = Shapes { default: sizes(&array.shape), ranges: Vec::new(), enumerated: Vec::new() };
    match array.shape_flexibility.as_ref()? {
        array_feature_type::ShapeFlexibility::ShapeRange(ranges) => {
            shapes.ranges = ranges.size_ranges.iter().map(range).collect();
        }
        array_feature_type::ShapeFlexibility::EnumeratedShapes(all) => {
            shapes.enumerated = all.shapes.iter().map(|shape| sizes(&shape.shape)).collect();
        }
    }
    if shapes.default.is_empty() {
        shapes.default = match shapes.enumerated.first() {
            Some(first) => first.clone(),
            None => shapes.ranges.iter().map(|&(low, _)| low).collect(),
        };
    }
    Some(shapes)
}

fn image_shapes(image: &pb::ImageFeatureType, outer: &[i32]) -> Option<Shapes> {
    let shape = |height: i32, width: i32| [outer, &[height, width]].concat();
    let default = shape(narrow(image.height), narrow(image.width));
    let mut shapes = Shapes { default, ranges: Vec::new(), enumerated: Vec::new() };
    match image.size_flexibility.as_ref()? {
        image_feature_type::SizeFlexibility::ImageSizeRange(sizes) => {
            let ends = [&sizes.height_range, &sizes.width_range];
            let ends =
                ends.map(|end| range(&end.unwrap_or(pb::SizeRange { lower_bound: 1, upper_bound: -1 })));
            shapes.ranges = outer.iter().map(|&n| (n, n)).chain(ends).collect();
        }
        image_feature_type::SizeFlexibility::EnumeratedSizes(all) => {
            shapes.enumerated = all.sizes.iter().map(|s| shape(narrow(s.height), narrow(s.width))).collect();
        }
    }
    Some(shapes)
}

/// Returns the least and the greatest size; -1 means unlimited.
fn range(range: &pb::SizeRange) -> (i32, i32) {
    (narrow(range.lower_bound), if range.upper_bound < 0 { -1 } else { narrow(range.upper_bound) })
}

/// Converts a size for the text, which has int32 sizes; larger ones have no meaning there.
fn narrow<T: TryInto<i32>>(size: T) -> i32 {
    size.try_into().unwrap_or(i32::MAX)
}

fn summary(function: &Function, places: &Places) -> FunctionSummary {
    let mut summary = FunctionSummary::default();
    for id in function.walk() {
        let op = &function[id];
        let constants = op.inputs.iter().flat_map(|input| &input.args).filter_map(|arg| match arg {
            milwright_mil::Arg::Const(value) => value.as_tensor(),
            milwright_mil::Arg::Value(_) => None,
        });
        let constants = constants.chain(op.attributes.values().filter_map(Value::as_tensor));
        let weights = constants.filter(|t| places.find(t).is_some());
        summary.storage_types.extend(weights.map(|t| type_name(t.dtype())));
        let is_const = op.kind == OpKind::Const;
        let computed = |dtype: DType| dtype.is_float() || (dtype.is_int() && !is_const);
        let outputs = op.outputs.iter().filter_map(|&v| Some(function[v].ty.as_tensor()?.dtype));
        summary.compute_types.extend(outputs.filter(|&dtype| computed(dtype)).map(type_name));
        if !is_const {
            let version = version(op.kind, function.opset);
            *summary.ops.entry(format!("{version:?}.{}", camel_case(op.kind.name()))).or_default() += 1;
        }
    }
    summary
}

/// Returns the opset that Core ML's compiler counts an op under. Ops that iOS17 did not change count under iOS16.
fn version(kind: OpKind, opset: Opset) -> Opset {
    match opset {
        Opset::Ios17 => kind.version(opset).map_or(opset, |v| v.opset).max(Opset::Ios16),
        _ => opset.min(Opset::Ios18),
    }
}

/// Turns `constexpr_lut_to_dense` into `constexprLutToDense`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        name + letters.as_str()
    })
}

/// Returns `Float16` for fp16, `Int32` for int32, `UInt8` for uint8, and so on.
fn type_name(dtype: DType) -> String {
    match dtype {
        DType::Fp16 => "Float16".to_owned(),
        DType::Fp32 => "Float32".to_owned(),
        DType::Fp64 => "Float64".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(camel_case("constexpr_lut_to_dense"), "constexprLutToDense");
        assert_eq!(camel_case("relu6"), "relu6");
        assert_eq!(type_name(DType::UInt4), "UInt4");
    }

    fn array(shape: &[i64], flexibility: array_feature_type::ShapeFlexibility) -> pb::FeatureDescription {
        let array = pb::ArrayFeatureType {
            shape: shape.to_vec(),
            shape_flexibility: Some(flexibility),
            ..Default::default()
        };
        let ty = Some(feature_type::Type::MultiArrayType(array));
        pb::FeatureDescription {
            name: "x".into(),
            r#type: Some(pb::FeatureType { is_optional: false, r#type: ty }),
            ..Default::default()
        }
    }

    fn printed(feature: &pb::FeatureDescription) -> String {
        let function = Function::new(Opset::Ios17);
        text::print_value(&flexible_shapes(std::slice::from_ref(feature), &function).unwrap())
    }

    #[test]
    fn ranges_as_the_compiler_writes_them() {
        let size = |lower_bound, upper_bound| pb::SizeRange { lower_bound, upper_bound };
        let ranges = array_feature_type::ShapeRange { size_ranges: vec![size(1, -1), size(4, 4)] };
        let feature = array(&[2, 4], array_feature_type::ShapeFlexibility::ShapeRange(ranges));
        assert_eq!(
            printed(&feature),
            "tuple<tuple<string, dict<string, tensor<int32, [?]>>>, tuple<string, dict<string, \
             list<tensor<int32, [2]>, ?>>>>(((\"DefaultShapes\", {{\"x\", [2, 4]}}), \
             (\"RangeDims\", {{\"x\", [[1, -1], [4, 4]]}})))"
        );
    }

    #[test]
    fn enumerated_shapes() {
        let shape = |shape: &[i64]| array_feature_type::Shape { shape: shape.to_vec() };
        let shapes = array_feature_type::EnumeratedShapes { shapes: vec![shape(&[1, 4]), shape(&[2, 4])] };
        let feature = array(&[1, 4], array_feature_type::ShapeFlexibility::EnumeratedShapes(shapes));
        assert!(printed(&feature).ends_with(
            "(((\"DefaultShapes\", {{\"x\", [1, 4]}}), (\"EnumeratedShapes\", \
             {{\"00000000\", {{\"x\", [1, 4]}}}, {\"00000001\", {{\"x\", [2, 4]}}}})))"
        ));
    }
}
