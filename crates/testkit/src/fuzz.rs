//! Fuzz targets: one function for each reader of untrusted bytes. What they assert must hold for *every* input.
//!
//! `fuzz/` runs them with libFuzzer; `tests/mutations.rs` runs them on mutated files with a stable toolchain. A reader
//! may return an error; it must not panic, hang, or allocate far more memory than the input's size.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use milwright_convert::ml_program::{self as convert, WeightSink};
use milwright_convert::neural_network;
use milwright_convert::onnx::Options as OnnxOptions;
use milwright_formats::blob::{BlobFile, BlobType, BlobWriter};
use milwright_formats::onnx::OnnxFile;
use milwright_formats::proto::mil_spec::value::BlobFileValue;
use milwright_formats::proto::{Model, model};
use milwright_formats::{CompiledProgram, Existing, Package, write_mlmodelc};
use milwright_mil::{Program, passes, text, verify};
use prost::Message as _;

/// A property of one reader; panics if an input breaks it.
pub type Target = fn(&[u8]);

/// Every target by name. A new reader gets a line here, its name in `tests/mutations.rs`, a file in `fuzz/fuzz_targets`
/// with a `[[bin]]` in `fuzz/Cargo.toml`, and inputs in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 8] = [
    ("package", package),
    ("compiled", compiled),
    ("compiled_network", compiled_network),
    ("blob", blob),
    ("import", import),
    ("network", network),
    ("onnx", onnx),
    ("mil_text", mil_text),
];

/// The tool that compiled a program.
const TOOL: (&str, &str) = ("milwright-version", "0");

const WEIGHTS: &str = "@model_path/weights/weight.bin";

