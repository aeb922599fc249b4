//! The backend for Apple's Core ML.
//!
//! Tensors are passed to Core ML without copying, and Core ML writes outputs of a known shape into our memory. The
//! bindings are in `milwright_apple`.

mod compiled;
mod flight;
mod session;
#[cfg(feature = "swift")]
mod swift;
mod values;

use std::path::Path;
use std::sync::Arc;

use milwright_apple::{
    Array, Backings, ComputePlan, Configuration, Description, Device, FeatureKind, Features,
};

use crate::backend::Availability;
use crate::{
    Backend, ComputeUnits, Error, ErrorKind, FunctionInfo, InferenceRequest, LoadOptions, LoadedModel, Model,
    Prediction, Result,
};
use compiled::Compiled;
use flight::{Flight, Limits};
use session::{Bridge, BridgedModel, Declared};

#[cfg(feature = "swift")]
pub use swift::Swift;

/// Apple's Core ML.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoreMl;

impl Backend for CoreMl {
    fn name(&self) -> &'static str {
        "coreml"
    }

    fn availability(&self) -> Availability {
        match milwright_apple::system() {
            Ok(system) => Availability { available: true, reason: format!("Core ML of {system}") },
            Err(e) => Availability { available: false, reason: e.to_string() },
        }
    }

    fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
        check(model, options)?;
        Ok(Arc::new(BridgedModel::<CoreMlModel>::new(model, options)?))
    }

    fn is_cached(&self, model: &Model, options: &LoadOptions) -> bool {
        compiled::is_cached(model, options)
    }
}

impl CoreMl {
    /// Returns the devices that Core ML can use here. Needs macOS 14.
    ///
    /// # Errors
    /// Core ML is not available, or too old to list its devices.
    pub fn devices(&self) -> Result<Vec<Device>> {
        milwright_apple::devices().map_err(error)
    }

    /// Returns where Core ML intends to run each op of a model, and the share of the total cost that it estimates for
    /// the op. The model is compiled first, unless the cache has it. Needs macOS 14.4. Only ML programs have costs.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// use milwright::{ComputeUnits, CoreMl, LoadOptions, Model};
    ///
    /// let model = Arc::new(Model::open("model.mlpackage")?);
    /// let units = ComputeUnits::CpuAndNeuralEngine;
    /// let plan = CoreMl.compute_plan(&model, &LoadOptions { compute_units: units, ..LoadOptions::default() })?;
    /// for op in plan.ops {
    ///     println!("{} runs on {:?}, for {:?} of the whole", op.operator, op.preferred, op.cost);
    /// }
    /// # Ok::<(), milwright::Error>(())
    /// ```
    ///
    /// # Errors
    /// Core ML is not available, is too old, or does not load the model; or the call was cancelled.
    pub fn compute_plan(&self, model: &Model, options: &LoadOptions) -> Result<ComputePlan> {
        let elsewhere = |e| error(e).with_hint("ask on the machine that the model is for");
        milwright_apple::availability().map_err(elsewhere)?;
        check(model, options)?;
        let configuration = configuration(options);
        let limits = Limits { deadline: None, cancels: [&options.cancel; 2] };
        let (plan, _compiled) = Compiled::load(model, options, |path| {
            let start = |done| milwright_apple::compute_plan(path, &configuration, done);
            Flight::default().wait(&limits, start, |()| {}).map_err(|e| e.at(model.path()))
        })?;
        Ok(plan)
    }
}

/// Checks that Core ML is available and that the model has the requested function.
fn check(model: &Model, options: &LoadOptions) -> Result<()> {
    let unavailable = |e| error(e).with_hint("use the target `cpu` or `auto`");
    milwright_apple::availability().map_err(unavailable)?;
    // This error lists the functions, which Core ML's own error does not.
    model.function(options.function.as_deref())?;
    options.cancel.check()
}

fn configuration(options: &LoadOptions) -> Configuration {
    Configuration {
        compute_units: units(options.compute_units),
        function: options.function.clone(),
        ..Configuration::default()
    }
}

/// A model that Core ML has loaded.
struct CoreMlModel {
    model: Arc<Model>,
    function: FunctionInfo,
    core_ml: milwright_apple::Model,
    description: Description,
    flight: Flight,
}

impl CoreMlModel {
    /// Allocates memory for every output whose shape is known.
    fn backings(&self) -> Backings {
        let backing = |output: &milwright_apple::Feature| match &output.kind {
            FeatureKind::Array { element: Some(element), shape, shapes: milwright_apple::Shapes::Fixed }
                if !shape.is_empty() =>
            {
                let backing = milwright_apple::Backing::new(*element, shape).ok()?;
                Some((output.name.clone(), backing))
            }
            _ => None,
        };
        self.description.outputs.iter().filter_map(backing).collect()
    }
}

impl Bridge for CoreMlModel {
    const NAME: &'static str = "coreml";

    type States = milwright_apple::State;

