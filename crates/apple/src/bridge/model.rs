//! Loading and predicting.

use std::path::Path;

use objc2::rc::Retained;
use objc2::runtime::AnyClass;
use objc2::{AnyThread, ClassType, Message, msg_send, sel};
use objc2_core_ml::{
    MLComputeUnits, MLModel, MLModelConfiguration, MLModelDescription, MLOptimizationHints,
    MLReshapeFrequencyHint, MLSpecializationStrategy, MLState,
};
use objc2_foundation::{NSError, NSString};

use super::convert::url;
use super::describe::describe;
use super::edge::{Held, enter, failed, handler, responds, unsupported};
use super::feature::{Batch, Provider, backed, batch, batch_outputs, outputs, provider};
use super::state::State;
use super::{Maybe, availability, some};
use crate::flight::{InFlight, Pass};
use crate::{
    Backings, ComputeUnits, Configuration, Description, Error, Features, Hints, Reshapes, Result,
    Specialization,
};

/// A loaded model.
///
/// It may move between threads, but makes one prediction at a time: while an asynchronous one is in flight, the next
/// fails with [`Busy`](crate::ErrorKind::Busy).
#[derive(Debug)]
pub struct Model {
    model: Held<MLModel>,
    flight: InFlight,
}

impl Model {
    /// Loads a compiled model.
    ///
    /// # Errors
    /// The path is not UTF-8 or leads to no compiled model, or this system cannot run the model or lacks an option.
    pub fn load(path: &Path, configuration: &Configuration) -> Result<Model> {
        availability()?;
        enter(|| {
            let url = url(path)?;
            let configuration = self::configuration(configuration)?;
            let mut error: Maybe<NSError> = None;
            // SAFETY: the selector takes a URL and a configuration; the error is written or left alone.
            let model: Maybe<MLModel> = unsafe {
                msg_send![
                    MLModel::class(),
                    modelWithContentsOfURL: &*url,
                    configuration: &*configuration,
                    error: &mut error,
                ]
            };
            Ok(Model::new(model.ok_or_else(|| failed("load the model", error))?))
        })
    }

    /// Like [`load`](Model::load), with a completion handler. macOS 11.
    pub fn load_async<F>(path: &Path, configuration: &Configuration, done: F)
    where
        F: FnOnce(Result<Model>) + Send + 'static,
    {
        handler(done, |model: &MLModel| Ok(Model::new(model.retain()))).start(|block| {
            availability()?;
            let url = url(path)?;
            let configuration = self::configuration(configuration)?;
            // SAFETY: the selector takes a URL, a configuration and a block of (MLModel *, NSError *), which it copies.
            unsafe {
                MLModel::loadContentsOfURL_configuration_completionHandler(&url, &configuration, block)
            };
            Ok(())
        });
    }

    fn new(model: Retained<MLModel>) -> Model {
        Model { model: Held::new(model), flight: InFlight::default() }
    }

    /// Returns the model's description.
    ///
    /// # Errors
    /// Core ML's answer breaks its protocol.
    pub fn description(&self) -> Result<Description> {
        enter(|| {
            // SAFETY: a getter.
            let description: Maybe<MLModelDescription> = unsafe { msg_send![&*self.model, modelDescription] };
            describe(&*some(description, "description")?)
        })
    }

    /// Whether the system has [`predict_async`](Model::predict_async): macOS 14.
    pub fn has_async(&self) -> bool {
        let has = || Ok(responds(&*self.model, sel!(predictionFromFeatures:options:completionHandler:)));
        enter(has).unwrap_or(false)
    }

    /// Runs the model once.
    ///
    /// # Errors
    /// An input is missing, unknown, or of a wrong kind or shape; a backing does not fit its output; or Core ML fails.
    pub fn predict(&mut self, inputs: &Features, backings: Backings) -> Result<Features> {
        let _pass = self.flight.claim("model")?;
        enter(|| {
            let inputs = provider(inputs)?;
            let backed = backed(backings)?;
            let mut error: Maybe<NSError> = None;
            // SAFETY: the selector takes a feature provider and options; the error is written or left alone.
            let result: Maybe<Provider> = unsafe {
                msg_send![
                    &*self.model,
                    predictionFromFeatures: &*inputs,
                    options: &*backed.options,
                    error: &mut error,
                ]
            };
            outputs(&*result.ok_or_else(|| failed("predict", error))?, &backed)
        })
    }