/// An `.mlpackage` on disk: manifest, model and weights are three parts of the input (see [`join`]).
pub fn package(input: &[u8]) {
    let [manifest, model, weights] = split(input);
    let Ok(folder) = tempfile::tempdir() else { return };
    let data = folder.path().join("Data/com.apple.CoreML");
    let write = || {
        fs::create_dir_all(data.join("weights"))?;
        fs::write(folder.path().join("Manifest.json"), manifest)?;
        fs::write(data.join("model.mlmodel"), model)?;
        fs::write(data.join("weights/weight.bin"), weights)
    };
    // A full disk is not a finding.
    if write().is_err() {
        return;
    }
    match Package::open(folder.path()) {
        Ok(package) => read_weights(package.weight_files()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // The model alone, as an `.mlmodel`.
    drop(Package::open(data.join("model.mlmodel")));
}

/// An `.mlmodelc` on disk, to the IR: `coremldata.bin`, `model.mil` and weights are three parts of the input.
pub fn compiled(input: &[u8]) {
    let [header, text, weights] = split(input);
    let Ok(folder) = tempfile::tempdir() else { return };
    let write = || {
        fs::write(folder.path().join("coremldata.bin"), header)?;
        fs::write(folder.path().join("model.mil"), text)?;
        fs::create_dir(folder.path().join("weights"))?;
        fs::write(folder.path().join("weights/weight.bin"), weights)
    };
    if write().is_err() {
        return;
    }
    let package = match Package::open(folder.path()) {
        Ok(package) => package,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    read_weights(package.weight_files());
    let Ok(program) = convert::read(&package) else { return };
    if let Ok(program) = verify(program.clone()) {
        let text = convert::write_text(&program, &package, TOOL);
        if fs::write(folder.path().join("model.mil"), &text).is_err() {
            return;
        }
        let again = Package::open(folder.path()).expect("what was written can be opened");
        let program = convert::read(&again).expect("what was written can be read");
        let program = verify(program).expect("what was written is as valid as before");
        assert_eq!(convert::write_text(&program, &again, TOOL), text, "writing is stable");
    }
    check(program);
}

/// An `.mlmodelc` of a neural network on disk, to the IR, through verifier and passes: `coremldata.bin`,
/// `model.espresso.net` and the rest, which is shapes and weights, are three parts of the input.
pub fn compiled_network(input: &[u8]) {
    let [header, network, rest] = split(input);
    let [shapes, weights, _] = split(rest);
    let Ok(folder) = tempfile::tempdir() else { return };
    let parts = [header, network, shapes, weights];
    let written = NETWORK_FILES
        .iter()
        .zip(parts)
        .try_for_each(|(name, part)| fs::write(folder.path().join(name), part));
    if written.is_err() {
        return;
    }
    let package = match Package::open(folder.path()) {
        Ok(package) => package,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    match neural_network::read_with_shapes(package.model()) {
        Ok(program) => check(program),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The files of a compiled neural network.
const NETWORK_FILES: [&str; 4] =
    ["coremldata.bin", "model.espresso.net", "model.espresso.shape", "model.espresso.weights"];

/// The folder of a compiled neural network as an input of [`compiled_network`].
///
/// # Errors
/// One of its files cannot be read.
pub fn compiled_network_input(folder: &Path) -> std::io::Result<Vec<u8>> {
    let read = |name: &str| fs::read(folder.join(name));
    let [header, network, shapes, weights] = NETWORK_FILES;
    let rest = join([&read(shapes)?, &read(weights)?, b""]);
    Ok(join([&read(header)?, &read(network)?, &rest]))
}

/// A weight file.
pub fn blob(input: &[u8]) {
    if let Ok(file) = BlobFile::from_bytes(Bytes::copy_from_slice(input)) {
        read_weights(&BTreeMap::from([(String::new(), file)]));
    }
}

/// A model with its weights (two parts, after an empty one) to the IR, through verifier and passes, and back.
pub fn import(input: &[u8]) {
    let [_, model, weights] = split(input);
    let files = BTreeMap::from([(WEIGHTS.to_owned(), Bytes::copy_from_slice(weights))]);
    let Ok(package) = Package::from_bytes(Bytes::copy_from_slice(model), &files) else { return };
    if let Ok(program) = convert::read(&package) {
        check(program);
    }
}

/// A neural network to the IR, through verifier and passes.
pub fn network(input: &[u8]) {
    let Ok(model) = Model::decode(Bytes::copy_from_slice(input)) else { return };
    match neural_network::read(&model) {
        Ok(program) => check(program),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// An ONNX model to the IR, with constants folded, through verifier and passes.
pub fn onnx(input: &[u8]) {
    let Ok(file) = OnnxFile::from_bytes(Bytes::copy_from_slice(input)) else { return };
    let options = OnnxOptions { engine: Some(&milwright_cpu::Eager), ..OnnxOptions::default() };
    match milwright_convert::onnx::read(&file, &options) {
        Ok(imported) => check(imported.program),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A program as text.
pub fn mil_text(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let Ok(program) = text::parse(input) else { return };
    let printed = text::print(&program);
    let again = text::parse(&printed).expect("what was printed can be parsed");
    assert_eq!(text::print(&again), printed, "printing is stable");
    check(program);
}

/// Checks a program from untrusted input: the verifier refuses it, or passes and writer accept it.
fn check(program: Program) {
    let Ok(program) = verify(program) else { return };
    let mut sink = Memory::new();
    convert::write(&program, &mut sink).expect("what was verified can be written");
    passes::run(program, passes::ALL, None).expect("passes keep a program valid");
}

fn read_weights(files: &BTreeMap<String, BlobFile>) {
    for file in files.values() {
        for (offset, blob) in file.blobs().flatten() {
            assert_eq!(Some(blob.data.len() as u64), blob.dtype.byte_len(blob.len));
            assert!(file.blob(offset).is_ok(), "a listed blob can be read");
        }
    }
}

/// Makes an input of [`package`], [`compiled`], [`compiled_network`] and [`import`]. Writes the length of each part but
/// the last in front of it (`u32`, little-endian).
pub fn join([manifest, model, weights]: [&[u8]; 3]) -> Vec<u8> {
    let mut input = Vec::new();
    for part in [manifest, model] {
        input.extend_from_slice(&(part.len() as u32).to_le_bytes());
        input.extend_from_slice(part);
    }
    input.extend_from_slice(weights);
    input
}

/// The inverse of [`join`]. A length that is too large means "the rest", so that every input has three parts.
fn split(mut input: &[u8]) -> [&[u8]; 3] {
    let mut part = || {
        let Some((len, rest)) = input.split_first_chunk::<4>() else { return &input[..0] };
        let (part, rest) = rest.split_at(rest.len().min(u32::from_le_bytes(*len) as usize));
        input = rest;
        part
    };
    [part(), part(), input]
}

/// Makes an input of [`package`] or, with an empty manifest, of [`import`]. `None` if the verifier refuses the program.
pub fn program_input(manifest: &[u8], program: Program) -> Option<Vec<u8>> {
    let program = verify(program).ok()?;
    let mut sink = Memory::new();
    let ml_program = convert::write(&program, &mut sink).ok()?;
    let model = Model {
        specification_version: 9,
        r#type: Some(model::Type::MlProgram(ml_program)),
        ..Model::default()
    };
    let weights = sink.0.finish().ok()?.into_inner();
    Some(join([manifest, &model.encode_to_vec(), &weights]))
}

/// Turns an input of [`import`] into one of [`compiled`]. `None` if it has no program.
pub fn compiled_input(input: &[u8]) -> Option<Vec<u8>> {
    let [_, model, weights] = split(input);
    let files = BTreeMap::from([(WEIGHTS.to_owned(), Bytes::copy_from_slice(weights))]);
    let package = Package::from_bytes(Bytes::copy_from_slice(model), &files).ok()?;
    let program = verify(convert::read(&package).ok()?).ok()?;
    let compiled = CompiledProgram {
        model: package.model(),
        text: convert::write_text(&program, &package, TOOL),
        functions: convert::summaries(&program, &package),
        weights: package.weight_files(),
        digest: [0; 32],
    };
    let folder = tempfile::tempdir().ok()?;
    let path = folder.path().join("model.mlmodelc");
    write_mlmodelc(&path, &compiled, Existing::Replace).ok()?;
    let read = |name: &str| fs::read(path.join(name)).unwrap_or_default();
    Some(join([&read("coremldata.bin"), &read("model.mil"), &read("weights/weight.bin")]))
}

/// A weight file in memory.
struct Memory(BlobWriter<std::io::Cursor<Vec<u8>>>);

impl Memory {
    fn new() -> Self {
        Self(BlobWriter::new(std::io::Cursor::default()).expect("memory can be written"))
    }
}

impl WeightSink for Memory {
    fn store(
        &mut self,
        dtype: BlobType,
        elements: usize,
        data: &[u8],
    ) -> Result<BlobFileValue, milwright_formats::Error> {
        let offset = self.0.append(dtype, elements as u64, data).expect("memory can be written");
        Ok(BlobFileValue { file_name: WEIGHTS.to_owned(), offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive() {
        let parts: [&[u8]; 3] = [b"one", b"", b"three"];
        assert_eq!(split(&join(parts)), parts);
        assert_eq!(split(b"\xff\xff\xff\xffrest"), [&b"rest"[..], b"", b""]);
        assert_eq!(split(b"\x01"), [&b""[..], b"", b"\x01"]);
    }
}
