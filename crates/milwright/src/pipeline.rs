//! Sessions that are not of one program: chains of models, and models of plain numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use milwright_mil::Tensor;

use crate::classic::Classic;
use crate::{
    Backend, Cancel, Cpu, Dictionary, Error, ErrorKind, InferenceRequest, LoadOptions, Loaded, Model,
    PlanOrigin, PredictOptions, Prediction, Result, Session, State,
};

/// Runs models one after the other. What one gives, those after it may take, by name.
pub(crate) struct PipelineSession {
    model: Arc<Model>,
    stages: Vec<Stage>,
    loaded: Loaded,
}

/// One model of a pipeline.
struct Stage {
    /// The names of what it takes.
    inputs: Vec<String>,
    /// The output that gives each class its probability, in a classifier.
    probabilities: Option<String>,
    session: Box<dyn Session>,
}

/// What the models of a pipeline take and give, by name: with keys, if it is a dictionary.
#[derive(Default)]
struct Known(BTreeMap<String, (Tensor, Option<Tensor>)>);

impl PipelineSession {
    pub fn new(model: Arc<Model>, parts: &[Arc<Model>], options: &LoadOptions) -> Result<PipelineSession> {
        let mut stages = Vec::with_capacity(parts.len());
        let mut loaded = nothing_compiled();
        for part in parts {
            let session = Cpu.load(part, &LoadOptions { function: None, ..options.clone() })?;
            loaded.duration += session.loaded().duration;
            loaded.arena_bytes += session.loaded().arena_bytes;
            loaded.weight_bytes += session.loaded().weight_bytes;
            let declared = part.info().function(None).map_or(&[][..], |f| &f.inputs);
            let mut inputs: Vec<String> = declared.iter().map(|i| i.name.clone()).collect();
            inputs.extend(part.classic().map_or(&[][..], Classic::undeclared_inputs).iter().cloned());
            let probabilities = part.info().function(None).and_then(|f| f.predicted_probabilities.clone());
            stages.push(Stage { inputs, probabilities, session });
        }
        Ok(PipelineSession { model, stages, loaded })
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
            if !info.inputs.iter().any(|i| i.name == *name) {
                let names: Vec<&str> = info.inputs.iter().map(|i| i.name.as_str()).collect();
                return Err(Error::invalid(format!("the model has no input `{name}`"))
                    .with_hint(format!("its inputs are: {}", names.join(", ")))
                    .at(self.model.path()));
            }
            known.add(name, tensor.clone(), request.keys(name).cloned());
        }
        let mut classes = None;
        for Stage { inputs, probabilities, session } in &mut self.stages {
            let options =
                PredictOptions { state: None, deadline: options.deadline, cancel: options.cancel.clone() };
            let prediction = session.predict_with(&known.request(inputs)?, options)?;
            for (name, tensor) in prediction.outputs() {
                let of_classes = prediction.classes().filter(|_| Some(name) == probabilities.as_ref());
                known.add(name, tensor.clone(), prediction.keys(name).or(of_classes).cloned());
            }
            classes = prediction.classes().cloned().or(classes);
        }
        let mut prediction = Prediction::default();
        if let Some(classes) = classes {
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
        State::default()
    }

    fn reset(&mut self) -> Result<()> {
        self.stages.iter_mut().try_for_each(|stage| stage.session.reset())
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}

impl Known {
    fn add(&mut self, name: &str, tensor: Tensor, keys: Option<Tensor>) {
        self.0.insert(name.to_owned(), (tensor, keys));
    }

    /// Those of these names, as the inputs of a model.
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

/// Computes a model of plain numbers.
pub(crate) struct ClassicSession {
    model: Arc<Model>,
    cancel: Cancel,
    loaded: Loaded,
}

impl ClassicSession {
    pub fn new(model: Arc<Model>, options: &LoadOptions) -> ClassicSession {
        ClassicSession { model, cancel: options.cancel.clone(), loaded: nothing_compiled() }
    }
}

impl Session for ClassicSession {
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

fn nothing_compiled() -> Loaded {
    Loaded {
        backend: "cpu",
        plan: PlanOrigin::Compiled,
        plan_path: None,
        duration: Duration::ZERO,
        arena_bytes: 0,
        weight_bytes: 0,
    }
}
