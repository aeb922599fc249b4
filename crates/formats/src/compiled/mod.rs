//! Compiled models: the `.mlmodelc` folders that Core ML's compiler makes from a package or an `.mlmodel`. The folder
//! of an ML program has
//!
//! ```text
//! coremldata.bin            type and version of the model, its description as a protobuf message
//! model.mil                 the program, as text
//! weights/weight.bin        what the text's BLOBFILE refers to: the same file as in the package
//! metadata.json             the description, for people and tools
//! analytics/coremldata.bin  the name of the model, for the system's statistics
//! ```
//!
//! The layout of `coremldata.bin` is not published; we found it by comparing files of several versions of the compiler.
//! Little-endian, without alignment: the number of the model type's field in `Model` (`u32`), a version (`u32`), 20
//! bytes, a string, the specification version (`u32`), 28 bytes, the description, and 16 bytes for each function.
//! Strings and messages are preceded by their length (`u64`).
//!
//! [`espresso`] reads compiled neural networks. A compiled pipeline has a folder for each of its models (`model0`,
//! `model1` and so on), which is a compiled model without a `metadata.json`. If the models have names,
//! `modelNames/coremldata.bin` has their number (`u64`) and each name as a string. In the pipeline's own
//! `coremldata.bin`, the description is followed by the number of models and the number of its type (both `u64`).
//!
//! If the string is `spec`, the 28 bytes are followed by the model itself, as the message of an `.mlmodel`, up to the
//! end of the file. Feature vectorizers are kept in this form. Other models are not (trees are packed into a file of
//! their own), and their form is unknown.

mod espresso;
mod metadata;
mod write;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use crate::decode::{check_version, decode};
use crate::limits::{MAX_COMPILED_DEPTH, MAX_COMPILED_MODELS, MAX_PROGRAM_TEXT_BYTES, MAX_SPEC_BYTES};
use crate::manifest::{MODEL_PATH, beside};
use crate::proto::{
    Model, ModelDescription, Pipeline, PipelineClassifier, PipelineRegressor, layout, mil_spec, model,
};
use crate::{Error, ErrorKind, Result, lfs_pointer, memory};
use milwright_files::map_bytes;

pub use metadata::FunctionSummary;
pub use write::{CompiledPart, CompiledPipeline, CompiledProgram, write_mlmodelc, write_mlmodelc_pipeline};

const HEADER_FILE: &str = "coremldata.bin";
const PROGRAM_FILE: &str = "model.mil";
const ANALYTICS_FOLDER: &str = "analytics";
/// The folder with the names of a pipeline's models.
const NAMES_FOLDER: &str = "modelNames";
/// The file that compiled neural networks have instead of a program.
const NETWORK_FILE: &str = "model.espresso.net";
const FILES: [&str; 3] = [HEADER_FILE, PROGRAM_FILE, NETWORK_FILE];

/// The string in `coremldata.bin` that marks a model kept as its specification.
const SPECIFICATION: &str = "spec";

/// The number of ML programs among the model types in `Model`.
const ML_PROGRAM: u32 = 502;
/// The numbers of pipelines: classifiers, regressors, and others.
const PIPELINES: [u32; 3] = [200, 201, 202];

/// A compiled model that was read, except for the weights of programs.
pub(crate) struct Opened {
    /// Its folder.
    pub folder: PathBuf,
    pub model: Model,
    /// The program's text, if it is a program.
    pub text: Option<String>,
    /// The layers and models that this crate does not understand, each with the reason.
    pub unread: Vec<String>,
    /// The models of a pipeline. They are in its message, too, but only these have the texts of programs.
    pub parts: Vec<Opened>,
}

/// Totals of all that was read so far of a compiled model and, in a pipeline, of its models.
#[derive(Default)]
struct Total {
    models: usize,
    text_bytes: u64,
}

/// Whether a folder contains a compiled model of any type, according to its files.
pub(crate) fn is_compiled(folder: &Path) -> bool {
    FILES.iter().any(|name| folder.join(name).is_file())
}

/// Whether a folder is a compiled model, even a damaged one, and not somebody's other data, such as a program's source.
pub(crate) fn is_ours(folder: &Path) -> bool {
    let has_name = folder.extension().is_some_and(|e| e.eq_ignore_ascii_case("mlmodelc"));
    has_name && is_compiled(folder) || folder.join(HEADER_FILE).is_file()
}

