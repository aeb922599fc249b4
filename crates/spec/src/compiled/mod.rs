//! Compiled ML programs, `.mlmodelc` folders: what Core ML's compiler makes of a package.
//!
//! ```text
//! coremldata.bin            type and version of the model, its description as a protobuf message
//! model.mil                 the program, as text
//! weights/weight.bin        what the text's BLOBFILE refers to: the same file as in the package
//! metadata.json             the description, for people and tools
//! analytics/coremldata.bin  the name of the model, for the system's statistics
//! ```
//!
//! The layout of `coremldata.bin` is not published; what is here was found by comparing files of several versions of
//! the compiler. Little endian, without alignment: the number of the model type's field in `Model` (`u32`), a version
//! (`u32`), 20 bytes, a string, the specification version (`u32`), 28 bytes, the description, and 16 bytes for each
//! function. Strings and messages have their length in front (`u64`).

mod metadata;
mod write;

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use prost::Message as _;

use crate::limits::{MAX_PROGRAM_TEXT_BYTES, MAX_SPEC_BYTES};
use crate::manifest::beside;
use crate::map::map_bytes;
use crate::open::{MODEL_PATH, check_version};
use crate::proto::{Model, ModelDescription, mil_spec, model};
use crate::{Error, ErrorKind, Result, lfs_pointer};

pub use write::{CompiledProgram, FunctionSummary, write_mlmodelc};

const HEADER_FILE: &str = "coremldata.bin";
const PROGRAM_FILE: &str = "model.mil";
/// Compiled neural networks have this one instead of a program.
const NETWORK_FILE: &str = "model.espresso.net";
const FILES: [&str; 3] = [HEADER_FILE, PROGRAM_FILE, NETWORK_FILE];

/// The number of `mlProgram` in `Model`.
const ML_PROGRAM: u32 = 502;

/// Whether a folder holds a compiled model of any type, by what is in it.
pub(crate) fn is_compiled(folder: &Path) -> bool {
    FILES.iter().any(|name| folder.join(name).is_file())
}

/// Whether a file is what its name says: a part of a compiled model.
pub(crate) fn is_part(file: &Path) -> bool {
    file.file_name().is_some_and(|name| FILES.iter().any(|part| name == *part))
}

/// Reads a compiled model but its weights: a message with its description and no program, and the program's text.
pub(crate) fn open(folder: &Path) -> Result<(Model, String)> {
    let in_folder = |name: &str| beside(folder, name);
    if folder.join(NETWORK_FILE).exists() && !folder.join(HEADER_FILE).exists() {
        return Err(other_type("neuralNetwork"));
    }
    let path = in_folder(HEADER_FILE)?;
    let header = map_bytes(&path, MAX_SPEC_BYTES)?;
    let model = decode(&header).map_err(|error| match error.kind() {
        ErrorKind::Unsupported => error,
        _ => error.at(path),
    })?;
    let path = in_folder(PROGRAM_FILE)?;
    let text = map_bytes(&path, MAX_PROGRAM_TEXT_BYTES)?;
    if let Some(error) = lfs_pointer(&text) {
        return Err(error.at(path));
    }
    // A copy: what was checked to be UTF-8 must stay so, whoever writes the file meanwhile.
    let text = String::from_utf8(text.to_vec())
        .map_err(|error| Error::malformed(format!("not a text in UTF-8: {error}")).at(path))?;
    Ok((model, text))
}

/// Reads `coremldata.bin`.
fn decode(data: &Bytes) -> Result<Model> {
    if let Some(error) = lfs_pointer(data) {
        return Err(error);
    }
    let mut rest = Reader(data.clone());
    let code = rest.u32()?;
    if code != ML_PROGRAM {
        return Err(match type_name(code) {
            Some(name) => other_type(&name),
            None => Error::malformed(format!("not a compiled model: {code} is the number of no model type")),
        });
    }
    rest.skip(24)?;
    rest.sized()?;
    let version = rest.u32()?;
    rest.skip(28)?;
    let description = ModelDescription::decode(rest.sized()?).map_err(|error| {
        Error::malformed(format!("the description is damaged: {error}")).with_source(error)
    })?;
    // Every version that there is fits.
    shell(i32::try_from(version).unwrap_or(i32::MAX), description)
}