    /// Like [`predict`](Model::predict), with a completion handler. macOS 14.
    pub fn predict_async<F>(&mut self, inputs: &Features, backings: Backings, done: F)
    where
        F: FnOnce(Result<Features>) + Send + 'static,
    {
        let pass = match self.flight.claim("model") {
            Ok(pass) => pass,
            Err(e) => return refuse(done, e),
        };
        self.predict_async_with(inputs, None, backings, (pass, None), done);
    }

    /// Like [`predict`](Model::predict), and reads and writes states. macOS 15.
    ///
    /// # Errors
    /// Those of `predict`; or the states belong to another model.
    pub fn predict_with_state(
        &mut self,
        inputs: &Features,
        state: &mut State,
        backings: Backings,
    ) -> Result<Features> {
        let _pass = (self.flight.claim("model")?, state.flight.claim("state")?);
        enter(|| {
            let inputs = provider(inputs)?;
            let backed = backed(backings)?;
            let mut error: Maybe<NSError> = None;
            // SAFETY: the selector takes a feature provider, a state and options; the error is written or left alone.
            let result: Maybe<Provider> = unsafe {
                msg_send![
                    &*self.model,
                    predictionFromFeatures: &*inputs,
                    usingState: &*state.state,
                    options: &*backed.options,
                    error: &mut error,
                ]
            };
            outputs(&*result.ok_or_else(|| failed("predict", error))?, &backed)
        })
    }

    /// Like [`predict_with_state`](Model::predict_with_state), with a completion handler. macOS 15.
    pub fn predict_with_state_async<F>(
        &mut self,
        inputs: &Features,
        state: &mut State,
        backings: Backings,
        done: F,
    ) where
        F: FnOnce(Result<Features>) + Send + 'static,
    {
        let claimed =
            self.flight.claim("model").and_then(|model| Ok((model, Some(state.flight.claim("state")?))));
        match claimed {
            Ok(passes) => self.predict_async_with(inputs, Some(&state.state), backings, passes, done),
            Err(e) => refuse(done, e),
        }
    }

    fn predict_async_with<F>(
        &self,
        inputs: &Features,
        state: Option<&MLState>,
        backings: Backings,
        passes: (Pass, Option<Pass>),
        done: F,
    ) where
        F: FnOnce(Result<Features>) + Send + 'static,
    {
        // The model is free again before `done` runs.
        let done = move |result| {
            drop(passes);
            done(result);
        };
        let backed = match enter(|| backed(backings)) {
            Ok(backed) => std::sync::Arc::new(backed),
            Err(e) => return refuse(done, e),
        };
        let written = std::sync::Arc::clone(&backed);
        handler(done, move |result: &Provider| outputs(result, &written)).start(|block| {
            let inputs = provider(inputs)?;
            let options = &*backed.options;
            let method = match state {
                None => sel!(predictionFromFeatures:options:completionHandler:),
                Some(_) => sel!(predictionFromFeatures:usingState:options:completionHandler:),
            };
            if !responds(&*self.model, method) {
                return Err(unsupported("predicting with a completion handler", "macOS 14"));
            }
            // SAFETY: the selectors take a feature provider, perhaps a state, options, and a block of
            // (id<MLFeatureProvider>, NSError *), which they copy.
            unsafe {
                match state {
                    None => {
                        self.model.predictionFromFeatures_options_completionHandler(&inputs, options, block);
                    }
                    Some(state) => self.model.predictionFromFeatures_usingState_options_completionHandler(
                        &inputs, state, options, block,
                    ),
                }
            }
            Ok(())
        });
    }

