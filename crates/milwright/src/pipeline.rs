//! Sessions that are not of one program: chains of models, and models of plain numbers.

use std::sync::Arc;
use std::time::Duration;

use milwright_mil::Tensor;

use crate::classic::Classic;
use crate::{
    Backend, Cpu, Error, InferenceRequest, LoadOptions, Loaded, Model, PlanOrigin, PredictOptions,
    Prediction, Result, Session, State,
};

/// Runs models one after the other. What one gives, those after it may take, by name.
pub(crate) struct PipelineSession {
    model: Arc<Model>,
    /// Each with the names of its inputs.
    stages: Vec<(Vec<String>, Box<dyn Session>)>,
    loaded: Loaded,
}

impl PipelineSession {
    pub fn new(model: Arc<Model>, parts: &[Arc<Model>], options: &LoadOptions) -> Result<PipelineSession> {
        let mut stages = Vec::with_capacity(parts.len());
        let mut loaded = nothing_compiled();
        for part in parts {
            let session = Cpu.load(part, &LoadOptions { function: None, ..options.clone() })?;
            loaded.duration += session.loaded().duration;
            loaded.arena_bytes += session.loaded().arena_bytes;
            loaded.weight_bytes += session.loaded().weight_bytes;
            let info = part.info().function(None);
            let inputs = info.map(|f| f.inputs.iter().map(|i| i.name.clone()).collect());
            stages.push((inputs.unwrap_or_default(), session));
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
        let mut known: Vec<(String, Tensor)> = Vec::new();
        for (name, tensor) in request.inputs() {
            if !info.inputs.iter().any(|i| i.name == *name) {
                let names: Vec<&str> = info.inputs.iter().map(|i| i.name.as_str()).collect();
                return Err(Error::invalid(format!("the model has no input `{name}`"))
                    .with_hint(format!("its inputs are: {}", names.join(", ")))
                    .at(self.model.path()));
            }
            known.push((name.clone(), tensor.clone()));
        }
        let mut classes = None;
        for (inputs, session) in &mut self.stages {
            let taken = known.iter().filter(|(name, _)| inputs.contains(name));
            let request = taken.fold(InferenceRequest::new(), |r, (n, t)| r.input(n, t.clone()));
            let options =
                PredictOptions { state: None, deadline: options.deadline, cancel: options.cancel.clone() };
            let prediction = session.predict_with(&request, options)?;
            classes = prediction.classes().cloned().or(classes);
            for (name, tensor) in prediction.into_outputs() {
                known.retain(|(n, _)| *n != name);
                known.push((name, tensor));
            }
        }
        let output = |name: &String| {
            let found = known.iter().find(|(n, _)| n == name).cloned();
            found.ok_or_else(|| Error::invalid(format!("no model of the pipeline gives the output `{name}`")))
        };
        let outputs = info.outputs.iter().map(|o| output(&o.name)).collect::<Result<_>>()?;
        let prediction = Prediction::new(outputs);
        Ok(match classes {
            Some(classes) => prediction.with_classes(classes),
            None => prediction,
        })
    }

    fn new_state(&self) -> State {
        State::default()
    }

    fn reset(&mut self) -> Result<()> {
        self.stages.iter_mut().try_for_each(|(_, session)| session.reset())
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}

/// Computes a model of plain numbers.
pub(crate) struct ClassicSession {
    model: Arc<Model>,
    loaded: Loaded,
}

impl ClassicSession {
    pub fn new(model: Arc<Model>) -> ClassicSession {
        ClassicSession { model, loaded: nothing_compiled() }
    }
}

impl Session for ClassicSession {
    fn predict_with(&mut self, request: &InferenceRequest, _: PredictOptions<'_>) -> Result<Prediction> {
        let classic: &Classic =
            self.model.classic().ok_or_else(|| Error::invalid("not a model of plain numbers"))?;
        classic.predict(self.model.info(), request.inputs()).map_err(|e| e.at(self.model.path()))
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