/// Whether a file is part of a compiled model, by its name.
pub(crate) fn is_part(file: &Path) -> bool {
    file.file_name().is_some_and(|name| FILES.iter().any(|part| name == *part))
}

/// Reads a compiled model.
pub(crate) fn open(folder: &Path) -> Result<Opened> {
    read(folder, 0, &mut Total::default())
}

/// Reads a compiled model, which may be one of a pipeline's.
fn read(folder: &Path, depth: usize, total: &mut Total) -> Result<Opened> {
    total.models += 1;
    if depth > MAX_COMPILED_DEPTH || total.models > MAX_COMPILED_MODELS {
        return Err(Error::limit("pipelines are nested too deep, or there are too many models"));
    }
    let in_folder = |name: &str| beside(folder, name);
    if folder.join(NETWORK_FILE).exists() && !folder.join(HEADER_FILE).exists() {
        let error = Error::new(ErrorKind::NotFound, "a compiled network without a coremldata.bin");
        return Err(error.with_hint("the folder is incomplete: copy or download the whole folder again"));
    }
    let path = in_folder(HEADER_FILE)?;
    let data = map_bytes(&path, MAX_SPEC_BYTES)?;
    let header = Header::decode(&data).map_err(|error| match error.kind() {
        ErrorKind::Unsupported => error,
        _ => error.at(path),
    })?;
    let description = header.model.description.as_deref().cloned().unwrap_or_default();
    let mut model = header.model;
    if espresso::is_network(header.code) {
        let (network, unread) = espresso::read(folder, header.code, &description, &header.rest)?;
        model.r#type = Some(network);
        return Ok(Opened { folder: folder.to_owned(), model, text: None, unread, parts: Vec::new() });
    }
    if PIPELINES.contains(&header.code) {
        let parts = read_parts(folder, &header.rest, header.code, depth, total)?;
        let names = read_names(folder, parts.len())?;
        let models = parts.iter().map(|part| part.model.clone()).collect();
        let unread = parts.iter().enumerate().flat_map(|(i, part)| {
            part.unread.iter().map(move |reason| format!("{}: {reason}", part_folder(i)))
        });
        let unread = unread.collect();
        let pipeline = Pipeline { models, names };
        model.r#type = Some(match header.code {
            200 => model::Type::PipelineClassifier(PipelineClassifier { pipeline: Some(pipeline) }),
            201 => model::Type::PipelineRegressor(PipelineRegressor { pipeline: Some(pipeline) }),
            _ => model::Type::Pipeline(pipeline),
        });
        return Ok(Opened { folder: folder.to_owned(), model, text: None, unread, parts });
    }
    if header.code != ML_PROGRAM {
        // It is kept as its specification, or in an unknown form.
        let (folder, unread, parts) = (folder.to_owned(), header.unread.into_iter().collect(), Vec::new());
        return Ok(Opened { folder, model, text: None, unread, parts });
    }
    let path = in_folder(PROGRAM_FILE)?;
    let text = map_bytes(&path, MAX_PROGRAM_TEXT_BYTES)?;
    total.text_bytes = total.text_bytes.saturating_add(text.len() as u64);
    if total.text_bytes > MAX_PROGRAM_TEXT_BYTES {
        return Err(Error::limit(format!(
            "the programs of the pipeline have more than {MAX_PROGRAM_TEXT_BYTES} bytes of text"
        )));
    }
    if let Some(error) = lfs_pointer(&text) {
        return Err(error.at(path));
    }
    // A copy, because text checked to be UTF-8 must not change, even if somebody writes to the file.
    let text = String::from_utf8(text.to_vec())
        .map_err(|error| Error::malformed(format!("not a text in UTF-8: {error}")).at(path))?;
    let (folder, unread, parts) = (folder.to_owned(), Vec::new(), Vec::new());
    Ok(Opened { folder, model, text: Some(text), unread, parts })
}

/// The folder of a pipeline's model number `i`.
pub(crate) fn part_folder(i: usize) -> String {
    format!("model{i}")
}