    /// Runs the model once for each set of inputs, and returns the results in the same order.
    ///
    /// # Errors
    /// Those of [`predict`](Model::predict); one bad set fails the whole batch.
    pub fn predict_batch(&mut self, batch: &[Features]) -> Result<Vec<Features>> {
        let _pass = self.flight.claim("model")?;
        enter(|| {
            let inputs = self::batch(batch)?;
            let backed = backed(Backings::new())?;
            let mut error: Maybe<NSError> = None;
            // SAFETY: the selector takes a batch provider and options; the error is written or left alone.
            let results: Maybe<Batch> = unsafe {
                msg_send![
                    &*self.model,
                    predictionsFromBatch: &*inputs,
                    options: &*backed.options,
                    error: &mut error,
                ]
            };
            let results = results.ok_or_else(|| failed("predict a batch", error))?;
            batch_outputs(&results, batch.len(), &backed)
        })
    }

    /// Creates states, all zero. macOS 15.
    ///
    /// # Errors
    /// The system is older.
    pub fn new_state(&self) -> Result<State> {
        enter(|| {
            if AnyClass::get(c"MLState").is_none() || !responds(&*self.model, sel!(newState)) {
                return Err(unsupported("a state", "macOS 15"));
            }
            // SAFETY: a method without arguments, which returns an object that we own.
            let state: Maybe<MLState> = unsafe { msg_send![&*self.model, newState] };
            Ok(State::new(some(state, "state")?))
        })
    }
}

/// Calls a completion handler with an error. A panic in it does not unwind further, as in all handlers.
fn refuse<T>(done: impl FnOnce(Result<T>), e: Error) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| done(Err(e))));
}

/// Converts a configuration to Core ML's.
pub(super) fn configuration(wanted: &Configuration) -> Result<Retained<MLModelConfiguration>> {
    // SAFETY: a plain initializer.
    let configuration: Maybe<MLModelConfiguration> =
        unsafe { msg_send![MLModelConfiguration::alloc(), init] };
    let configuration = some(configuration, "configuration")?;
    let units = match wanted.compute_units {
        ComputeUnits::CpuOnly => MLComputeUnits::CPUOnly,
        ComputeUnits::CpuAndGpu => MLComputeUnits::CPUAndGPU,
        ComputeUnits::All => MLComputeUnits::All,
        ComputeUnits::CpuAndNeuralEngine => MLComputeUnits::CPUAndNeuralEngine,
    };
    // SAFETY: setters; the second one is of macOS 10.15.
    unsafe {
        configuration.setComputeUnits(units);
        configuration.setAllowLowPrecisionAccumulationOnGPU(wanted.low_precision_accumulation);
    }
    if let Some(name) = &wanted.display_name
        && responds(&*configuration, sel!(setModelDisplayName:))
    {
        // SAFETY: a setter, which this system has.
        unsafe { configuration.setModelDisplayName(Some(&NSString::from_str(name))) };
    }
    if let Some(function) = &wanted.function {
        if !responds(&*configuration, sel!(setFunctionName:)) {
            return Err(unsupported("choosing a function", "macOS 15"));
        }
        // SAFETY: a setter, which this system has.
        unsafe { configuration.setFunctionName(Some(&NSString::from_str(function))) };
    }
    if let Some(hints) = &wanted.hints {
        set_hints(&configuration, hints)?;
    }
    Ok(configuration)
}

fn set_hints(configuration: &MLModelConfiguration, wanted: &Hints) -> Result<()> {
    let class = AnyClass::get(c"MLOptimizationHints");
    let class = class.filter(|_| responds(configuration, sel!(setOptimizationHints:)));
    let class = class.ok_or_else(|| unsupported("optimization hints", "macOS 15"))?;
    // SAFETY: `new` of this class, which this system has.
    let hints: Maybe<MLOptimizationHints> = unsafe { msg_send![class, new] };
    let hints = some(hints, "optimization hints")?;
    // SAFETY: setters.
    unsafe {
        hints.setReshapeFrequency(match wanted.reshapes {
            Reshapes::Frequent => MLReshapeFrequencyHint::Frequent,
            Reshapes::Infrequent => MLReshapeFrequencyHint::Infrequent,
        });
        hints.setSpecializationStrategy(match wanted.specialization {
            Specialization::Default => MLSpecializationStrategy::Default,
            Specialization::FastPrediction => MLSpecializationStrategy::FastPrediction,
        });
        configuration.setOptimizationHints(&hints);
    }
    Ok(())
}
