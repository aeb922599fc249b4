//! Packages that are damaged, that lie, or that are rare: each is made from a copy of `digits.mlpackage`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use milwright_testkit::formats::proto::mil_spec::{
    Argument, Block, DataType, Dimension, NamedValueType, Operation, TensorType, TensorValue, Value,
    ValueType, argument, dimension, tensor_value, value, value_type,
};
use milwright_testkit::formats::proto::{
    ImageFeatureType, Model, array_feature_type, feature_type, image_feature_type, model,
};
use prost::Message as _;

/// What is done to the copy.
type Change = fn(&Path);

/// Changes by the name of the package that they make.
pub const ALL: &[(&str, Change)] = &[
    ("blob-lies", |p| edit_weights(p, |w| w[64 + 8..64 + 16].copy_from_slice(&(1u64 << 50).to_le_bytes()))),
    ("blobs-overlap", blobs_overlap),
    ("empty", |p| drop(File::create(model_file(p)).unwrap())),
    ("endless", |p| edit(p, |m| endless(m, named("image")))),
    ("endless-constant", |p| {
        edit(p, |m| endless(m, given(tensor_type(&[1, 1, 8, 8], DataType::Float32), zeros(64))))
    }),
    ("flipped", |p| edit_model_bytes(p, |m| m[1000] ^= 0x80)),
    ("flipped-blob", |p| edit_weights(p, |w| w[64] ^= 1)),
    ("gray", |p| edit(p, |m| set_image_input(m, 8, 8))),
    ("huge-input", |p| edit(p, huge_input)),
    ("integers", |p| edit(p, integers)),
    ("lfs", |p| {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 40384\n";
        fs::write(weight_file(p), pointer).unwrap();
    }),
    ("link-outside", link_outside),
    ("nested", nested),
    ("newer", |p| edit(p, |m| m.specification_version = 99)),
    ("no-manifest", |p| fs::remove_file(p.join("Manifest.json")).unwrap()),
    ("no-model", |p| fs::remove_file(model_file(p)).unwrap()),
    ("no-weights-folder", |p| fs::remove_dir_all(weight_file(p).parent().unwrap()).unwrap()),
    ("no-weights", |p| fs::remove_file(weight_file(p)).unwrap()),
    ("not-json", |p| fs::write(p.join("Manifest.json"), "{").unwrap()),
    ("overflow", |p| edit(p, overflow)),
    ("path-outside", path_outside),
    ("petabytes", |p| edit(p, petabytes)),
    ("past-the-end", |p| edit(p, |m| first_blob(m).offset = 1 << 40)),
    ("shape-overflows", |p| edit(p, |m| set_input_shape(m, &[1, 1, 1 << 62, 1 << 62]))),
    ("table", |p| edit(p, table)),
    ("terminal", |p| edit(p, |m| main_block(m).operations[3].r#type = "conv\x1b[2J".into())),
    ("truncated", |p| edit_model_bytes(p, |m| m.truncate(m.len() / 2))),
    ("truncated-weights", |p| edit_weights(p, |w| w.truncate(w.len() / 2))),
    ("two-functions", |p| edit(p, two_functions)),
    ("unknown-op", unknown_op),
];

fn model_file(package: &Path) -> PathBuf {
    package.join("Data/com.apple.CoreML/model.mlmodel")
}

fn weight_file(package: &Path) -> PathBuf {
    package.join("Data/com.apple.CoreML/weights/weight.bin")
}

fn edit_bytes(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn edit_model_bytes(package: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    edit_bytes(&model_file(package), change);
}

fn edit_weights(package: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    edit_bytes(&weight_file(package), change);
}

fn edit(package: &Path, change: impl FnOnce(&mut Model)) {
    edit_model_bytes(package, |bytes| {
        let mut model = Model::decode(&bytes[..]).unwrap();
        change(&mut model);
        *bytes = model.encode_to_vec();
    });
}

fn main_block(model: &mut Model) -> &mut Block {
    let Some(model::Type::MlProgram(program)) = &mut model.r#type else { panic!("an ML program") };
    program.functions.get_mut("main").unwrap().block_specializations.values_mut().next().unwrap()
}

fn first_blob(model: &mut Model) -> &mut value::BlobFileValue {
    let values = main_block(model).operations.iter_mut().flat_map(|op| op.attributes.values_mut());
    let blobs = values.filter_map(|v| match &mut v.value {
        Some(value::Value::BlobFileValue(blob)) => Some(blob),
        _ => None,
    });
    blobs.min_by_key(|b| b.offset).unwrap()
}

/// The second blob's data claims to start where the first one's does.
fn blobs_overlap(package: &Path) {
    edit_weights(package, |weights| {
        let u64_at = |at: usize| u64::from_le_bytes(weights[at..][..8].try_into().unwrap());
        let (size, start) = (u64_at(64 + 8), u64_at(64 + 16));
        let second = (start + size).next_multiple_of(64) as usize;
        weights[second + 16..][..8].copy_from_slice(&start.to_le_bytes());
    });
}

fn link_outside(package: &Path) {
    let outside = package.with_extension("bin");
    fs::rename(weight_file(package), &outside).unwrap();
    std::os::unix::fs::symlink(fs::canonicalize(outside).unwrap(), weight_file(package)).unwrap();
}

fn path_outside(package: &Path) {
    let manifest = package.join("Manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("com.apple.CoreML/weights", "../../../../etc")).unwrap();
}

fn unknown_op(package: &Path) {
    edit(package, |model| {
        let op = main_block(model).operations.iter_mut().find(|op| op.r#type == "max_pool").unwrap();
        op.r#type = "maxpool".into();
    });
}

/// The function `main` once more, with the same weights. Not damaged at all.
fn two_functions(model: &mut Model) {
    let Some(model::Type::MlProgram(program)) = &mut model.r#type else { panic!("an ML program") };
    let main = program.functions["main"].clone();
    program.functions.insert("again".into(), main);
}

/// A block in a block in a block, five hundred times.
fn nested(package: &Path) {
    edit_model_bytes(package, |bytes| {
        // By hand: what the reader refuses to nest this deep, the writer does not encode.
        let mut inner = Vec::new();
        for _ in 0..500 {
            inner = field(4, &field(3, &inner)); // Operation.blocks, Block.operations
        }
        let block = field(3, &inner);
        let specialization = field(3, &[field(1, b"CoreML5"), field(2, &block)].concat());
        let function = field(2, &[field(1, b"main"), field(2, &specialization)].concat());
        *bytes = [vec![8, 7], field(502, &function)].concat();
    });
}

/// A length-delimited protobuf field.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

fn tensor_type(shape: &[u64], dtype: DataType) -> ValueType {
    let dimension = |&size: &u64| Dimension {
        dimension: Some(dimension::Dimension::Constant(dimension::ConstantDimension { size })),
    };
    ValueType {
        r#type: Some(value_type::Type::TensorType(TensorType {
            data_type: dtype.into(),
            rank: shape.len() as i64,
            dimensions: shape.iter().map(dimension).collect(),
            ..TensorType::default()
        })),
    }
}

fn set_input_shape(model: &mut Model, shape: &[u64]) {
    let Some(model::Type::MlProgram(program)) = &mut model.r#type else { panic!("an ML program") };
    program.functions.get_mut("main").unwrap().inputs[0].r#type = Some(tensor_type(shape, DataType::Float32));
    let input = &mut model.description.as_mut().unwrap().input[0];
    let Some(feature_type::Type::MultiArrayType(array)) = &mut input.r#type.as_mut().unwrap().r#type else {
        panic!("an array")
    };
    array.shape = shape.iter().map(|&n| n as i64).collect();
}

/// The input is a grey image. Not damaged at all.
fn set_image_input(model: &mut Model, width: i64, height: i64) {
    let input = &mut model.description.as_mut().unwrap().input[0];
    input.r#type.as_mut().unwrap().r#type = Some(feature_type::Type::ImageType(ImageFeatureType {
        width,
        height,
        color_space: image_feature_type::ColorSpace::Grayscale.into(),
        ..ImageFeatureType::default()
    }));
}

