//! Writing `.mlmodelc` folders: complete or not at all, like packages.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use prost::Message as _;
use serde_json::{Value, json};

use super::{
    ANALYTICS_FOLDER, FunctionSummary, HEADER_FILE, ML_PROGRAM, NAMES_FOLDER, PIPELINES, PROGRAM_FILE,
    SPECIFICATION, empty_type, is_ours, metadata, name_of_type, part_folder, weight_files,
};
use crate::blob::BlobFile;
use crate::manifest::MODEL_PATH;
use crate::proto::{Model, model};
use crate::{Error, Result};
use milwright_files::check_destination;
use milwright_files::disk;
use milwright_files::{Existing, StagedFolder, is_empty};

const METADATA_FILE: &str = "metadata.json";
/// The label in `coremldata.bin` of a model that is compiled for no particular machine.
const GENERIC: &str = "generic";

/// The parts of an `.mlmodelc`.
#[derive(Clone, Debug)]
pub struct CompiledProgram<'a> {
    /// Specification version and description; the program in it is ignored.
    pub model: &'a Model,
    /// The program, in the syntax of `model.mil`.
    pub text: String,
    /// A summary of each function, by name.
    pub functions: BTreeMap<String, FunctionSummary>,
    /// The weight files that the text refers to, by their names in it. They are copied unchanged.
    pub weights: &'a BTreeMap<String, BlobFile>,
    /// A hash of the model.
    pub digest: [u8; 32],
}

/// The parts of a pipeline's `.mlmodelc`.
#[derive(Clone, Debug)]
pub struct CompiledPipeline<'a> {
    /// Specification version, description, and the names of its models; the models in it are ignored.
    pub model: &'a Model,
    /// Its models.
    pub parts: Vec<CompiledPart<'a>>,
    /// A hash of the whole model.
    pub digest: [u8; 32],
}

/// A compiled model of a pipeline.
#[derive(Clone, Debug)]
pub enum CompiledPart<'a> {
    /// An ML program.
    Program(CompiledProgram<'a>),
    /// A pipeline inside the pipeline.
    Pipeline(CompiledPipeline<'a>),
    /// A model that is kept as its specification.
    Specification(&'a Model),
}

/// Writes a compiled ML program. An older one is replaced atomically, if that is wanted.
///
/// # Errors
///
/// If the folder of `path` is missing or cannot be written, if something that is not a compiled model is at `path`, or
/// if the text refers to weight files that `program` lacks.
pub fn write_mlmodelc(
    path: impl AsRef<Path>,
    program: &CompiledProgram<'_>,
    existing: Existing,
) -> Result<()> {
    let path = path.as_ref();
    let name = name(path);
    let mut files = Files::default();
    files.add_program(Path::new(""), program, Some(&name)).map_err(|error| error.at(path))?;
    let metadata = metadata::json(program.model, &program.functions, program_kind(), &name);
    files.add(METADATA_FILE.as_ref(), metadata.into_bytes());
    files.write(path, existing)
}

/// Writes a compiled pipeline. An older compiled model is replaced atomically, if that is wanted.
///
/// # Errors
///
/// Those of [`write_mlmodelc`].
pub fn write_mlmodelc_pipeline(
    path: impl AsRef<Path>,
    pipeline: &CompiledPipeline<'_>,
    existing: Existing,
) -> Result<()> {
    let path = path.as_ref();
    let name = name(path);
    let mut files = Files::default();
    files.add_pipeline(Path::new(""), pipeline, Some(&name)).map_err(|error| error.at(path))?;
    // For a pipeline, this is the sum of its models' summaries.
    let functions = BTreeMap::from([("main".to_owned(), pipeline.summary())]);
    let metadata = metadata::json(pipeline.model, &functions, pipeline.kind(), &name);
    files.add(METADATA_FILE.as_ref(), metadata.into_bytes());
    files.write(path, existing)
}

/// The name of the model.
fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name of a model's type in `metadata.json`.
fn kind_name(model: &Model) -> String {
    format!("MLModelType_{}", model.r#type.as_ref().map(name_of_type).unwrap_or_default())
}

fn program_kind() -> Value {
    json!({ "name": "MLModelType_mlProgram" })
}

impl CompiledPipeline<'_> {
    /// Its type and the types of its models, for `metadata.json`.
    fn kind(&self) -> Value {
        let kind = |part: &CompiledPart<'_>| match part {
            CompiledPart::Program(_) => program_kind(),
            CompiledPart::Pipeline(pipeline) => pipeline.kind(),
            CompiledPart::Specification(model) => json!({ "name": kind_name(model) }),
        };
        json!({ "name": kind_name(self.model), "structure": self.parts.iter().map(kind).collect::<Value>() })
    }

    /// The sum of the summaries of its models.
    fn summary(&self) -> FunctionSummary {
        let mut total = FunctionSummary::default();
        for part in &self.parts {
            let summaries = match part {
                CompiledPart::Program(program) => program.functions.values().cloned().collect(),
                CompiledPart::Pipeline(pipeline) => vec![pipeline.summary()],
                CompiledPart::Specification(_) => Vec::new(),
            };
            for summary in summaries {
                summary.ops.into_iter().for_each(|(op, n)| *total.ops.entry(op).or_default() += n);
                total.compute_types.extend(summary.compute_types);
                total.storage_types.extend(summary.storage_types);
            }
        }
        total
    }

    /// Its label in `coremldata.bin`: for each model the name of its folder, its version, and its own label.
    fn label(&self) -> String {
        let mut label = GENERIC.to_owned();
        for (i, part) in self.parts.iter().enumerate() {
            let (model, inner) = match part {
                CompiledPart::Program(program) => (program.model, GENERIC.to_owned()),
                CompiledPart::Pipeline(pipeline) => (pipeline.model, pipeline.label()),
                CompiledPart::Specification(model) => (*model, SPECIFICATION.to_owned()),
            };
            label += &format!(".{}v{}.0.0{inner}", part_folder(i), model.specification_version);
        }
        label
    }
}

/// The files of a compiled model, by their paths in its folder.
#[derive(Default)]
struct Files<'a>(Vec<(PathBuf, Cow<'a, [u8]>)>);

