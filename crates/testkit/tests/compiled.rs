//! Programs to compiled models and back: nothing is lost, down to the bits of the constants.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use milwright_convert::spec::{self as convert, WeightSink};
use milwright_mil::{Checked, Program, text, verify};
use milwright_spec::blob::{BlobType, BlobWriter};
use milwright_spec::proto::mil_spec::value::BlobFileValue;
use milwright_spec::proto::{Model, ModelDescription, model};
use milwright_spec::{CompiledProgram, Package, write_mlmodelc};
use prost::Message as _;

const TOOL: (&str, &str) = ("test", "1");

#[test]
fn every_program_of_the_tests() {
    let mut files = Vec::new();
    find_texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut files);
    files.sort();
    let mut done = 0;
    for file in files {
        let Ok(program) = text::parse(&fs::read_to_string(&file).unwrap()) else { continue };
        // What the verifier refuses is not ours to write.
        let Ok(program) = verify(program) else { continue };
        // Both versions of the text.
        for specification_version in [7, 9] {
            let (package, compiled) = both(&program, specification_version);
            assert_eq!(text::print(&read(&compiled)), text::print(&read(&package)), "{}", file.display());
            done += 1;
        }
    }
    assert!(done > 100, "only {done} programs");
}

#[test]
fn the_example() {
    let package =
        Package::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits.mlpackage")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let compiled = compile(&package, &folder.path().join("digits.mlmodelc"));
    assert_eq!(compiled.model().description, package.model().description);
    assert_eq!(text::print(&read(&compiled)), text::print(&read(&package)));

    // What other tools look for in the text.
    let text = compiled.program_text().unwrap();
    assert!(text.starts_with("program(1.0)\n[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"));
    assert!(text.contains(
        "tensor<fp32, [64]> classifier_2_bias = const()[name = tensor<string, []>(\"classifier_2_bias\"), \
         val = tensor<fp32, [64]>(BLOBFILE(path = tensor<string, []>(\"@model_path/weights/weight.bin\"), \
         offset = tensor<uint64, []>(64)))];"
    ));
    let weights = |folder: &Path| fs::read(folder.join("weights/weight.bin")).unwrap();
    let original = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/digits.mlpackage/Data/com.apple.CoreML"
    ));
    assert_eq!(weights(&folder.path().join("digits.mlmodelc")), weights(original));

    // A compiled model compiled again is the same.
    let again = compile(&compiled, &folder.path().join("again.mlmodelc"));
    assert_eq!(again.program_text(), compiled.program_text());
}

#[test]
fn sub_byte_weights_stay_in_the_weight_file() {
    let text = "program(1.3) { func main<ios18>(tensor<fp16, [4]> x) {
        tensor<fp16, [4]> w = constexpr_lut_to_dense(
            indices = tensor<uint2, [4]>([0, 1, 2, 3]),
            lut = tensor<fp16, [1, 4, 1]>([[[1], [2], [3], [4]]]))[name = string(\"w\")];
        tensor<fp16, [4]> y = add(x = x, y = w)[name = string(\"y\")];
    } -> (y); }";
    let (package, compiled) = both(&verify(text::parse(text).unwrap()).unwrap(), 9);
    let text = compiled.program_text().unwrap();
    assert!(
        text.contains(
            "constexpr_lut_to_dense(indices = tensor<uint2, [4]>(BLOBFILE(path = \
             string(\"@model_path/weights/weight.bin\"), offset = uint64(64))), lut = "
        ),
        "{text}"
    );
    assert_eq!(text::print(&read(&compiled)), text::print(&read(&package)));
}

fn read(package: &Package) -> Program {
    let mut program = convert::read(package).unwrap();
    // The one thing that compiling adds.
    program.attributes.shift_remove("buildInfo");
    program
}

fn compile(package: &Package, path: &Path) -> Package {
    let program = verify(convert::read(package).unwrap()).unwrap();
    let compiled = CompiledProgram {
        model: package.model(),
        text: convert::write_text(&program, package, TOOL),
        functions: convert::summaries(&program),
        weights: package.weight_files(),
        digest: [0; 32],
    };
    write_mlmodelc(path, &compiled).unwrap();
    Package::open(path).unwrap()
}

/// A program as an uncompiled and as a compiled model.
fn both(program: &Checked, specification_version: i32) -> (Package, Package) {
    let mut weights = BlobWriter::new(std::io::Cursor::default()).unwrap();
    let ml_program = convert::write(program, &mut Memory(&mut weights)).unwrap();
    let weights = Bytes::from(weights.finish().unwrap().into_inner());
    let weights = BTreeMap::from([(WEIGHTS.to_owned(), weights)]);
    let ml_program = Some(model::Type::MlProgram(ml_program));
    let model = Model { specification_version, r#type: ml_program, ..Model::default() };
    let package = Package::from_bytes(model.encode_to_vec().into(), &weights).unwrap();
    let original = verify(convert::read(&package).unwrap()).unwrap();
    let text = convert::write_text(&original, &package, TOOL);
    let compiled = Package::from_text(specification_version, ModelDescription::default(), text, &weights);
    (package, compiled.unwrap())
}

const WEIGHTS: &str = "@model_path/weights/weight.bin";

/// A weight file in memory.
struct Memory<'a>(&'a mut BlobWriter<std::io::Cursor<Vec<u8>>>);

impl WeightSink for Memory<'_> {
    fn store(
        &mut self,
        dtype: BlobType,
        elements: usize,
        data: &[u8],
    ) -> Result<BlobFileValue, milwright_spec::Error> {
        let offset = self.0.append(dtype, elements as u64, data).unwrap();
        Ok(BlobFileValue { file_name: WEIGHTS.to_owned(), offset })
    }
}

fn find_texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            find_texts(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "mil") {
            found.push(path);
        }
    }
}
