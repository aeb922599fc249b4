//! The code that both bridges to Core ML share.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use milwright_apple::{Array, ElementType, Features};

use super::compiled::Compiled;
use super::flight::Limits;
use super::values;
use crate::{
    Cancel, Error, InferenceRequest, LoadOptions, Loaded, LoadedModel, Model, PredictOptions, Prediction,
    Result, Session, State,
};

/// A model that was loaded through one of the bridges to Core ML.
pub(super) trait Bridge: Send + Sized {
    /// The name of the backend.
    const NAME: &'static str;

    /// The model's states in Core ML's own form.
    type States: Send;

    fn load(model: &Arc<Model>, options: &LoadOptions, path: &Path) -> Result<Self>;

    /// Converts the inputs to Core ML's values.
    fn inputs(&self, request: &InferenceRequest) -> Result<Features>;

    /// Runs one prediction within limits. After a limit Core ML may keep computing, and until it has finished, it
    /// refuses new predictions.
    fn run(
        &mut self,
        inputs: &Features,
        states: Option<&mut Self::States>,
        limits: &Limits<'_>,
    ) -> Result<Features>;

    /// Runs several predictions in one call, if that is faster than one after the other. It cannot be cancelled.
    fn run_batch(&mut self, _batch: &[Features]) -> Option<Result<Vec<Features>>> {
        None
    }

    fn prediction(&self, outputs: Features) -> Result<Prediction>;

    /// Blocks until the abandoned prediction has finished.
    fn rest(&mut self);

    /// The states that the model declares.
    fn declared(&self) -> Vec<Declared>;

    /// Creates states that are all zero.
    fn new_states(&mut self) -> Result<Self::States>;

    fn read(states: &mut Self::States, name: &str) -> Result<Array>;

    fn write(states: &mut Self::States, name: &str, array: &Array) -> Result<()>;
}

/// A state as the model declares it.
pub(super) struct Declared {
    pub name: String,
    /// `None` if the element type is unknown.
    pub element: Option<ElementType>,
    pub shape: Vec<usize>,
}

/// A model that was compiled for Core ML. Each session has a model of Core ML's own, because one of those runs one
/// prediction at a time; they share the compiled folder.
pub(super) struct BridgedModel<B: Bridge> {
    model: Arc<Model>,
    options: LoadOptions,
    loaded: Loaded,
    /// The bridge of the first session: Core ML had to load the model to show that it can.
    first: Mutex<Option<B>>,
    /// The compiled folder that Core ML maps.
    compiled: Compiled,
}

/// A session over a bridge.
struct Bridged<B: Bridge> {
    bridge: B,
    declared: Vec<Declared>,
    /// The states of a stateful model, kept between predictions.
    states: Option<B::States>,
    cancel: Cancel,
    /// Dropped after the bridge: it holds the compiled folder.
    model: Arc<BridgedModel<B>>,
}

impl<B: Bridge> BridgedModel<B> {
    pub fn new(model: &Arc<Model>, options: &LoadOptions) -> Result<BridgedModel<B>> {
        let start = Instant::now();
        let (bridge, compiled) = Compiled::load(model, options, |path| {
            options.cancel.check()?;
            B::load(model, options, path).map_err(|e| e.at(model.path()))
        })?;
        // Core ML does not report its memory.
        let loaded = Loaded {
            plan_path: Some(compiled.path()),
            duration: start.elapsed(),
            ..Loaded::of_plan(B::NAME, compiled.origin())
        };
        let (model, options) = (Arc::clone(model), options.clone());
        Ok(BridgedModel { model, options, loaded, first: Mutex::new(Some(bridge)), compiled })
    }
}

impl<B: Bridge + 'static> LoadedModel for BridgedModel<B> {
    fn session(self: Arc<Self>) -> Result<Box<dyn Session>> {
        let at = |e: Error| e.at(self.model.path());
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut bridge = match first {
            Some(bridge) => bridge,
            None => B::load(&self.model, &self.options, &self.compiled.path()).map_err(at)?,
        };
        let declared = bridge.declared();
        let states = if declared.is_empty() { None } else { Some(bridge.new_states().map_err(at)?) };
        let cancel = self.options.cancel.clone();
        Ok(Box::new(Bridged { bridge, declared, states, cancel, model: self }))
    }

    fn loaded(&self) -> Loaded {
        self.loaded.clone()
    }
}