impl<'a> Files<'a> {
    fn add(&mut self, path: &Path, content: Vec<u8>) {
        self.0.push((path.to_owned(), content.into()));
    }

    /// Adds the files of a program. A program in a pipeline has no `name`.
    fn add_program(
        &mut self,
        folder: &Path,
        program: &CompiledProgram<'a>,
        name: Option<&str>,
    ) -> Result<()> {
        let mut referred = weight_files(&program.text).into_iter();
        if let Some(name) = referred.find(|name| !program.weights.contains_key(*name)) {
            return Err(Error::invalid(format!("the program refers to {name:?}, which is not given")));
        }
        for (name, file) in program.weights {
            self.0.push((folder.join(relative(name)?), Cow::Borrowed(file.bytes())));
        }
        let (version, functions) =
            (program.model.specification_version.max(0) as u32, program.functions.len());
        let mut rest = Vec::new();
        for _ in 0..functions.max(1) {
            rest.extend(ML_PROGRAM.to_le_bytes());
            rest.extend([0; 12]);
        }
        // Files for iOS 17 and before have 5 here; newer ones have their specification version.
        let kind = [ML_PROGRAM, if version < 9 { 5 } else { version }, 0, 0, 0, 0, 0];
        self.add(&folder.join(HEADER_FILE), encode(program.model, kind, GENERIC, &rest, name.is_some()));
        self.add(&folder.join(PROGRAM_FILE), program.text.as_bytes().to_vec());
        let details: &[_] = &[("containsCustomLayer", "0"), ("modelDimension", "0")];
        let analytics = analytics("NeuralNetworkModelDetails", details, name, &program.digest);
        self.add(&folder.join(ANALYTICS_FOLDER).join(HEADER_FILE), analytics);
        Ok(())
    }