/// The model of a program that is elsewhere.
pub(crate) fn shell(specification_version: i32, description: ModelDescription) -> Result<Model> {
    check_version(specification_version)?;
    Ok(Model {
        specification_version,
        description: Some(Box::new(description)),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(mil_spec::Program::default())),
    })
}

/// Cuts pieces from the front.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, len: u64) -> Result<Bytes> {
        match usize::try_from(len).ok().filter(|&len| len <= self.0.len()) {
            Some(len) => Ok(self.0.split_to(len)),
            None => Err(Error::malformed(format!(
                "the file is cut off: {len} more bytes should follow, there are {}",
                self.0.len()
            ))),
        }
    }

    fn skip(&mut self, len: u64) -> Result<()> {
        self.take(len).map(drop)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(*self.take(4)?.first_chunk().expect("four bytes were taken")))
    }

    /// Bytes with their length in front.
    fn sized(&mut self) -> Result<Bytes> {
        let len = u64::from_le_bytes(*self.take(8)?.first_chunk().expect("eight bytes were taken"));
        self.take(len)
    }
}

fn other_type(name: &str) -> Error {
    Error::unsupported(format!("a compiled model of type {name}; of compiled models, ML programs are read"))
        .with_hint("open the .mlpackage or .mlmodel that it was compiled from")
}

/// The name of the model type whose field in `Model` has this number.
fn type_name(code: u32) -> Option<String> {
    // The message knows: an empty message of that type, in its place.
    if !(1..1 << 29).contains(&code) {
        return None;
    }
    let mut empty = Vec::new();
    prost::encoding::encode_key(code, prost::encoding::WireType::LengthDelimited, &mut empty);
    empty.push(0);
    let model = Model::decode(Bytes::from(empty)).ok()?;
    let variant = format!("{:?}", model.r#type?);
    let name = variant.split('(').next()?;
    Some(name[..1].to_ascii_lowercase() + &name[1..])
}

/// The weight files that a program's text refers to.
pub(crate) fn weight_files(text: &str) -> BTreeSet<&str> {
    const REFERENCE: &str = "BLOBFILE(";
    /// From there to the path: its name and its type. A bound, so that the search as a whole is linear.
    const MAX_PREFIX: usize = 64;
    let references = text.match_indices(REFERENCE).filter_map(|(at, _)| {
        let rest = &text[at + REFERENCE.len()..];
        let quote = rest.bytes().take(MAX_PREFIX).position(|byte| byte == b'"')?;
        rest[..quote].trim_start().starts_with("path").then(|| rest[quote + 1..].split('"').next())?
    });
    references.filter(|name| name.starts_with(MODEL_PATH)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names() {
        assert_eq!(type_name(403).as_deref(), Some("neuralNetworkClassifier"));
        assert_eq!(type_name(202).as_deref(), Some("pipeline"));
        for none in [0, 1, 7, 10, u32::MAX] {
            assert_eq!(type_name(none), None, "{none}");
        }
    }

    #[test]
    fn many_broken_references_take_no_time() {
        assert!(weight_files(&"BLOBFILE(".repeat(1 << 20)).is_empty());
        let open = "BLOBFILE(path = \"@model_path/".repeat(1 << 18);
        assert_eq!(weight_files(&open).len(), 2);
    }

    #[test]
    fn finds_weight_files_in_either_version_of_the_text() {
        let text = r#"
            a = const()[val = tensor<fp16, [4]>(BLOBFILE(path = string("@model_path/w/a.bin"), offset = uint64(64)))];
            b = const()[val = tensor<fp16, [4]>(BLOBFILE(path = tensor<string, []>("@model_path/b.bin"), offset = 1))];
            c = const()[val = string("BLOBFILE(")];
            d = BLOBFILE(path = string("/etc/passwd
        "#;
        assert_eq!(Vec::from_iter(weight_files(text)), ["@model_path/b.bin", "@model_path/w/a.bin"]);
    }
}