/// A tensor of petabytes out of 64 numbers; its sum is what the first op gets.
fn petabytes(model: &mut Model) {
    let tile = vec![("x", named("image")), ("reps", ints(&[1 << 22, 1 << 22, 1, 1]))];
    let keep_dims = given(
        tensor_type(&[], DataType::Bool),
        tensor_value::Value::Bools(tensor_value::RepeatedBools { values: vec![true] }),
    );
    let sum = vec![("x", named("huge")), ("axes", ints(&[0, 1])), ("keep_dims", keep_dims)];
    insert(
        model,
        "summed",
        vec![
            op("tile", "huge", &[1 << 22, 1 << 22, 8, 8], tile),
            op("reduce_sum", "summed", &[1, 1, 8, 8], sum),
        ],
    );
}

/// A loop that never ends, over what it is given; what the first op gets is the sum of that and the image.
fn endless(model: &mut Model, carried: Argument) {
    let image = || tensor_type(&[1, 1, 8, 8], DataType::Float32);
    let count = || tensor_type(&[], DataType::Int32);
    let value = |name: &str, ty: ValueType| NamedValueType { name: name.into(), r#type: Some(ty) };
    let block = |of: &str, operations: Vec<Operation>, outputs: &[&str]| Block {
        inputs: vec![value(&format!("{of}_image"), image()), value(&format!("{of}_count"), count())],
        operations,
        outputs: outputs.iter().map(|&name| name.to_owned()).collect(),
        ..Block::default()
    };
    let mut goes_on =
        op("equal", "goes_on", &[], vec![("x", named("asked_count")), ("y", named("asked_count"))]);
    goes_on.outputs[0].r#type = Some(tensor_type(&[], DataType::Bool));
    let turn = op("identity", "turned", &[1, 1, 8, 8], vec![("x", named("turned_image"))]);
    let mut loop_vars = carried;
    let zero = tensor_value::Value::Ints(tensor_value::RepeatedInts { values: vec![0] });
    loop_vars.arguments.extend(given(count(), zero).arguments);
    let endless = Operation {
        outputs: vec![value("last", image()), value("turns", count())],
        blocks: vec![
            block("asked", vec![goes_on], &["goes_on"]),
            block("turned", vec![turn], &["turned", "turned_count"]),
        ],
        ..op("while_loop", "last", &[1, 1, 8, 8], vec![("loop_vars", loop_vars)])
    };
    let sum = op("add", "sum", &[1, 1, 8, 8], vec![("x", named("image")), ("y", named("last"))]);
    insert(model, "sum", vec![endless, sum]);
}

/// An image of 8 GiB, of which a corner is used.
fn huge_input(model: &mut Model) {
    set_input_shape(model, &[1, 1, 1 << 16, 1 << 15]);
    let corner = vec![("x", named("image")), ("begin", ints(&[0; 4])), ("size", ints(&[1, 1, 8, 8]))];
    insert(model, "corner", vec![op("slice_by_size", "corner", &[1, 1, 8, 8], corner)]);
}

fn zeros(count: usize) -> tensor_value::Value {
    tensor_value::Value::Floats(tensor_value::RepeatedFloats { values: vec![0.0; count] })
}

/// The input is int32. Not damaged at all.
fn integers(model: &mut Model) {
    set_integer_input(model);
    let dtype = given(
        tensor_type(&[], DataType::String),
        tensor_value::Value::Strings(tensor_value::RepeatedStrings { values: vec!["fp32".into()] }),
    );
    let cast = vec![("x", named("image")), ("dtype", dtype)];
    insert(model, "floats", vec![op("cast", "floats", &[1, 1, 8, 8], cast)]);
}

/// The input is int32: indices into a table of five numbers. Not damaged at all.
fn table(model: &mut Model) {
    set_integer_input(model);
    let axis = given(
        tensor_type(&[], DataType::Int32),
        tensor_value::Value::Ints(tensor_value::RepeatedInts { values: vec![0] }),
    );
    let gather =
        vec![("x", floats(&[0.0, 4.0, 8.0, 12.0, 16.0])), ("indices", named("image")), ("axis", axis)];
    insert(model, "looked_up", vec![op("gather", "looked_up", &[1, 1, 8, 8], gather)]);
}

fn set_integer_input(model: &mut Model) {
    let Some(model::Type::MlProgram(program)) = &mut model.r#type else { panic!("an ML program") };
    program.functions.get_mut("main").unwrap().inputs[0].r#type =
        Some(tensor_type(&[1, 1, 8, 8], DataType::Int32));
    let input = &mut model.description.as_mut().unwrap().input[0];
    let Some(feature_type::Type::MultiArrayType(array)) = &mut input.r#type.as_mut().unwrap().r#type else {
        panic!("an array")
    };
    array.data_type = array_feature_type::ArrayDataType::Int32.into();
}