/// Reads the models of a pipeline, which are numbered in the order in which they run.
fn read_parts(
    folder: &Path,
    rest: &Bytes,
    code: u32,
    depth: usize,
    total: &mut Total,
) -> Result<Vec<Opened>> {
    let incomplete = |message: String| {
        let error = Error::new(ErrorKind::NotFound, message);
        error.with_hint("the folder is incomplete: copy or download the whole folder again")
    };
    let mut parts = Vec::new();
    for i in 0.. {
        let name = part_folder(i);
        let part = folder.join(&name);
        if !part.exists() {
            break;
        }
        parts.push(read(&beside(folder, &name)?, depth + 1, total).map_err(|error| error.at(part))?);
    }
    if parts.is_empty() {
        return Err(incomplete("a compiled pipeline without its models".to_owned()));
    }
    match declared_parts(rest, code) {
        Some(count) if count > parts.len() as u64 => {
            let message =
                format!("a compiled pipeline of {count} models without its {}", part_folder(parts.len()));
            Err(incomplete(message))
        }
        Some(count) if count < parts.len() as u64 => Err(Error::malformed(format!(
            "a compiled pipeline of {count} models, with folders of {}",
            parts.len()
        ))),
        _ => Ok(parts),
    }
}

/// The number of a pipeline's models, as its `coremldata.bin` has it after the description. `None` if it has anything
/// else there, whose meaning is unknown.
fn declared_parts(rest: &Bytes, code: u32) -> Option<u64> {
    let mut rest = Reader(rest.clone());
    let (count, of_type) = (rest.u64().ok()?, rest.u64().ok()?);
    (of_type == u64::from(code) && rest.0.is_empty()).then_some(count)
}

/// The names of a pipeline's models; empty if they have none.
fn read_names(folder: &Path, parts: usize) -> Result<Vec<String>> {
    if !folder.join(NAMES_FOLDER).exists() {
        return Ok(Vec::new());
    }
    let path = beside(folder, &format!("{NAMES_FOLDER}/{HEADER_FILE}"))?;
    let data = map_bytes(&path, MAX_SPEC_BYTES)?;
    let read = || {
        if let Some(error) = lfs_pointer(&data) {
            return Err(error);
        }
        let mut rest = Reader(data.clone());
        let count = rest.u64()?;
        if count > parts as u64 {
            return Err(Error::malformed(format!("{count} names of {parts} models")));
        }
        (0..count).map(|_| rest.text()).collect()
    };
    read().map_err(|error: Error| error.at(path))
}

/// `coremldata.bin`.
struct Header {
    /// The number of the model's type.
    code: u32,
    /// The model without content, or all of it if it is kept as its specification.
    model: Model,
    /// The bytes after the description.
    rest: Bytes,
    /// Why the model has no content, if its form is unknown.
    unread: Option<String>,
}

impl Header {
    fn decode(data: &Bytes) -> Result<Header> {
        if let Some(error) = lfs_pointer(data) {
            return Err(error);
        }
        let mut rest = Reader(data.clone());
        let code = rest.u32()?;
        let is_known = code == ML_PROGRAM || espresso::is_network(code) || PIPELINES.contains(&code);
        let ty = empty_type(code).filter(|_| code >= PIPELINES[0]).ok_or_else(|| {
            Error::malformed(format!("not a compiled model: {code} is the number of no model type"))
        })?;
        if is_known {
            rest.skip(24)?;
            rest.sized()?;
            let (model, rest) = described(rest, ty)?;
            return Ok(Header { code, model, rest, unread: None });
        }
        let name = name_of_type(&ty);
        let unread = format!("a model of type {name}, whose compiled form is not known");
        // The layout may be completely different.
        let refused = |_| recompile(Error::unsupported(unread.clone()));
        rest.skip(24).map_err(refused)?;
        if *rest.sized().map_err(refused)? == *SPECIFICATION.as_bytes() {
            rest.skip(4 + 28)?;
            let model = decode(rest.0)?;
            if model.r#type.as_ref().map(name_of_type).as_ref() != Some(&name) {
                return Err(Error::malformed(format!("the specification in it is not that of a {name}")));
            }
            return Ok(Header { code, model, rest: Bytes::new(), unread: None });
        }
        let (model, rest) = described(rest, ty).map_err(|error| match error.kind() {
            ErrorKind::LimitExceeded => error,
            _ => refused(error),
        })?;
        Ok(Header { code, model, rest, unread: Some(unread) })
    }
}

