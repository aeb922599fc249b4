//! Apple's Core ML as a backend.
//!
//! Tensors go to Core ML without being copied, and outputs of a known shape are written into memory of ours. The rest is
//! `milwright_apple`'s.

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
    Backend, ComputeUnits, Error, ErrorKind, FunctionInfo, InferenceRequest, LoadOptions, Model, Prediction,
    Result, Session,
};
use compiled::Compiled;
use flight::{Flight, Limits};
use session::{Bridge, Bridged, Declared};

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

    fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Box<dyn Session>> {
        check(model, options)?;
        Ok(Box::new(Bridged::<CoreMlModel>::new(model, options)?))
    }

    fn is_cached(&self, model: &Model, options: &LoadOptions) -> bool {
        compiled::is_cached(model, options)
    }
}

impl CoreMl {
    /// The devices that Core ML can use here. macOS 14.
    ///
    /// # Errors
    /// There is no Core ML, or it is too old to say.
    pub fn devices(&self) -> Result<Vec<Device>> {
        milwright_apple::devices().map_err(error)
    }

    /// Where Core ML means to run each op of a model, and the part of the cost that it expects there. The model is
    /// compiled for it, unless the cache has it. macOS 14.4; costs are for ML programs.
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
    /// There is no Core ML, it is too old to say, or it does not load the model; or it was cancelled.
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

/// Whether Core ML can be asked for this function of a model at all.
fn check(model: &Model, options: &LoadOptions) -> Result<()> {
    let unavailable = |e| error(e).with_hint("use the target `cpu` or `auto`");
    milwright_apple::availability().map_err(unavailable)?;
    // Says which functions there are, better than Core ML does.
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
    /// Memory for every output whose shape is known.
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

    /// Core ML cannot be stopped.
    fn run(
        &mut self,
        inputs: &Features,
        states: Option<&mut milwright_apple::State>,
        limits: &Limits<'_>,
    ) -> Result<Features> {
        let backings = self.backings();
        // Without a deadline, or with nobody to call back before it, the shorter way.
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

    /// Core ML has no batches with a completion handler.
    fn run_batch(&mut self, batch: &[Features]) -> Option<Result<Vec<Features>>> {
        Some(self.core_ml.predict_batch(batch).map_err(error))
    }

    fn prediction(&self, mut outputs: Features) -> Result<Prediction> {
        let classes = values::classes(&self.description.class_labels);
        let order =
            |name: &str| self.function.outputs.iter().position(|f| f.name == name).unwrap_or(usize::MAX);
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
