//! Opened models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::classic::Classic;
use crate::kinds::pipeline;
use crate::kinds::{Computed, part_name};
use crate::onnx::Onnx;
use crate::origin::Origin;
use bytes::Bytes;
use milwright_convert::onnx;
use milwright_formats::did_you_mean;
use milwright_formats::onnx::OnnxFile;
use milwright_formats::proto::{self as pb, Pipeline};
use milwright_formats::{CompiledPart, CompiledPipeline, CompiledProgram, Container, Format, Package};
use milwright_mil::{Checked, Function, OpKind, Opset, Program, verify};
use prost::Message as _;

use crate::{Error, ErrorKind, Existing, ImportOptions, ModelInfo, ModelKind, Result, Task};

/// A model that was opened and verified. The weights of an ML program stay in the file, which is memory-mapped.
///
/// ```
/// # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
/// use milwright::Model;
///
/// let model = Model::open(format!("{root}examples/digits.mlpackage"))?;
/// assert_eq!(model.info().model_type(), "mlProgram");
/// assert!(model.function(None)?.walk().len() > 10);
/// # Ok::<(), milwright::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    origin: Origin,
    content: Content,
    info: ModelInfo,
    digest: OnceLock<[u8; 32]>,
}

/// The executable content of a model.
#[derive(Debug)]
pub(crate) enum Content {
    /// An ML program, or the program that a neural network is converted to.
    Program(Checked),
    /// A classical model, such as a tree ensemble.
    Classic(Classic),
    /// A chain of models.
    Pipeline(Vec<Arc<Model>>),
}

impl Model {
    /// Opens an `.mlpackage` folder, an `.mlmodel` file, an `.mlmodelc` folder (a compiled model) or an `.onnx` file, and
    /// verifies its program.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or is neither a Core ML nor an ONNX model; its type cannot be run; or it
    /// breaks the rules of MIL. The error names the file, the function, the op and the remedy.
    pub fn open(path: impl AsRef<Path>) -> Result<Model> {
        Model::open_with(path, &ImportOptions::new())
    }

    /// Opens a model as [`open`](Model::open) does; the options count if it is an ONNX model.
    ///
    /// # Errors
    /// As for [`open`](Model::open) and [`import`](Model::import).
    pub fn open_with(path: impl AsRef<Path>, options: &ImportOptions) -> Result<Model> {
        let path = path.as_ref();
        match Format::of(path) {
            Format::CoreMl => Model::new(path.to_owned(), Package::open(path)?).map_err(|e| e.at(path)),
            Format::Onnx => Model::import(path, options),
        }
    }

    /// Opens a model from memory: the bytes of its specification (an `.mlmodel` file, or the one inside a package),
    /// and its weight files by the names that the specification uses, such as `@model_path/weights/weight.bin`.
    ///
    /// # Errors
    /// As for [`open`](Model::open).
    pub fn from_bytes(specification: Bytes, weights: &BTreeMap<String, Bytes>) -> Result<Model> {
        Model::new(PathBuf::from("(memory)"), Package::from_bytes(specification, weights)?)
    }

    /// Opens an `.onnx` file with options.
    ///
    /// # Errors
    /// The file cannot be read or is not an ONNX model; it is malformed, or has nodes that no program can compute: the
    /// error lists them, with what can be done.
    pub fn import(path: impl AsRef<Path>, options: &ImportOptions) -> Result<Model> {
        let path = path.as_ref();
        let file = Arc::new(OnnxFile::open(path)?);
        Model::from_onnx(path, file, &options.0).map_err(|e| e.at(path))
    }

    /// Imports an ONNX model.
    pub(crate) fn from_onnx(path: &Path, file: Arc<OnnxFile>, options: &onnx::Options) -> Result<Model> {
        let imported = onnx::read(&file, options)?;
        let options = options.clone();
        let onnx = Box::new(Onnx { file, options, notes: imported.notes, lowered: imported.ops });
        let origin = Origin::Onnx(onnx, Box::new(imported.model));
        Model::of_program(path.to_owned(), origin, verify(imported.program)?)
    }