/// Returns a model of a type without content, and the bytes after its description.
fn described(mut rest: Reader, ty: model::Type) -> Result<(Model, Bytes)> {
    let version = rest.u32()?;
    rest.skip(28)?;
    let description = rest.sized()?;
    memory::check(&description, &layout::MESSAGES, layout::MODEL_DESCRIPTION)?;
    let description = ModelDescription::decode(description).map_err(|error| {
        Error::malformed(format!("the description is damaged: {error}")).with_source(error)
    })?;
    // Every existing version fits.
    let mut model = shell(i32::try_from(version).unwrap_or(i32::MAX), description)?;
    model.r#type = Some(ty);
    Ok((model, rest.0))
}

/// Creates the model of a program that is stored elsewhere.
pub(crate) fn shell(specification_version: i32, description: ModelDescription) -> Result<Model> {
    check_version(specification_version)?;
    Ok(Model {
        specification_version,
        description: Some(Box::new(description)),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(mil_spec::Program::default())),
    })
}

/// Reads bytes from front to back.
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

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(*self.take(8)?.first_chunk().expect("eight bytes were taken")))
    }

    /// Reads bytes that are preceded by their length.
    fn sized(&mut self) -> Result<Bytes> {
        let len = self.u64()?;
        self.take(len)
    }

    /// Reads a text that is preceded by its length.
    fn text(&mut self) -> Result<String> {
        let text = String::from_utf8(self.sized()?.to_vec());
        text.map_err(|error| Error::malformed(format!("not a text in UTF-8: {error}")))
    }
}

/// Adds the advice for a compiled model that cannot be read.
fn recompile(error: Error) -> Error {
    error.with_hint("open the .mlpackage or .mlmodel that it was compiled from")
}

/// Returns an empty model of the type whose field in `Model` has this number.
fn empty_type(code: u32) -> Option<model::Type> {
    // Decodes an empty message in that field, so that `Model` itself maps the number to the type.
    if !(1..1 << 29).contains(&code) {
        return None;
    }
    let mut empty = Vec::new();
    prost::encoding::encode_key(code, prost::encoding::WireType::LengthDelimited, &mut empty);
    empty.push(0);
    Model::decode(Bytes::from(empty)).ok()?.r#type
}

/// The name of a model's type, as in the specification.
fn name_of_type(ty: &model::Type) -> String {
    macro_rules! names {
        ($($variant:ident)*) => {
            match ty {
                $(model::Type::$variant(_) => stringify!($variant),)*
            }
        };
    }
    let name = names! {
        PipelineClassifier PipelineRegressor Pipeline GlmRegressor SupportVectorRegressor TreeEnsembleRegressor
        NeuralNetworkRegressor BayesianProbitRegressor GlmClassifier SupportVectorClassifier TreeEnsembleClassifier
        NeuralNetworkClassifier KNearestNeighborsClassifier NeuralNetwork ItemSimilarityRecommender MlProgram CustomModel
        LinkedModel ClassConfidenceThresholding OneHotEncoder Imputer FeatureVectorizer DictVectorizer Scaler
        CategoricalMapping Normalizer ArrayFeatureExtractor NonMaximumSuppression Identity TextClassifier WordTagger
        VisionFeaturePrint SoundAnalysisPreprocessing Gazetteer WordEmbedding AudioFeaturePrint SerializedModel
    };
    name[..1].to_ascii_lowercase() + &name[1..]
}

/// Returns the weight files that a program's text refers to.
pub(crate) fn weight_files(text: &str) -> BTreeSet<&str> {
    const REFERENCE: &str = "BLOBFILE(";
    /// The longest text between `REFERENCE` and the path: its name and its type. The bound keeps the search linear.
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
        let name = |code| empty_type(code).map(|ty| name_of_type(&ty));
        assert_eq!(name(403).as_deref(), Some("neuralNetworkClassifier"));
        assert_eq!(name(202).as_deref(), Some("pipeline"));
        for none in [0, 1, 7, 10, u32::MAX] {
            assert_eq!(empty_type(none), None, "{none}");
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
