//! The programs inside a model that is optimized: its own one, the one that a neural network is converted to, or those
//! of the models in a pipeline.

use std::sync::Arc;

use milwright_convert::neural_network;
use milwright_formats::proto::{self as pb, mil_spec, model};
use milwright_mil::{Checked, Opset, verify};

use super::features::part_mut;
use crate::kinds::part_name;
use crate::model::Content;
use crate::{
    Backend, Cpu, Dictionary, Error, ErrorKind, InferenceRequest, LoadOptions, Model, Result, Samples, Task,
};

/// A model and the programs in it.
pub(super) struct Source {
    /// The model to compare the result with. It is the original, but with renamed inputs and outputs if an ML program
    /// cannot have the original names.
    pub model: Arc<Model>,
    pub parts: Vec<Part>,
    /// Changes besides those of the programs, as sentences.
    pub notes: Vec<String>,
}

/// One program.
pub(super) struct Part {
    /// The index at each level of nested pipelines; empty for the model itself.
    path: Vec<usize>,
    /// The name of the part in messages; empty for the model itself.
    name: String,
    /// The name of its weight file.
    pub file: String,
    pub program: Checked,
    /// The new specification of a neural network that becomes a program.
    described: Option<pb::Model>,
}

impl Source {
    /// Collects the programs of a model, converted to `opset` if one is given.
    pub fn new(model: &Arc<Model>, opset: Option<Opset>, task: Task) -> Result<Source> {
        if model.imported_from().is_none() {
            model.info().check(task).map_err(|e| e.at(model.path()))?;
        }
        let mut notes = Vec::new();
        let imported = model.for_package(opset).transpose()?.map(Arc::new);
        let model = imported.as_ref().unwrap_or(model);
        notes.extend_from_slice(model.import_notes());
        let proto = model.specification();
        let model = match neural_network::with_identifiers(proto)
            .filter(|_| neural_network::layers(proto).is_some())
        {
            None => Arc::clone(model),
            Some((renamed, names)) => {
                notes.extend(names.iter().map(|(old, new)| {
                    format!("`{old}` is called `{new}`: names in ML programs have letters, digits and _ only")
                }));
                Arc::new(model.with_proto(&renamed)?)
            }
        };
        let mut source = Source { model: Arc::clone(&model), parts: Vec::new(), notes };
        source.collect(&model, &[], "", opset).map_err(|e| e.at(model.path()))?;
        match &mut source.parts[..] {
            [only] if only.path.is_empty() => "weight.bin".clone_into(&mut only.file),
            parts => parts.iter_mut().enumerate().for_each(|(i, p)| p.file = format!("{i}-weight.bin")),
        }
        Ok(source)
    }

    // The recursion is bounded, because the decoder bounds how deep pipelines nest.
    fn collect(
        &mut self,
        model: &Arc<Model>,
        path: &[usize],
        name: &str,
        opset: Option<Opset>,
    ) -> Result<()> {
        let named = |e: Error| if name.is_empty() { e } else { e.within(name) };
        let proto = model.specification();
        let (program, described) = match model.content() {
            Content::Classic(_) => return Ok(()),
            Content::Pipeline(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    let outer = if name.is_empty() { String::new() } else { format!("{name}: ") };
                    let name = outer + &part_name(i, &model.info().pipeline_names);
                    self.collect(part, &[path, &[i]].concat(), &name, opset)?;
                }
                return Ok(());
            }
            Content::Program(_) if neural_network::layers(proto).is_some() => {
                if !path.is_empty() && neural_network::with_identifiers(proto).is_some() {
                    let message = "an input or output whose name an ML program cannot have";
                    return Err(named(Error::new(ErrorKind::Unsupported, message)));
                }
                let made = neural_network::to_ml_program(proto, opset).map_err(|e| named(e.into()))?;
                let prefix = if name.is_empty() { String::new() } else { format!("{name}: ") };
                self.notes.extend(made.notes.into_iter().map(|note| prefix.clone() + &note));
                (verify(made.program).map_err(|e| named(e.into()))?, Some(made.model))
            }
            Content::Program(program) => (for_opset(program, opset).map_err(named)?, None),
        };
        let program = with_named_constants(program).map_err(named)?;
        self.parts.push(Part {
            path: path.to_vec(),
            name: name.to_owned(),
            file: String::new(),
            program,
            described,
        });
        Ok(())
    }

    /// Makes weights that are the same bytes one constant.
    pub fn share_weights(&mut self) -> Result<()> {
        for part in &mut self.parts {
            let mut program = (*part.program).clone();
            let shared: usize = program.functions.values_mut().map(milwright_optimize::weights::share).sum();
            if shared > 0 {
                part.program = verify(program)?;
            }
        }
        Ok(())
    }

    /// The inputs that a function of a part gets when the whole model runs on these samples.
    pub fn samples_of(
        &self,
        part: &Part,
        function: &str,
        samples: &Samples,
        load: &LoadOptions,
    ) -> Result<Samples> {
        let mut inner = samples.clone();
        let mut model = &self.model;
        for &i in &part.path {
            inner.requests = through(&model.pipeline()[..i], &inner.requests, load)?;
            model = &model.pipeline()[i];
            let function = model.info().function(None);
            for request in &mut inner.requests {
                *request = taken(request, |name| function.is_some_and(|f| f.inputs.named(name).is_some()));
            }
        }
        Ok(match part.program.functions.get(function) {
            Some(function) => inner.fitted(function),
            None => inner,
        })
    }
}