    /// Adds the files of a pipeline and its models.
    fn add_pipeline(
        &mut self,
        folder: &Path,
        pipeline: &CompiledPipeline<'a>,
        name: Option<&str>,
    ) -> Result<()> {
        for (i, part) in pipeline.parts.iter().enumerate() {
            let folder = folder.join(part_folder(i));
            match part {
                CompiledPart::Program(program) => self.add_program(&folder, program, None)?,
                CompiledPart::Pipeline(pipeline) => self.add_pipeline(&folder, pipeline, None)?,
                CompiledPart::Specification(model) => {
                    self.add(&folder.join(HEADER_FILE), specification(model)?);
                }
            }
        }
        let (code, names) = match &pipeline.model.r#type {
            Some(model::Type::PipelineClassifier(p)) => (PIPELINES[0], p.pipeline.as_ref()),
            Some(model::Type::PipelineRegressor(p)) => (PIPELINES[1], p.pipeline.as_ref()),
            Some(model::Type::Pipeline(p)) => (PIPELINES[2], Some(p)),
            _ => return Err(Error::invalid("it is no pipeline")),
        };
        let names = names.map_or(&[][..], |p| &p.names);
        let mut rest = (pipeline.parts.len() as u64).to_le_bytes().to_vec();
        rest.extend(u64::from(code).to_le_bytes());
        let kind = [code, 1, 0, 0, 0, 1, 0];
        let header = encode(pipeline.model, kind, &pipeline.label(), &rest, name.is_some());
        self.add(&folder.join(HEADER_FILE), header);
        if !names.is_empty() {
            let mut data = (names.len() as u64).to_le_bytes().to_vec();
            names.iter().for_each(|name| sized(&mut data, name.as_bytes()));
            self.add(&folder.join(NAMES_FOLDER).join(HEADER_FILE), data);
        }
        let details = [("modelDimension", &*pipeline.parts.len().to_string())];
        let analytics = analytics("PipelineModelDetails", &details, name, &pipeline.digest);
        self.add(&folder.join(ANALYTICS_FOLDER).join(HEADER_FILE), analytics);
        Ok(())
    }

    /// Writes the folder, complete or not at all.
    fn write(&self, path: &Path, existing: Existing) -> Result<()> {
        check_destination(path)?;
        if path.is_file() {
            return Err(Error::invalid("a file of this name is in the way; a compiled model is a folder")
                .with_hint("choose a name that ends in .mlmodelc")
                .at(path));
        }
        if path.is_dir() && !is_ours(path) && !is_empty(path) {
            return Err(Error::invalid(
                "a folder of this name is in the way, and it is not a compiled model",
            )
            .with_hint("choose another name")
            .at(path));
        }
        let staging = StagedFolder::create(path)?;
        let folder = staging.content();
        let write = || {
            disk::create_folder(folder)?;
            let mut folders = BTreeSet::new();
            for (relative, content) in &self.0 {
                for parent in relative.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
                    if parent != Path::new("") && folders.insert(folder.join(parent)) {
                        disk::create_folder(&folder.join(parent))?;
                    }
                }
                disk::write_synced(&folder.join(relative), content)?;
            }
            folders.iter().try_for_each(|folder| disk::sync_folder(folder))?;
            disk::sync_folder(folder)?;
            staging.sync()
        };
        write().map_err(|error| Error::io("write it", error).at(path))?;
        staging.commit_over(existing)
    }
}

/// The path of a weight file in the folder, from its name in the model.
fn relative(name: &str) -> Result<PathBuf> {
    let relative = name.strip_prefix(MODEL_PATH).filter(|relative| {
        let plain = Path::new(relative).components().all(|part| matches!(part, Component::Normal(_)));
        plain && !relative.is_empty() && !relative.contains(['\0', '\\', ':'])
    });
    relative
        .map(PathBuf::from)
        .ok_or_else(|| Error::invalid(format!("the weight file {name:?} would lie outside of the model")))
}

/// Encodes a `coremldata.bin` in the form that our reader reads. `kind` is its first 28 bytes.
fn encode(model: &Model, kind: [u32; 7], label: &str, rest: &[u8], is_whole: bool) -> Vec<u8> {
    let mut description = model.description.as_deref().cloned().unwrap_or_default();
    if is_whole {
        // The compiler writes the metadata even if it is empty.
        description.metadata.get_or_insert_default();
    }
    let mut data: Vec<u8> = kind.into_iter().flat_map(u32::to_le_bytes).collect();
    sized(&mut data, label.as_bytes());
    data.extend((model.specification_version.max(0) as u32).to_le_bytes());
    data.extend([0; 28]);
    sized(&mut data, &description.encode_to_vec());
    data.extend(rest);
    data
}

/// Encodes the `coremldata.bin` of a model that is kept as its specification.
fn specification(model: &Model) -> Result<Vec<u8>> {
    let code = model.r#type.as_ref().and_then(code_of_type);
    let code = code.ok_or_else(|| Error::invalid("a model without a type"))?;
    let mut data: Vec<u8> = [code, 1, 0, 0, 0, 0, 0].into_iter().flat_map(u32::to_le_bytes).collect();
    sized(&mut data, SPECIFICATION.as_bytes());
    data.extend((model.specification_version.max(0) as u32).to_le_bytes());
    data.extend([0; 28]);
    data.extend(model.encode_to_vec());
    Ok(data)
}

/// The number of a model type's field in `Model`.
fn code_of_type(ty: &model::Type) -> Option<u32> {
    let name = name_of_type(ty);
    (200..4096).find(|&code| empty_type(code).is_some_and(|ty| name_of_type(&ty) == name))
}

/// Encodes `analytics/coremldata.bin`: named groups of named texts. A model in a pipeline has no name, and only the
/// first group.
fn analytics(kind: &str, details: &[(&str, &str)], name: Option<&str>, digest: &[u8; 32]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut group = |name: &str, entries: &[(&str, &str)]| {
        sized(&mut data, name.as_bytes());
        data.extend((entries.len() as u64).to_le_bytes());
        for (key, value) in entries {
            sized(&mut data, key.as_bytes());
            sized(&mut data, value.as_bytes());
        }
    };
    group(kind, details);
    if let Some(name) = name {
        group("SpecificationDetails", &[("modelHash", &base64(digest)), ("modelName", name)]);
    }
    data
}