/// Numbers that fp32 has and fp16 has not, on the way.
fn overflow(model: &mut Model) {
    let square = vec![("x", named("image")), ("y", floats(&[300.0]))];
    let mul = |x: &str, y: f32| vec![("x", named(x)), ("y", floats(&[y]))];
    insert(
        model,
        "back",
        vec![
            op("mul", "large", &[1, 1, 8, 8], square),
            op("pow", "huge", &[1, 1, 8, 8], mul("large", 2.0)),
            op("sqrt", "root", &[1, 1, 8, 8], vec![("x", named("huge"))]),
            op("mul", "back", &[1, 1, 8, 8], mul("root", 1.0 / 300.0)),
        ],
    );
}

/// Puts ops in front of the others, which take `output` for the image.
fn insert(model: &mut Model, output: &str, ops: Vec<Operation>) {
    let block = main_block(model);
    for argument in block.operations.iter_mut().flat_map(|op| op.inputs.values_mut()) {
        if *argument == named("image") {
            *argument = named(output);
        }
    }
    block.operations.splice(..0, ops);
}

fn op(ty: &str, name: &str, shape: &[u64], inputs: Vec<(&str, Argument)>) -> Operation {
    Operation {
        r#type: ty.into(),
        inputs: inputs.into_iter().map(|(n, a)| (n.to_owned(), a)).collect(),
        outputs: vec![NamedValueType {
            name: name.into(),
            r#type: Some(tensor_type(shape, DataType::Float32)),
        }],
        ..Operation::default()
    }
}

fn named(name: &str) -> Argument {
    Argument {
        arguments: vec![argument::Binding { binding: Some(argument::binding::Binding::Name(name.into())) }],
    }
}

fn ints(values: &[i32]) -> Argument {
    let ty = tensor_type(&[values.len() as u64], DataType::Int32);
    given(ty, tensor_value::Value::Ints(tensor_value::RepeatedInts { values: values.to_vec() }))
}

fn floats(values: &[f32]) -> Argument {
    let ty = tensor_type(&[values.len() as u64], DataType::Float32);
    given(ty, tensor_value::Value::Floats(tensor_value::RepeatedFloats { values: values.to_vec() }))
}

fn given(ty: ValueType, value: tensor_value::Value) -> Argument {
    let tensor = TensorValue { value: Some(value) };
    let immediate = value::ImmediateValue { value: Some(value::immediate_value::Value::Tensor(tensor)) };
    let value =
        Value { r#type: Some(ty), value: Some(value::Value::ImmediateValue(immediate)), ..Value::default() };
    Argument {
        arguments: vec![argument::Binding { binding: Some(argument::binding::Binding::Value(value)) }],
    }
}