    /// A model of a program that was made in memory. Its features are the program's inputs, outputs and states.
    ///
    /// ```
    /// use milwright::{Model, mil};
    ///
    /// let program = mil::text::parse(
    ///     "program(1.3) { func main<ios15>(tensor<fp32, [2]> x) {
    ///          tensor<fp32, [2]> y = relu(x = x)[name = string(\"y\")];
    ///      } -> (y); }",
    /// ).unwrap();
    /// let model = Model::from_program(program)?;
    /// assert_eq!(model.info().function(None).unwrap().outputs[0].name, "y");
    /// # Ok::<(), milwright::Error>(())
    /// ```
    ///
    /// # Errors
    /// The program breaks the rules of MIL, or has inputs or outputs of a type that a model cannot have.
    pub fn from_program(program: Program) -> Result<Model> {
        let program = verify(program)?;
        let specification = milwright_convert::ml_program::describe(&program)?;
        Model::of_program(PathBuf::from("(memory)"), Origin::Program(Box::new(specification)), program)
    }

    /// A model whose program is not in a Core ML file.
    fn of_program(path: PathBuf, origin: Origin, program: Checked) -> Result<Model> {
        let info = ModelInfo::new(origin.specification()).with_program(&program);
        let content = Content::Program(program);
        Ok(Model { path, origin, content, info, digest: OnceLock::new() })
    }

    /// The same model with other programs, in memory: `programs` gives them in the order of the pipeline, each with what a
    /// Core ML file would say of it, if that changes.
    pub(crate) fn with_programs(
        &self,
        programs: &mut dyn Iterator<Item = (Option<pb::Model>, Checked)>,
    ) -> Result<Model> {
        let specification = || self.specification().clone();
        match &self.content {
            Content::Program(_) => {
                let (described, program) =
                    programs.next().ok_or_else(|| Error::invalid("a program is missing"))?;
                let origin = Origin::Program(Box::new(described.unwrap_or_else(specification)));
                Model::of_program(self.path.clone(), origin, program)
            }
            Content::Classic(_) => {
                Model::from_bytes(specification().encode_to_vec().into(), &BTreeMap::new())
            }
            Content::Pipeline(parts) => {
                let replaced = parts.iter().map(|part| part.with_programs(programs).map(Arc::new));
                let content = Content::Pipeline(replaced.collect::<Result<_>>()?);
                let origin = Origin::Program(Box::new(specification()));
                let (path, info) = (self.path.clone(), self.info.clone());
                Ok(Model { path, origin, content, info, digest: OnceLock::new() })
            }
        }
    }

    /// What the import of an ONNX model had to assume or to leave out, in sentences; empty for Core ML models.
    pub fn import_notes(&self) -> &[String] {
        self.origin.notes()
    }

    /// How many nodes of each op were lowered, if it was imported from an ONNX model.
    pub(crate) fn lowered_nodes(&self) -> &BTreeMap<String, usize> {
        static NONE: BTreeMap<String, usize> = BTreeMap::new();
        match &self.origin {
            Origin::Onnx(onnx, _) => &onnx.lowered,
            _ => &NONE,
        }
    }

    /// The ONNX model imported again for a package of this opset, or of the oldest that serves; `None` if this is no ONNX
    /// model, or was imported so.
    pub(crate) fn for_package(&self, opset: Option<Opset>) -> Option<Result<Model>> {
        let Origin::Onnx(onnx, _) = &self.origin else { return None };
        let options = onnx.options_for_package(opset)?;
        let again = Model::from_onnx(&self.path, Arc::clone(&onnx.file), &options);
        Some(again.map_err(|e| e.at(&self.path)))
    }

    /// Returns the memory of mapped weights to the system; they are read again when accessed.
    pub(crate) fn release_memory(&self) {
        match &self.origin {
            Origin::CoreMl(package) => package.release_memory(),
            Origin::Onnx(onnx, _) => onnx.file.release_memory(),
            Origin::Program(_) => {}
        }
    }

