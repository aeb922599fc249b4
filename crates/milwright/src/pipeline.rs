//! Sessions of models without a program of their own: pipelines and classical models.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use milwright_mil::Tensor;

use crate::classic::Classic;
use crate::kinds::part_name;
use milwright_formats::did_you_mean;

use crate::{
    Backend, Cancel, Dictionary, Error, ErrorKind, FeatureInfo, InferenceRequest, LoadOptions, Loaded,
    LoadedModel, Model, PlanOrigin, PredictOptions, Prediction, Result, Session, State,
};

/// A pipeline whose models a backend has loaded.
pub(crate) struct PipelineModel {
    model: Arc<Model>,
    parts: Vec<Arc<dyn LoadedModel>>,
    loaded: Loaded,
}

/// Runs the models of a pipeline in order. Each model takes its inputs by name from the pipeline's inputs and from the
/// outputs of earlier models; of several with the same name, the latest.
struct PipelineSession {
    model: Arc<Model>,
    stages: Vec<Stage>,
    loaded: Loaded,
}

/// One model of a pipeline.
struct Stage {
    /// The name of the model in messages.
    name: String,
    /// The names of its inputs.
    inputs: Vec<String>,
    /// The output with the probability of each class, in a classifier.
    probabilities: Option<String>,
    /// Its states: their names in the pipeline, and their names in the model.
    states: Vec<(String, String)>,
    session: Box<dyn Session>,
}

/// The pipeline's inputs and the outputs so far, by name. Dictionaries have keys.
#[derive(Default)]
struct Known(BTreeMap<String, (Tensor, Option<Tensor>)>);

impl PipelineModel {
    pub fn new(
        backend: &dyn Backend,
        model: Arc<Model>,
        parts: &[Arc<Model>],
        options: &LoadOptions,
    ) -> Result<PipelineModel> {
        let options = LoadOptions { function: None, ..options.clone() };
        let mut loaded = Loaded::of_plan(backend.name(), PlanOrigin::Compiled);
        let load = |(i, part): (usize, &Arc<Model>)| {
            let name = part_name(i, &model.info().pipeline_names);
            let part = backend.load(part, &options).map_err(|e| e.within(&name).at(model.path()))?;
            let its = part.loaded();
            loaded.duration += its.duration;
            loaded.arena_bytes += its.arena_bytes;
            loaded.weight_bytes += its.weight_bytes;
            Ok(part)
        };
        let parts = parts.iter().enumerate().map(load).collect::<Result<_>>()?;
        Ok(PipelineModel { model, parts, loaded })
    }
}

impl LoadedModel for PipelineModel {
    fn session(self: Arc<Self>) -> Result<Box<dyn Session>> {
        let mut stages = Vec::with_capacity(self.parts.len());
        for (i, (loaded, part)) in self.parts.iter().zip(self.model.pipeline()).enumerate() {
            let name = part_name(i, &self.model.info().pipeline_names);
            let session = Arc::clone(loaded).session().map_err(|e| e.within(&name).at(self.model.path()))?;
            let declared = part.info().function(None).map_or(&[][..], |f| &f.inputs);
            let mut inputs: Vec<String> = declared.iter().map(|i| i.name.clone()).collect();
            inputs.extend(part.classic().map_or(&[][..], Classic::undeclared_inputs).iter().cloned());
            let probabilities = part.info().function(None).and_then(|f| f.predicted_probabilities.clone());
            stages.push(Stage { name, inputs, probabilities, states: Vec::new(), session });
        }
        name_states(&mut stages);
        let (model, loaded) = (Arc::clone(&self.model), self.loaded.clone());
        Ok(Box::new(PipelineSession { model, stages, loaded }))
    }

    fn loaded(&self) -> Loaded {
        self.loaded.clone()
    }
}

