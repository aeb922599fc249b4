//! Thousands of damaged files through every reader: none may panic, hang or allocate much.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use milwright_formats::blob::{BlobFile, BlobType};
use milwright_formats::proto::mil_spec::{
    Argument, Block, Dimension, Function, NamedValueType, Operation, Program, TensorType, Value, ValueType,
    argument::{Binding, binding},
    dimension, value, value_type,
};
use milwright_formats::proto::{
    ArrayFeatureType, FeatureDescription, FeatureType, Model, ModelDescription, feature_type, model,
};
use milwright_formats::{Package, PackageWriter};
use prost::Message as _;

/// No single allocation of these readers may be larger, for inputs of a few kilobytes.
const MAX_ALLOCATION: usize = 1 << 20;

/// The largest allocation so far.
struct Watch(AtomicUsize);

#[global_allocator]
static ALLOCATOR: Watch = Watch(AtomicUsize::new(0));

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Watch {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.0.fetch_max(size, Ordering::Relaxed);
        // SAFETY: `pointer` came from `System` with this `layout`, and the caller promises that `size` is valid.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// xorshift64*: the same damage on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    /// Some damage: cut short, bits flipped, bytes overwritten, a piece repeated, a piece removed.
    fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(2) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            let len = 1 + self.below(16.min(bytes.len() - at));
            match self.below(9) {
                0 => bytes.truncate(at),
                1..=5 => bytes[at] ^= 1 << self.below(8),
                6 => bytes[at..at + len].fill([0, 0xFF, 0x7F, 0x80][self.below(4)]),
                7 => {
                    let piece = bytes[at..at + len].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    bytes.drain(at..at + len);
                }
            }
        }
        bytes
    }
}

const WEIGHTS: &str = "@model_path/weights/weight.bin";

fn tensor(size: u64) -> ValueType {
    let constant = dimension::Dimension::Constant(dimension::ConstantDimension { size });
    let dimensions = vec![Dimension { dimension: Some(constant) }];
    let tensor = TensorType { data_type: 11, rank: 1, dimensions, ..TensorType::default() };
    ValueType { r#type: Some(value_type::Type::TensorType(tensor)) }
}

/// A program of one `const` and one `add`, and the weights that it refers to.
fn example(mut append: impl FnMut(&[u8]) -> value::BlobFileValue) -> Model {
    let named = |name: &str| NamedValueType { name: name.into(), r#type: Some(tensor(16)) };
    let reference = append(&[1; 64]);
    let weight = Value {
        r#type: Some(tensor(16)),
        value: Some(value::Value::BlobFileValue(reference)),
        ..Value::default()
    };
    let constant = Operation {
        r#type: "const".into(),
        outputs: vec![named("w")],
        attributes: [("val".into(), weight)].into(),
        ..Operation::default()
    };
    let argument = |name: &str| Argument {
        arguments: vec![Binding { binding: Some(binding::Binding::Name(name.into())) }],
    };
    let add = Operation {
        r#type: "add".into(),
        inputs: [("x".into(), argument("x")), ("y".into(), argument("w"))].into(),
        outputs: vec![named("z")],
        ..Operation::default()
    };
    let block = Block { outputs: vec!["z".into()], operations: vec![constant, add], ..Block::default() };
    let function = Function {
        inputs: vec![named("x")],
        opset: "CoreML5".into(),
        block_specializations: [("CoreML5".into(), block)].into(),
        ..Function::default()
    };
    let array = ArrayFeatureType { shape: vec![16], data_type: 65568, ..ArrayFeatureType::default() };
    let feature = |name: &str| FeatureDescription {
        name: name.into(),
        r#type: Some(FeatureType {
            is_optional: false,
            r#type: Some(feature_type::Type::MultiArrayType(array.clone())),
        }),
        ..FeatureDescription::default()
    };
    let description =
        ModelDescription { input: vec![feature("x")], output: vec![feature("z")], ..Default::default() };
    Model {
        specification_version: 6,
        description: Some(Box::new(description)),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(Program {
            version: 1,
            functions: [("main".into(), function)].into(),
            ..Program::default()
        })),
    }
}

fn visit(package: &Package) {
    for file in package.weight_files().values() {
        file.blobs().for_each(drop);
    }
    let _ = (package.model().clone(), format!("{:?}", package.model()), package.model().encode_to_vec());
}

/// One test: the watch counts for the whole process.
#[test]
fn damaged_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let model = example(|data| writer.append(BlobType::Float32, 16, data).unwrap());
    writer.stage(&model).unwrap().commit().unwrap();
    let files =
        ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"];
    let sound = files.map(|file| fs::read(path.join(file)).unwrap());
    visit(&Package::open(&path).unwrap());

    let mut random = Random(0x5EED);
    let mut opened = 0;
    ALLOCATOR.0.store(0, Ordering::Relaxed);
    for _ in 0..10_000 {
        let spec = random.damage(&sound[1]);
        let weights = BTreeMap::from([(WEIGHTS.to_owned(), Bytes::from(sound[2].clone()))]);
        if let Ok(package) = Package::from_bytes(spec.into(), &weights) {
            visit(&package);
            opened += 1;
        }
        if let Ok(file) = BlobFile::from_bytes(random.damage(&sound[2]).into()) {
            file.blobs().for_each(drop);
            let _ = file.blob(64);
        }
    }
    assert!(opened > 500, "only {opened} of the damaged models could be opened: the damage is too coarse");

    // From disk, where the container is damaged too. Files are replaced, never rewritten: they may be mapped.
    for _ in 0..1_000 {
        let at = random.below(files.len());
        let file = path.join(files[at]);
        fs::remove_file(&file).unwrap();
        if random.below(20) > 0 {
            fs::write(&file, random.damage(&sound[at])).unwrap();
        }
        match Package::open(&path) {
            Ok(package) => visit(&package),
            Err(error) => assert!(error.path().is_some(), "{error}"),
        }
        if file.exists() {
            fs::remove_file(&file).unwrap();
        }
        fs::write(&file, &sound[at]).unwrap();
    }
    let largest = ALLOCATOR.0.load(Ordering::Relaxed);
    assert!(largest <= MAX_ALLOCATION, "an allocation of {largest} bytes");
}

/// `depth` messages, each in field `path[i % path.len()]` of the one around it.
fn nested(path: &[u8], depth: usize, around: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for level in (0..depth).rev() {
        bytes = field(path[level % path.len()], &bytes);
    }
    around(bytes)
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend(content);
    bytes
}

#[test]
fn deep_nesting_is_an_error() {
    // Model { specificationVersion, mlProgram { functions { value { block_specializations { value … } } } } }
    let program = |blocks: Vec<u8>| {
        let function = field(2, &field(3, &field(2, &blocks)));
        let mut bytes = vec![0x08, 6, 0xB2, 0x1F];
        let program = field(2, &function);
        prost::encoding::encode_varint(program.len() as u64, &mut bytes);
        bytes.extend(program);
        bytes
    };
    // Block.operations = 3, Operation.blocks = 4.
    let open = move |depth| Package::from_bytes(nested(&[3, 4], depth, program).into(), &BTreeMap::new());
    visit(&open(40).unwrap());
    for depth in [200, 10_000] {
        let error = open(depth).unwrap_err().to_string();
        assert!(error.contains("recursion"), "{error}");
    }
    // The same on the smallest stack that a thread is likely to have.
    std::thread::Builder::new()
        .stack_size(512 << 10)
        .spawn(move || {
            visit(&open(90).unwrap());
            assert!(open(10_000).is_err());
        })
        .unwrap()
        .join()
        .unwrap();
}