    fn load(model: &Arc<Model>, options: &LoadOptions, path: &Path) -> Result<CoreMlModel> {
        let core_ml = milwright_apple::Model::load(path, &configuration(options)).map_err(error)?;
        let description = core_ml.description().map_err(error)?;
        let function = model.info().function(options.function.as_deref()).cloned().unwrap_or_default();
        let (model, flight) = (Arc::clone(model), Flight::default());
        Ok(CoreMlModel { model, function, core_ml, description, flight })
    }

    fn inputs(&self, request: &InferenceRequest) -> Result<Features> {
        let value = |input: &_, tensor: &_| values::input(&self.model, input, tensor);
        values::inputs(request, &self.description.inputs, |input| (&input.name, input.optional), value)
    }

    /// Core ML has no way to cancel this prediction.
    fn run(
        &mut self,
        inputs: &Features,
        states: Option<&mut milwright_apple::State>,
        limits: &Limits<'_>,
    ) -> Result<Features> {
        let backings = self.backings();
        // Without a deadline, or without the asynchronous interface, the synchronous call is cheaper.
        let at_once = limits.deadline.is_none() || !self.core_ml.has_async();
        let core_ml = &mut self.core_ml;
        match states {
            None if at_once => core_ml.predict(inputs, backings).map_err(error),
            Some(states) if at_once => core_ml.predict_with_state(inputs, states, backings).map_err(error),
            None => self.flight.wait(limits, |done| core_ml.predict_async(inputs, backings, done), |()| {}),
            Some(states) => {
                let start = |done| core_ml.predict_with_state_async(inputs, states, backings, done);
                self.flight.wait(limits, start, |()| {})
            }
        }
    }

    /// Core ML has no asynchronous interface for batches.
    fn run_batch(&mut self, batch: &[Features]) -> Option<Result<Vec<Features>>> {
        Some(self.core_ml.predict_batch(batch).map_err(error))
    }

    fn prediction(&self, mut outputs: Features) -> Result<Prediction> {
        let classes = values::classes(&self.description.class_labels);
        let order = |name: &str| self.function.outputs.position(name).unwrap_or(usize::MAX);
        let mut names: Vec<String> = outputs.keys().cloned().collect();
        names.sort_by_key(|name| order(name));
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let Some(value) = outputs.remove(&name) else { continue };
            let tensor = values::output(&self.model, &name, value, &self.description.class_labels);
            tensors.push((name, tensor?));
        }
        let prediction = Prediction::new(tensors);
        Ok(match classes {
            Some(classes) => prediction.with_classes(classes),
            None => prediction,
        })
    }

    fn rest(&mut self) {
        self.flight.rest();
    }

    fn declared(&self) -> Vec<Declared> {
        let declared = |feature: &milwright_apple::Feature| match &feature.kind {
            FeatureKind::State { element, shape } => {
                Some(Declared { name: feature.name.clone(), element: *element, shape: shape.clone() })
            }
            _ => None,
        };
        self.description.states.iter().filter_map(declared).collect()
    }

    fn new_states(&mut self) -> Result<milwright_apple::State> {
        self.core_ml.new_state().map_err(error)
    }

    fn read(states: &mut milwright_apple::State, name: &str) -> Result<Array> {
        states.read(name).map_err(error)
    }

    fn write(states: &mut milwright_apple::State, name: &str, array: &Array) -> Result<()> {
        states.write(name, array).map_err(error)
    }
}

fn units(units: ComputeUnits) -> milwright_apple::ComputeUnits {
    match units {
        ComputeUnits::All => milwright_apple::ComputeUnits::All,
        ComputeUnits::CpuOnly => milwright_apple::ComputeUnits::CpuOnly,
        ComputeUnits::CpuAndGpu => milwright_apple::ComputeUnits::CpuAndGpu,
        ComputeUnits::CpuAndNeuralEngine => milwright_apple::ComputeUnits::CpuAndNeuralEngine,
    }
}

/// Codes of the domain `com.apple.CoreML`.
mod codes {
    pub const FEATURE_TYPE: i64 = 1;
    pub const PREDICTION_CANCELLED: i64 = 11;
}

fn error(e: milwright_apple::Error) -> Error {
    use milwright_apple::ErrorKind as Apple;
    let core_ml = e.code().filter(|_| e.domain() == Some("com.apple.CoreML"));
    let kind = match (e.kind(), core_ml) {
        (Apple::Unavailable, _) => ErrorKind::Unavailable,
        (Apple::Unsupported, _) => ErrorKind::Unsupported,
        (Apple::Invalid, _) | (_, Some(codes::FEATURE_TYPE)) => ErrorKind::InvalidInput,
        (Apple::Busy, _) => ErrorKind::Overloaded,
        (Apple::Timeout, _) => ErrorKind::DeadlineExceeded,
        (Apple::Cancelled, _) | (_, Some(codes::PREDICTION_CANCELLED)) => ErrorKind::Cancelled,
        _ => ErrorKind::Runtime,
    };
    let mut error = Error::new(kind, e.to_string());
    if let Some(recovery) = e.recovery() {
        error = error.with_hint(recovery);
    }
    error.with_source(e)
}