impl Session for PipelineSession {
    fn predict_with(
        &mut self,
        request: &InferenceRequest,
        options: PredictOptions<'_>,
    ) -> Result<Prediction> {
        let info = self.model.info().function(None);
        let info = info.ok_or_else(|| Error::invalid("the model has no description"))?;
        let mut known = Known::default();
        for (name, tensor) in request.inputs() {
            if info.inputs.named(name).is_none() {
                let names: Vec<&str> = info.inputs.iter().map(|i| i.name.as_str()).collect();
                return Err(Error::invalid(format!("the model has no input `{name}`"))
                    .with_hint(format!(
                        "{}its inputs are: {}",
                        did_you_mean(name, names.iter().copied()),
                        names.join(", ")
                    ))
                    .at(self.model.path()));
            }
            known.add(name, tensor.clone(), request.keys(name).cloned());
        }
        let is_missing = |i: &&FeatureInfo| {
            !i.optional && !known.0.contains_key(&i.name) && !self.model.has_value_for(&i.name)
        };
        if let Some(missing) = info.inputs.iter().find(is_missing) {
            return Err(
                Error::invalid(format!("the input `{}` is missing", missing.name)).at(self.model.path())
            );
        }
        let PredictOptions { mut state, deadline, cancel } = options;
        let mut last_classes = None;
        for Stage { name, inputs, probabilities, states, session } in &mut self.stages {
            // Without a caller's state, each model keeps its own.
            let mut own = state.as_deref().map(|state| part_of(state, states, &**session));
            let options = PredictOptions { state: own.as_mut(), deadline, cancel: cancel.clone() };
            let prediction = session.predict_with(&known.request(inputs)?, options);
            let prediction = prediction.map_err(|e| e.within(name).at(self.model.path()))?;
            if let (Some(state), Some(own)) = (&mut state, &own) {
                for (here, there) in &*states {
                    state.write(here, own.read(there)?)?;
                }
            }
            for (name, tensor) in prediction.outputs() {
                let of_classes = prediction.classes().filter(|_| Some(name) == probabilities.as_ref());
                known.add(name, tensor.clone(), prediction.keys(name).or(of_classes).cloned());
            }
            last_classes = prediction.classes().cloned().or(last_classes);
        }
        let mut prediction = Prediction::default();
        // If several models are classifiers, the classes are those of the output that the pipeline declares.
        let declared = info.predicted_probabilities.as_ref().and_then(|name| known.0.get(name)?.1.clone());
        if let Some(classes) = declared.or(last_classes) {
            prediction = prediction.with_classes(classes);
        }
        let mut outputs = Vec::with_capacity(info.outputs.len());
        for output in &info.outputs {
            let name = &output.name;
            let (tensor, keys) = known.0.remove(name).ok_or_else(|| {
                Error::invalid(format!("no model of the pipeline gives the output `{name}`"))
                    .at(self.model.path())
            })?;
            outputs.push((name.clone(), tensor));
            if let Some(keys) = keys.filter(|_| info.predicted_probabilities.as_ref() != Some(name)) {
                prediction = prediction.with_keys(name, keys);
            }
        }
        Ok(prediction.with_outputs(outputs))
    }

    fn new_state(&self) -> State {
        let mut all = State::default();
        for Stage { states, session, .. } in &self.stages {
            let own = session.new_state();
            for (here, there) in states {
                if let Ok(tensor) = own.read(there) {
                    all.0.set(here, tensor.clone());
                }
            }
        }
        all
    }

    fn reset(&mut self) -> Result<()> {
        self.stages.iter_mut().try_for_each(|stage| stage.session.reset())
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}

/// Names the states of all models: by their own names, prefixed with the model's name if several models have a state
/// of that name.
fn name_states(stages: &mut [Stage]) {
    let names: Vec<Vec<String>> = stages
        .iter()
        .map(|stage| stage.session.new_state().names().into_iter().map(str::to_owned).collect())
        .collect();
    let count = |name: &String| names.iter().flatten().filter(|other| *other == name).count();
    for (stage, own) in stages.iter_mut().zip(&names) {
        let here = |name: &String| match count(name) {
            1 => name.clone(),
            _ => format!("{}: {name}", stage.name),
        };
        stage.states = own.iter().map(|name| (here(name), name.clone())).collect();
    }
}

/// Extracts the states of one model from those of the whole pipeline.
fn part_of(all: &State, states: &[(String, String)], session: &dyn Session) -> State {
    let mut own = session.new_state();
    for (here, there) in states {
        if let Ok(tensor) = all.read(here) {
            own.0.set(there, tensor.clone());
        }
    }
    own
}

impl Known {
    fn add(&mut self, name: &str, tensor: Tensor, keys: Option<Tensor>) {
        self.0.insert(name.to_owned(), (tensor, keys));
    }

    /// Selects the inputs of a model.
    fn request(&self, names: &[String]) -> Result<InferenceRequest> {
        let mut request = InferenceRequest::new();
        for name in names {
            request = match self.0.get(name) {
                None => request,
                Some((tensor, None)) => request.input(name, tensor.clone()),
                Some((values, Some(keys))) => {
                    request.dictionary(name, Dictionary::new(keys.clone(), values.clone())?)
                }
            };
        }
        Ok(request)
    }
}

/// A classical model. There is nothing to compile.
#[derive(Clone)]
pub(crate) struct ClassicModel {
    model: Arc<Model>,
    cancel: Cancel,
    loaded: Loaded,
}

impl ClassicModel {
    pub fn new(backend: &'static str, model: Arc<Model>, options: &LoadOptions) -> ClassicModel {
        let loaded = Loaded::of_plan(backend, PlanOrigin::Compiled);
        ClassicModel { model, cancel: options.cancel.clone(), loaded }
    }
}

impl LoadedModel for ClassicModel {
    fn session(self: Arc<Self>) -> Result<Box<dyn Session>> {
        Ok(Box::new((*self).clone()))
    }

    fn loaded(&self) -> Loaded {
        self.loaded.clone()
    }
}

impl Session for ClassicModel {
    fn predict_with(
        &mut self,
        request: &InferenceRequest,
        options: PredictOptions<'_>,
    ) -> Result<Prediction> {
        let classic: &Classic =
            self.model.classic().ok_or_else(|| Error::invalid("not a model of plain numbers"))?;
        let stop = || {
            options.cancel.check()?;
            self.cancel.check()?;
            match options.deadline {
                Some(deadline) if Instant::now() >= deadline => {
                    let message = "the deadline passed before the model had an answer";
                    Err(Error::new(ErrorKind::DeadlineExceeded, message))
                }
                _ => Ok(()),
            }
        };
        stop()
            .and_then(|()| classic.predict(self.model.info(), request, &stop))
            .map_err(|e| e.at(self.model.path()))
    }

    fn new_state(&self) -> State {
        State::default()
    }

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}
