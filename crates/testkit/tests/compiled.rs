//! Programs to compiled models and back: nothing is lost, down to the bits of the constants.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use milwright_convert::ml_program::{self as convert, WeightSink};
use milwright_formats::blob::{BlobType, BlobWriter};
use milwright_formats::proto::mil_spec::value::BlobFileValue;
use milwright_formats::proto::{Model, ModelDescription, model};
use milwright_formats::{CompiledProgram, Existing, Package, write_mlmodelc};
use milwright_mil::{Checked, Program, text, verify};
use prost::Message as _;

const TOOL: (&str, &str) = ("test", "1");

#[test]
fn every_program_of_the_tests() {
    let mut files = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), "mil", &mut files);
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
}

/// Those from `scripts/fetch_models.py` and `scripts/convert_models.py`, too, if they are there.
#[test]
fn compiling_again_changes_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut packages = vec![root.join("examples/digits.mlpackage")];
    find(&root.join("target/models"), "mlpackage", &mut packages);
    let folder = tempfile::tempdir().unwrap();
    for path in packages {
        let package = Package::open(&path).unwrap();
        let once = compile(&package, &folder.path().join("once.mlmodelc"));
        let twice = compile(&once, &folder.path().join("twice.mlmodelc"));
        assert!(once.program_text() == twice.program_text(), "{}", path.display());
        for (name, file) in package.weight_files() {
            let [a, b] = [file, &twice.weight_files()[name]];
            assert!(a.blobs().flatten().eq(b.blobs().flatten()), "{}", path.display());
        }
    }
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

/// What Core ML's own compiler wrote, from `scripts/fetch_models.py`.
#[test]
fn as_the_compiler_of_core_ml_writes_them() {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/models/compiled");
    let scratch = tempfile::tempdir().unwrap();
    for folder in fs::read_dir(&folders).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        let expected = folder.join("expected.mlmodelc");
        // Compiled from what it was compiled from (an .mlmodel, where no weights lie outside), and compiled again.
        let sources = [folder.join("input.mlmodel"), expected.clone()];
        for source in sources.iter().filter_map(|source| Package::open(source).ok()) {
            let out = scratch.path().join("out.mlmodelc");
            let compiled = compile(&source, &out);
            let text = fs::read_to_string(expected.join("model.mil")).unwrap();
            assert_eq!(essence(compiled.program_text().unwrap()), essence(&text), "{}", folder.display());
            // The same header; the compiler writes the maps in a description in any order.
            let header = |folder: &Path| fs::read(folder.join("coremldata.bin")).unwrap();
            let (found, expected_header) = (header(&out), header(&expected));
            assert_eq!(found[..0x53], expected_header[..0x53], "{}", folder.display());
            assert_eq!(found.len(), expected_header.len(), "{}", folder.display());
            assert_eq!(compiled.model(), Package::open(&expected).unwrap().model(), "{}", folder.display());
        }
    }
}

/// A program's text without indentation, the tools that made it, and the arbitrary names of enumerated shapes.
fn essence(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("[buildInfo")).map(str::trim_start);
    let mut essence = String::new();
    for line in lines {
        match line.split_once("\"EnumeratedShapes\"") {
            Some((before, choices)) => {
                let is_name = |part: &&str| {
                    part.len() == 8 && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                };
                essence.push_str(before);
                essence.extend(choices.split('"').filter(|part| !is_name(part)));
            }
            None => essence.push_str(line),
        }
        essence.push('\n');
    }
    essence
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
        functions: convert::summaries(&program, package),
        weights: package.weight_files(),
        digest: [0; 32],
    };
    write_mlmodelc(path, &compiled, Existing::Replace).unwrap();
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
    ) -> Result<BlobFileValue, milwright_formats::Error> {
        let offset = self.0.append(dtype, elements as u64, data).unwrap();
        Ok(BlobFileValue { file_name: WEIGHTS.to_owned(), offset })
    }
}

fn find(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for item in fs::read_dir(folder).into_iter().flatten() {
        let path = item.unwrap().path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        } else if path.is_dir() {
            find(&path, extension, found);
        }
    }
}