/// Runs models one after the other, and adds their outputs to the requests.
fn through(
    models: &[Arc<Model>],
    requests: &[InferenceRequest],
    load: &LoadOptions,
) -> Result<Vec<InferenceRequest>> {
    let mut known = requests.to_vec();
    for model in models {
        let mut session = Cpu.session(model, &LoadOptions { function: None, ..load.clone() })?;
        let function = model.info().function(None);
        let declares = |name: &str| function.is_some_and(|f| f.inputs.named(name).is_some());
        let probabilities = function.and_then(|f| f.predicted_probabilities.as_ref());
        for request in &mut known {
            let takes = |name: &str| declares(name) || model.has_value_for(name);
            let prediction = session.predict(&taken(request, takes))?;
            for (name, tensor) in prediction.outputs() {
                let of_classes = prediction.classes().filter(|_| Some(name) == probabilities);
                let request_so_far = std::mem::take(request);
                *request = match prediction.keys(name).or(of_classes) {
                    Some(keys) => {
                        request_so_far.dictionary(name, Dictionary::new(keys.clone(), tensor.clone())?)
                    }
                    None => request_so_far.input(name, tensor.clone()),
                };
            }
        }
    }
    Ok(known)
}

/// Selects the inputs of a request that a model takes, by name.
fn taken(request: &InferenceRequest, takes: impl Fn(&str) -> bool) -> InferenceRequest {
    request.inputs().iter().filter(|(name, _)| takes(name)).fold(
        InferenceRequest::new(),
        |r, (name, tensor)| match request
            .keys(name)
            .and_then(|keys| Dictionary::new(keys.clone(), tensor.clone()).ok())
        {
            Some(dictionary) => r.dictionary(name, dictionary),
            None => r.input(name, tensor.clone()),
        },
    )
}

/// The program with names for the constants that ops hold, so that they are weights.
pub(super) fn with_named_constants(program: Checked) -> Result<Checked> {
    let mut named = (*program).clone();
    let count: usize = named.functions.values_mut().map(milwright_optimize::name_constants).sum();
    if count == 0 { Ok(program) } else { Ok(verify(named)?) }
}

/// Converts a program to another opset.
fn for_opset(program: &Checked, opset: Option<Opset>) -> Result<Checked> {
    let Some(opset) = opset else { return Ok(program.clone()) };
    let mut changed = program.clone().into_inner();
    for function in changed.functions.values_mut() {
        function.opset = opset;
        if let Some(&id) = function.walk().iter().find(|&&id| function[id].kind.version(opset).is_none()) {
            let (kind, name) = (function[id].kind.name(), function[id].name());
            let message = format!("{} has no op `{kind}`, which `{name}` is", opset.text_name());
            return Err(Error::new(ErrorKind::Unsupported, message).with_hint("choose a newer --target-os"));
        }
    }
    verify(changed).map_err(|errors| {
        let message = format!("it cannot be a program for {}: {errors}", opset.text_name());
        Error::new(ErrorKind::Unsupported, message).with_hint("choose another --target-os")
    })
}

impl Part {
    /// Whether it is the model's own program and not a part of a pipeline.
    pub fn is_whole(&self) -> bool {
        self.path.is_empty()
    }

    /// What a Core ML file would say of a neural network that became a program.
    pub fn described(&self) -> Option<pb::Model> {
        self.described.clone()
    }

    /// The name of a function of this part in reports.
    pub fn function(&self, name: &str) -> String {
        match (self.name.as_str(), name) {
            ("", name) => name.to_owned(),
            (part, "main") => part.to_owned(),
            (part, name) => format!("{part}: {name}"),
        }
    }

    /// Stores the part's new program in the whole model.
    pub fn put(&self, whole: &mut pb::Model, program: mil_spec::Program, opset: Opset) {
        let mut target = whole;
        let mut version = opset.specification_version();
        if let Some(described) = &self.described {
            version = version.max(described.specification_version);
        }
        for &i in &self.path {
            target.specification_version = target.specification_version.max(version);
            let Some(part) = part_mut(target, i) else { return };
            target = part;
        }
        let doc_string = match &mut target.r#type {
            Some(model::Type::MlProgram(p)) => std::mem::take(&mut p.doc_string),
            _ => String::new(),
        };
        if let Some(described) = &self.described {
            target.clone_from(described);
        }
        target.specification_version = target.specification_version.max(version);
        target.r#type = Some(model::Type::MlProgram(mil_spec::Program { doc_string, ..program }));
    }
}