    /// The format that it was imported from, such as `onnx`; `None` for Core ML models and programs in memory.
    pub(crate) fn imported_from(&self) -> Option<&'static str> {
        self.origin.imported_from()
    }

    fn new(path: PathBuf, package: Package) -> Result<Model> {
        let info = ModelInfo::new(package.model());
        if !package.unread_layers().is_empty() {
            return Err(unread(package.unread_layers()));
        }
        info.check(Task::Run)?;
        let description = package.model();
        let computed = info.kind.map(ModelKind::computed);
        let (content, info) = match (computed, pipeline(description)) {
            (Some(Computed::Program), _) => {
                let program = milwright_convert::ml_program::read(&package)?;
                let info = info.with_program(&program);
                (Content::Program(verify(program)?), info)
            }
            (Some(Computed::Numbers), _) => (Content::Classic(Classic::new(description)?), info),
            (_, Some(pipeline)) => {
                let parts = parts(&path, &package, pipeline)?;
                let info = info.with_parts(parts.iter().map(|part| part.info.clone()).collect());
                (Content::Pipeline(parts), info)
            }
            _ => {
                let program = network(&package)?;
                let info = info.with_computed(&program);
                (Content::Program(verify(program)?), info)
            }
        };
        if let Content::Program(program) = &content {
            for (name, function) in &program.functions {
                tracing::debug!("{}: function {name}, {} ops", path.display(), function.walk().len());
            }
        }
        Ok(Model { path, origin: Origin::CoreMl(Box::new(package)), content, info, digest: OnceLock::new() })
    }

    /// The path that the model was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The description of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The program: the file's own, or the one that a neural network is converted to.
    ///
    /// # Errors
    /// The model has no program: it is a pipeline or a classical model.
    pub fn program(&self) -> Result<&Checked> {
        match &self.content {
            Content::Program(program) => Ok(program),
            _ => {
                let message = format!("a model of type {} has no program", self.info.model_type());
                Err(Error::new(ErrorKind::Unsupported, message).at(&self.path))
            }
        }
    }

    /// The program, if it is not made from a neural network's layers.
    pub(crate) fn own_program(&self) -> Result<&Checked> {
        match self.info.kind.map(ModelKind::computed) {
            Some(Computed::Network) => {
                let message = "a neural network has layers, and no program of its own";
                let error = Error::new(ErrorKind::Unsupported, message).at(&self.path);
                Err(error.with_hint("`milwright convert` writes it as an ML program"))
            }
            _ => self.program(),
        }
    }

    /// The models of a pipeline, in order; empty for other models.
    pub fn pipeline(&self) -> &[Arc<Model>] {
        match &self.content {
            Content::Pipeline(parts) => parts,
            _ => &[],
        }
    }

    /// Whether the program has loops, so that its run time depends on the inputs.
    pub fn has_loops(&self) -> bool {
        match &self.content {
            Content::Program(program) => {
                let mut functions = program.functions.values();
                functions.any(|f| f.walk().into_iter().any(|op| f[op].kind == OpKind::WhileLoop))
            }
            Content::Classic(_) => false,
            Content::Pipeline(parts) => parts.iter().any(|part| part.has_loops()),
        }
    }

    /// The function of this name, or the default one.
    ///
    /// # Errors
    /// There is no function of this name; the hint lists the functions.
    pub fn function(&self, name: Option<&str>) -> Result<&Function> {
        let name = name.unwrap_or(&self.info.default_function);
        let program = self.program()?;
        program.functions.get(name).ok_or_else(|| {
            let names: Vec<&str> = program.functions.keys().map(String::as_str).collect();
            Error::invalid(format!("there is no function `{name}`"))
                .with_hint(format!(
                    "{}the functions are: {}",
                    did_you_mean(name, names.iter().copied()),
                    names.join(", ")
                ))
                .at(&self.path)
        })
    }

    /// The names of its functions: those of its program, or a pipeline's only one.
    pub(crate) fn function_names(&self) -> Vec<&str> {
        match self.program() {
            Ok(program) => program.functions.keys().map(String::as_str).collect(),
            Err(_) => self.info.functions.iter().map(|f| f.name.as_str()).collect(),
        }
    }

    /// Writes the compiled form of the model, as Core ML's own compiler does: an `.mlmodelc` folder with the program
    /// as text, the description and the same weight files. A compiled pipeline contains one such folder for each of
    /// its models, which must be ML programs, feature vectorizers or pipelines of these. An existing compiled model is
    /// replaced completely or not at all.
    ///
    /// ```
    /// # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    /// use milwright::Model;
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let compiled = folder.path().join("digits.mlmodelc");
    /// Model::open(format!("{root}examples/digits.mlpackage"))?.compile_to(&compiled)?;
    /// assert_eq!(Model::open(&compiled)?.info().function(None).unwrap().inputs[0].name, "image");
    /// # Ok::<(), milwright::Error>(())
    /// ```
    ///
    /// # Errors
    /// The model, or a model of the pipeline, is of another type; the folder cannot be written; or there is something
    /// at `path` that is not a compiled model.
    pub fn compile_to(&self, path: impl AsRef<Path>) -> Result<()> {
        self.compile_over(path, Existing::Replace)
    }

    /// Like [`compile_to`](Model::compile_to), but replaces a compiled model only if that is wanted.
    ///
    /// # Errors
    /// As for `compile_to`; or there is a compiled model that should stay.
    pub fn compile_over(&self, path: impl AsRef<Path>, existing: Existing) -> Result<()> {
        self.info.check(Task::Compile).map_err(|e| e.at(&self.path))?;
        self.check_not_replaced(path.as_ref())?;
        match self.compiled(self.digest())? {
            CompiledPart::Program(program) => {
                Ok(milwright_formats::write_mlmodelc(path, &program, existing)?)
            }
            CompiledPart::Pipeline(pipeline) => {
                Ok(milwright_formats::write_mlmodelc_pipeline(path, &pipeline, existing)?)
            }
            CompiledPart::Specification(_) => Err(Error::new(
                ErrorKind::Unsupported,
                "only a part of a pipeline is kept as its specification",
            )),
        }
    }

    /// Refuses to write to `path` if that would replace the files that the model is read from.
    pub(crate) fn check_not_replaced(&self, path: &Path) -> Result<()> {
        match (path.canonicalize(), self.path.canonicalize()) {
            (Ok(there), Ok(own)) if there == own => {
                Err(Error::invalid("the result would replace the model that it is made from")
                    .with_hint("choose another name for it")
                    .at(path))
            }
            _ => Ok(()),
        }
    }

    /// The compiled parts to write; `digest` is that of the whole model.
    fn compiled(&self, digest: [u8; 32]) -> Result<CompiledPart<'_>> {
        let tool = ("milwright-version", env!("CARGO_PKG_VERSION"));
        let Some(package) = self.origin.package() else {
            let error = Error::new(ErrorKind::Unsupported, "only models that are Core ML files are compiled");
            return Err(error.with_hint("convert it first, and compile the result").at(&self.path));
        };
        let model = package.model();
        if let Content::Pipeline(parts) = &self.content {
            let parts = parts.iter().map(|part| part.compiled(digest)).collect::<Result<_>>()?;
            return Ok(CompiledPart::Pipeline(CompiledPipeline { model, parts, digest }));
        }
        if self.info.is_kept_as_specification() {
            return Ok(CompiledPart::Specification(model));
        }
        let program = self.program()?;
        Ok(CompiledPart::Program(CompiledProgram {
            model,
            text: milwright_convert::ml_program::write_text(program, package, tool),
            functions: milwright_convert::ml_program::summaries(program, package),
            weights: package.weight_files(),
            digest,
        }))
    }

    /// Bytes on disk: the model's structure and its weights.
    pub fn size(&self) -> u64 {
        self.origin.size() + self.size_outside()
    }

    fn size_outside(&self) -> u64 {
        let parts = self.compiled_parts().iter().map(|part| part.size_outside());
        self.origin.size_outside() + parts.sum::<u64>()
    }

    /// The models of a compiled pipeline: their programs and weights are outside its own message and files.
    fn compiled_parts(&self) -> &[Arc<Model>] {
        if self.origin.is_compiled() { self.pipeline() } else { &[] }
    }

    /// A hash of everything that affects what the model computes.
    pub fn digest(&self) -> [u8; 32] {
        *self.digest.get_or_init(|| {
            let mut hasher = blake3::Hasher::new();
            self.origin.hash(self.program().ok().map(|program| &**program), &mut hasher);
            for part in self.compiled_parts() {
                hasher.update(&part.digest());
            }
            *hasher.finalize().as_bytes()
        })
    }

    /// The same Core ML model with another protobuf message, for example with renamed features.
    pub(crate) fn with_proto(&self, model: &pb::Model) -> Result<Model> {
        let package = self.origin.package().ok_or_else(|| Error::invalid("not a Core ML file"))?;
        Model::new(self.path.clone(), package.with_model(model))
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    pub(crate) fn classic(&self) -> Option<&Classic> {
        match &self.content {
            Content::Classic(classic) => Some(classic),
            _ => None,
        }
    }

    /// Whether the model, or one of its pipeline's models, has a built-in value for this input, whatever is declared.
    pub(crate) fn has_value_for(&self, input: &str) -> bool {
        let own = self.classic().is_some_and(|c| c.undeclared_inputs().iter().any(|name| name == input));
        own || self.pipeline().iter().any(|part| part.has_value_for(input))
    }

    /// The range of numbers to try for an input that may be left out, around the built-in value of the model or of one
    /// of its pipeline's models.
    pub(crate) fn value_for(&self, input: &str) -> Option<(f64, f64)> {
        let own = self.classic().and_then(|c| c.value_for(input));
        own.or_else(|| self.pipeline().iter().find_map(|part| part.value_for(input)))
    }

    /// Whether this is an old neural network, all of whose tensors have five dimensions.
    pub(crate) fn has_five_dimensions(&self) -> bool {
        milwright_convert::neural_network::has_five_dimensions(self.specification())
    }

    /// What a Core ML file says of the model, or would say: see [`Origin::specification`].
    pub(crate) fn specification(&self) -> &pb::Model {
        self.origin.specification()
    }

    /// The files of a Core ML model.
    pub(crate) fn package(&self) -> Option<&Package> {
        self.origin.package()
    }
}

