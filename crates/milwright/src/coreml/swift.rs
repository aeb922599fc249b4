//! Apple's Core ML as a backend, through Swift: what [`CoreMl`](crate::CoreMl) does for tensors, and a deadline or a
//! cancellation stops a prediction.

use std::sync::Arc;
use std::time::Instant;

use milwright_apple::swift::{self, Route};
use milwright_apple::{Configuration, ElementType, Features, Value, wait};
use milwright_mil::Tensor;

use super::compiled::{self, Compiled};
use super::flight::{Flight, Limits};
use super::{error, units, values};
use crate::backend::{Availability, Loaded};
use crate::{
    Backend, Cancel, Error, ErrorKind, FeatureInfo, FeatureType, FunctionInfo, InferenceRequest, LoadOptions,
    Model, PredictOptions, Prediction, Result, Session, State,
};

/// Apple's Core ML through Swift. Models whose inputs and outputs are tensors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swift;

impl Backend for Swift {
    fn name(&self) -> &'static str {
        "swift"
    }

    fn availability(&self) -> Availability {
        match swift::availability() {
            Ok(()) => Availability { available: true, reason: "Core ML through Swift".into() },
            Err(e) => Availability { available: false, reason: e.to_string() },
        }
    }

    fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Box<dyn Session>> {
        Ok(Box::new(SwiftSession::new(Arc::clone(model), options)?))
    }

    fn is_cached(&self, model: &Model, options: &LoadOptions) -> bool {
        compiled::is_cached(model, options)
    }
}

struct SwiftSession {
    model: Arc<Model>,
    function: FunctionInfo,
    loaded: Loaded,
    core_ml: swift::Model,
    /// Of stateful models: kept from one prediction to the next.
    state: Option<swift::State>,
    flight: Flight,
    cancel: Cancel,
    /// What Core ML maps; it goes after the model.
    _compiled: Compiled,
}

impl SwiftSession {
    fn new(model: Arc<Model>, options: &LoadOptions) -> Result<SwiftSession> {
        let start = Instant::now();
        let at = |e| error(e).at(model.path());
        swift::availability().map_err(|e| error(e).with_hint("use the target `cpu` or `auto`"))?;
        // Says which functions there are, better than Core ML does.
        model.function(options.function.as_deref())?;
        let function = model.info().function(options.function.as_deref()).cloned().unwrap_or_default();
        for feature in function.inputs.iter().chain(&function.outputs) {
            element(feature).map_err(|e| e.at(model.path()))?;
        }
        options.cancel.check()?;
        let configuration = Configuration {
            compute_units: units(options.compute_units),
            function: options.function.clone(),
            ..Configuration::default()
        };
        let (mut core_ml, compiled) = Compiled::load(&model, options, |path| {
            options.cancel.check()?;
            wait(None, |done| swift::Model::load_async(path, &configuration, done)).map_err(at)
        })?;
        let state = match function.states.is_empty() {
            true => None,
            false => Some(core_ml.new_state().map_err(at)?),
        };
        let loaded = Loaded {
            backend: "swift",
            plan: compiled.origin(),
            plan_path: Some(compiled.path()),
            duration: start.elapsed(),
            // Core ML does not say.
            arena_bytes: 0,
            weight_bytes: 0,
        };
        Ok(SwiftSession {
            model,
            function,
            loaded,
            core_ml,
            state,
            flight: Flight::default(),
            cancel: options.cancel.clone(),
            _compiled: compiled,
        })
    }

    fn inputs(&self, request: &InferenceRequest) -> Result<Features> {
        let value = |input: &FeatureInfo, tensor: &Tensor| {
            // Core ML's arrays have a dimension at least.
            let tensor = match tensor.shape() {
                [] => &values::reshaped(tensor, 1),
                _ => tensor,
            };
            values::array(element(input)?, tensor).map(Value::Array).ok_or_else(|| {
                Error::invalid(format!("the input `{}` cannot be made of {}", input.name, tensor.dtype()))
            })
        };
        values::inputs(request, &self.function.inputs, |input| (&input.name, input.optional), value)
    }