impl<B: Bridge> Bridged<B> {
    fn predict_within(
        &mut self,
        request: &InferenceRequest,
        tensors: Option<&mut State>,
        limits: &Limits<'_>,
    ) -> Result<Prediction> {
        limits.check()?;
        let inputs = self.bridge.inputs(request)?;
        let outputs = match tensors {
            Some(tensors) if self.states.is_some() => self.run_with(&inputs, tensors, limits)?,
            _ => self.bridge.run(&inputs, self.states.as_mut(), limits)?,
        };
        self.bridge.prediction(outputs)
    }

    /// Runs a prediction with the caller's state, which is copied in and out.
    fn run_with(&mut self, inputs: &Features, tensors: &mut State, limits: &Limits<'_>) -> Result<Features> {
        let mut states = self.bridge.new_states()?;
        for Declared { name, element, shape } in &self.declared {
            let tensor = tensors.read(name)?;
            let array = element.filter(|_| tensor.shape() == shape).and_then(|e| values::array(e, tensor));
            let array = array.ok_or_else(|| {
                let (dtype, shape) = (tensor.dtype(), tensor.shape());
                Error::invalid(format!("the state `{name}` is no {dtype} of the shape {shape:?}"))
            })?;
            B::write(&mut states, name, &array)?;
        }
        let outputs = self.bridge.run(inputs, Some(&mut states), limits)?;
        for Declared { name, .. } in &self.declared {
            tensors.write(name, &values::tensor(&B::read(&mut states, name)?)?)?;
        }
        Ok(outputs)
    }
}

impl<B: Bridge + 'static> Session for Bridged<B> {
    fn predict_with(
        &mut self,
        request: &InferenceRequest,
        options: PredictOptions<'_>,
    ) -> Result<Prediction> {
        let cancel = self.cancel.clone();
        let limits = Limits { deadline: options.deadline, cancels: [&cancel, &options.cancel] };
        let prediction = self.predict_within(request, options.state, &limits);
        prediction.map_err(|e| e.at(self.model.model.path()))
    }

    fn predict_batch(
        &mut self,
        requests: &[InferenceRequest],
        mut options: PredictOptions<'_>,
    ) -> Result<Vec<Prediction>> {
        let cancel = self.cancel.clone();
        let limits = Limits { deadline: options.deadline, cancels: [&cancel, &options.cancel] };
        let mut all = || -> Result<Vec<Prediction>> {
            limits.check()?;
            if requests.len() > 1 && self.declared.is_empty() {
                let inputs = requests.iter().map(|request| self.bridge.inputs(request));
                if let Some(outputs) = self.bridge.run_batch(&inputs.collect::<Result<Vec<_>>>()?) {
                    return outputs?.into_iter().map(|outputs| self.bridge.prediction(outputs)).collect();
                }
            }
            let one = |request| self.predict_within(request, options.state.as_deref_mut(), &limits);
            requests.iter().map(one).collect()
        };
        let predictions = all();
        predictions.map_err(|e| e.at(self.model.model.path()))
    }

    fn rest(&mut self) {
        self.bridge.rest();
    }

    fn new_state(&self) -> State {
        let mut state = State::default();
        for Declared { name, element, shape } in &self.declared {
            if let Some(zeros) = element.and_then(|element| values::zeros(element, shape)) {
                state.0.set(name, zeros);
            }
        }
        state
    }

    fn reset(&mut self) -> Result<()> {
        if self.states.is_some() {
            self.states = Some(self.bridge.new_states().map_err(|e| e.at(self.model.model.path()))?);
        }
        Ok(())
    }

    fn loaded(&self) -> &Loaded {
        &self.model.loaded
    }
}