/// Converts a neural network to a program.
fn network(package: &Package) -> Result<Program> {
    let model = package.model();
    Ok(match package.container() {
        // The layers of a compiled network declare their output shapes.
        Container::Mlmodelc => milwright_convert::neural_network::read_with_shapes(model)?,
        _ => milwright_convert::neural_network::read(model)?,
    })
}

/// The error for layers of a compiled network, or models of a pipeline, that cannot be read.
fn unread(layers: &[String]) -> Error {
    /// How many an error lists.
    const MAX: usize = 20;
    let mut message = match layers {
        [part] => format!("a compiled model that is not understood: {part}"),
        _ => {
            let listed: Vec<&str> = layers.iter().take(MAX).map(String::as_str).collect();
            let message = format!("{} parts of the compiled model are not understood:\n  ", layers.len());
            message + &listed.join("\n  ")
        }
    };
    if layers.len() > MAX {
        message += &format!("\n  and {} more", layers.len() - MAX);
    }
    Error::new(ErrorKind::Unsupported, message)
        .with_hint("open the .mlpackage or .mlmodel that it was compiled from")
}

/// Opens the models of a pipeline. The decoder bounds how deep pipelines nest.
fn parts(path: &Path, package: &Package, pipeline: &Pipeline) -> Result<Vec<Arc<Model>>> {
    let part = |(i, part): (usize, &pb::Model)| {
        let opened = Model::new(path.to_owned(), package.part(i, part));
        opened.map(Arc::new).map_err(|e| e.within(&part_name(i, &pipeline.names)))
    };
    pipeline.models.iter().enumerate().map(part).collect()
}