    fn prediction(&self, mut outputs: Features) -> Result<Prediction> {
        let mut tensors = Vec::with_capacity(outputs.len());
        for feature in &self.function.outputs {
            match outputs.remove(&feature.name) {
                Some(Value::Array(array)) => tensors.push((feature.name.clone(), values::tensor(&array)?)),
                _ => {
                    let message = format!("Core ML gave no tensor for the output `{}`", feature.name);
                    return Err(Error::new(ErrorKind::Runtime, message));
                }
            }
        }
        Ok(Prediction::new(tensors))
    }

    /// One prediction, within limits. Core ML is asked to stop then, and not waited for: until it has come back, the
    /// session refuses more.
    fn run(
        &mut self,
        inputs: &Features,
        state: Option<&mut swift::State>,
        limits: &Limits<'_>,
    ) -> Result<Features> {
        let start = |done| self.core_ml.predict_async(inputs, state, Route::Arrays, done);
        self.flight.wait(limits, start, swift::Running::cancel)
    }

    /// A prediction with tensors of the caller's as states: they are copied in and out.
    fn run_with(&mut self, inputs: &Features, tensors: &mut State, limits: &Limits<'_>) -> Result<Features> {
        let mut state = self.core_ml.new_state().map_err(error)?;
        for feature in &self.function.states {
            let name = &feature.name;
            let array = values::array(element(feature)?, tensors.read(name)?)
                .ok_or_else(|| Error::invalid(format!("the state `{name}` is of another element type")))?;
            state.write(name, &array).map_err(error)?;
        }
        let outputs = self.run(inputs, Some(&mut state), limits)?;
        for feature in &self.function.states {
            let array = state.read(&feature.name).map_err(error)?;
            tensors.write(&feature.name, &values::tensor(&array)?)?;
        }
        Ok(outputs)
    }
}

impl Session for SwiftSession {
    fn predict_with(
        &mut self,
        request: &InferenceRequest,
        options: PredictOptions<'_>,
    ) -> Result<Prediction> {
        let (model, cancel) = (Arc::clone(&self.model), self.cancel.clone());
        let limits = Limits { deadline: options.deadline, cancels: [&cancel, &options.cancel] };
        let predict = || {
            limits.check()?;
            let inputs = self.inputs(request)?;
            let outputs = match options.state {
                Some(state) if self.state.is_some() => self.run_with(&inputs, state, &limits),
                _ => {
                    let mut own = self.state.take();
                    let outputs = self.run(&inputs, own.as_mut(), &limits);
                    self.state = own;
                    outputs
                }
            };
            self.prediction(outputs?)
        };
        predict().map_err(|e: Error| e.at(model.path()))
    }

    fn rest(&mut self) {
        self.flight.rest();
    }

    fn new_state(&self) -> State {
        let mut state = State::default();
        for feature in &self.function.states {
            if let (Ok(element), FeatureType::State { shape, .. }) = (element(feature), &feature.ty) {
                let shape: Vec<usize> = shape.iter().map(|n| *n as usize).collect();
                if let Some(zeros) = values::zeros(element, &shape) {
                    state.0.set(&feature.name, zeros);
                }
            }
        }
        state
    }

    fn reset(&mut self) -> Result<()> {
        if self.state.is_some() {
            self.state = Some(self.core_ml.new_state().map_err(|e| error(e).at(self.model.path()))?);
        }
        Ok(())
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}

/// The element type of a tensor, which is all that goes through Swift.
fn element(feature: &FeatureInfo) -> Result<ElementType> {
    use ElementType::{Float16, Float32, Float64, Int32};
    let dtype = match &feature.ty {
        FeatureType::MultiArray { dtype, .. } | FeatureType::State { dtype, .. } => dtype.parse().ok(),
        _ => None,
    };
    let element = [Float16, Float32, Float64, Int32].into_iter().find(|e| Some(values::dtype(*e)) == dtype);
    element.ok_or_else(|| {
        let message = format!("`{}` is no tensor of a type that Swift passes on", feature.name);
        Error::new(ErrorKind::Unsupported, message).with_hint("use the backend `coreml`")
    })
}
