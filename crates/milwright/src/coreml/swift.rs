//! The backend for Apple's Core ML through its Swift interface. It does for tensors what [`CoreMl`](crate::CoreMl)
//! does, and can stop a prediction at a deadline or cancellation.

use std::path::Path;
use std::sync::Arc;

use milwright_apple::swift::{self, Route};
use milwright_apple::{Array, ElementType, Features, Value, wait};
use milwright_mil::Tensor;

use super::flight::{Flight, Limits};
use super::session::{Bridge, BridgedModel, Declared};
use super::{compiled, configuration, error, values};
use crate::backend::Availability;
use crate::{
    Backend, Error, ErrorKind, FeatureInfo, FeatureType, FunctionInfo, InferenceRequest, LoadOptions,
    LoadedModel, Model, Prediction, Result,
};

/// Apple's Core ML through Swift, for models whose inputs and outputs are tensors.
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

    fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
        swift::availability().map_err(|e| error(e).with_hint("use the target `cpu` or `auto`"))?;
        // This error lists the functions, which Core ML's own error does not.
        model.function(options.function.as_deref())?;
        let function = model.info().function(options.function.as_deref());
        for feature in function.iter().flat_map(|f| f.inputs.iter().chain(&f.outputs)) {
            element(feature).map_err(|e| e.at(model.path()))?;
        }
        Ok(Arc::new(BridgedModel::<SwiftModel>::new(model, options)?))
    }

    fn is_cached(&self, model: &Model, options: &LoadOptions) -> bool {
        compiled::is_cached(model, options)
    }
}

/// A model that Core ML has loaded, through Swift.
struct SwiftModel {
    function: FunctionInfo,
    core_ml: swift::Model,
    flight: Flight,
}

impl Bridge for SwiftModel {
    const NAME: &'static str = "swift";

    type States = swift::State;

    fn load(model: &Arc<Model>, options: &LoadOptions, path: &Path) -> Result<SwiftModel> {
        let function = model.info().function(options.function.as_deref()).cloned().unwrap_or_default();
        let configuration = configuration(options);
        let core_ml =
            wait(None, |done| swift::Model::load_async(path, &configuration, done)).map_err(error)?;
        Ok(SwiftModel { function, core_ml, flight: Flight::default() })
    }

    fn inputs(&self, request: &InferenceRequest) -> Result<Features> {
        let value = |input: &FeatureInfo, tensor: &Tensor| {
            // Core ML's arrays have at least one dimension.
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

    /// At a deadline or cancellation, asks Core ML to stop.
    fn run(
        &mut self,
        inputs: &Features,
        states: Option<&mut swift::State>,
        limits: &Limits<'_>,
    ) -> Result<Features> {
        let start = |done| self.core_ml.predict_async(inputs, states, Route::Arrays, done);
        self.flight.wait(limits, start, swift::Running::cancel)
    }

    fn rest(&mut self) {
        self.flight.rest();
    }

    fn declared(&self) -> Vec<Declared> {
        let declared = |feature: &FeatureInfo| match &feature.ty {
            FeatureType::State { shape, .. } => Some(Declared {
                name: feature.name.clone(),
                element: element(feature).ok(),
                shape: shape.iter().map(|n| *n as usize).collect(),
            }),
            _ => None,
        };
        self.function.states.iter().filter_map(declared).collect()
    }

    fn new_states(&mut self) -> Result<swift::State> {
        self.core_ml.new_state().map_err(error)
    }

    fn read(states: &mut swift::State, name: &str) -> Result<Array> {
        states.read(name).map_err(error)
    }

    fn write(states: &mut swift::State, name: &str, array: &Array) -> Result<()> {
        states.write(name, array).map_err(error)
    }
}

/// The element type of a tensor feature. The Swift bridge supports no other features.
fn element(feature: &FeatureInfo) -> Result<ElementType> {
    use ElementType::{Float16, Float32, Float64, Int32};
    let dtype = match &feature.ty {
        FeatureType::MultiArray { dtype, .. } | FeatureType::State { dtype, .. } => dtype.dtype(),
        _ => None,
    };
    let element = [Float16, Float32, Float64, Int32].into_iter().find(|e| Some(values::dtype(*e)) == dtype);
    element.ok_or_else(|| {
        let message = format!("`{}` is no tensor of a type that Swift passes on", feature.name);
        Error::new(ErrorKind::Unsupported, message).with_hint("use the backend `coreml`")
    })
}