/// Appends bytes, preceded by their length.
fn sized(data: &mut Vec<u8>, bytes: &[u8]) {
    data.extend((bytes.len() as u64).to_le_bytes());
    data.extend(bytes);
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().enumerate().fold(0, |bits, (i, &byte)| bits | u32::from(byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize % 64];
            text.push(if i <= chunk.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::blob::{BlobType, BlobWriter};
    use crate::proto::{FeatureDescription, ModelDescription, mil_spec};
    use crate::{Container, Package};
    use milwright_files::faults::{self, Fault};

    const WEIGHTS: &str = "@model_path/weights/weight.bin";

    fn write(path: &Path, byte: u8) -> Result<()> {
        let mut writer = BlobWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
        writer.append(BlobType::UInt8, 100, &[byte; 100]).unwrap();
        let file = BlobFile::from_bytes(writer.finish().unwrap().into_inner().into()).unwrap();
        let weights = BTreeMap::from([(WEIGHTS.to_owned(), file)]);
        write_mlmodelc(path, &program(&model(), &weights), Existing::Replace)
    }

    fn model() -> Model {
        let input = FeatureDescription { name: "x".into(), ..Default::default() };
        let description = ModelDescription { input: vec![input], ..Default::default() };
        Model {
            specification_version: 7,
            description: Some(Box::new(description)),
            is_updatable: false,
            r#type: Some(model::Type::MlProgram(mil_spec::Program::default())),
        }
    }

    fn program<'a>(model: &'a Model, weights: &'a BTreeMap<String, BlobFile>) -> CompiledProgram<'a> {
        let text = format!("program(1.0) {{}} // BLOBFILE(path = string(\"{WEIGHTS}\"), offset = 64)");
        let functions = BTreeMap::from([("main".to_owned(), FunctionSummary::default())]);
        CompiledProgram { model, text, functions, weights, digest: [7; 32] }
    }

    fn weight(path: &Path) -> u8 {
        Package::open(path).unwrap().blob_at(WEIGHTS, 64).unwrap().data[99]
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.mlmodelc");
        write(&path, 1).unwrap();
        let package = Package::open(&path).unwrap();
        assert_eq!(package.container(), Container::Mlmodelc);
        assert!(package.program_text().unwrap().starts_with("program(1.0)"));
        let description = package.model().description.as_ref().unwrap();
        assert_eq!(
            (package.model().specification_version, &description.input),
            (7, &model().description.unwrap().input)
        );
        assert_eq!(weight(&path), 1);
        let metadata = fs::read_to_string(path.join("metadata.json")).unwrap();
        assert!(metadata.contains("\"generatedClassName\": \"m\""), "{metadata}");
        // Windows does not rename a folder while a file in it is mapped.
        drop(package);
        write(&path, 2).unwrap();
        assert_eq!((weight(&path), names(folder.path())), (2, vec!["m.mlmodelc".to_owned()]));
    }

    #[test]
    fn refuses_what_is_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("thesis.txt"), "keep me").unwrap();
        assert!(write(&path, 1).unwrap_err().to_string().contains("not a compiled model"));
        let error = write(&path.join("thesis.txt"), 1).unwrap_err();
        assert!(error.to_string().contains("a file of this name"), "{error}");
        assert_eq!(names(&path), ["thesis.txt"]);
        let none = BTreeMap::new();
        let error =
            write_mlmodelc(folder.path().join("m.mlmodelc"), &program(&model(), &none), Existing::Keep)
                .unwrap_err();
        assert!(error.to_string().contains("weight.bin"), "{error}");
    }

    #[test]
    fn weights_stay_inside() {
        assert_eq!(relative(WEIGHTS).unwrap(), Path::new("weights/weight.bin"));
        for bad in ["weights/weight.bin", "@model_path/", "@model_path/../up.bin", "@model_path//etc/passwd"]
        {
            assert!(relative(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn survives_a_fault_at_every_step() {
        for fault in [Fault::Full, Fault::Killed] {
            for at in 0.. {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("m.mlmodelc");
                write(&path, 1).unwrap();
                let (_, reached) = faults::with(fault, at, true, || write(&path, 2));
                // The gap on systems that cannot exchange names: see the test of `StagedPackage`.
                if !path.exists() && !faults::EXCHANGES && fault == Fault::Killed {
                    drop(StagedFolder::create(&path).unwrap());
                }
                assert!([1, 2].contains(&weight(&path)), "{fault:?} at {at}");
                write(&path, 3).unwrap();
                let found = (weight(&path), names(folder.path()));
                assert_eq!(found, (3, vec!["m.mlmodelc".to_owned()]), "{fault:?} at {at}");
                if !reached {
                    break;
                }
            }
        }
    }

    #[test]
    fn base64_as_in_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
