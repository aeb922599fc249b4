//! Apple's Core ML as a backend, through Swift: what [`CoreMl`](crate::CoreMl) does for tensors, and a deadline or a
//! cancellation stops a prediction.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use milwright_apple::swift::{self, Route};
use milwright_apple::{Array, Configuration, ElementType, Features, Value, wait};
use milwright_mil::{DType, Tensor};

use crate::backend::{Availability, Loaded};
use crate::{
    Backend, Cancel, CompileOptions, CompiledModel, CompiledModels, ComputeUnits, Error, ErrorKind,
    FeatureInfo, FeatureType, FunctionInfo, InferenceRequest, LoadOptions, Model, PlanOrigin, PredictOptions,
    Prediction, Result, Session, State,
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
        is_compiled(model)
            || CompiledModels::new(options.cache.clone()).is_cached(model, &compile_options(model, options))
    }
}

struct SwiftSession {
    model: Arc<Model>,
    function: FunctionInfo,
    loaded: Loaded,
    core_ml: swift::Model,
    /// Of stateful models: kept from one prediction to the next.
    state: Option<swift::State>,
    cancel: Cancel,
    /// What Core ML maps; it goes after the model.
    _compiled: Option<CompiledModel>,
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
            tensor_type(feature).map_err(|e| e.at(model.path()))?;
        }
        options.cancel.check()?;
        let configuration = Configuration {
            compute_units: units(options.compute_units),
            function: options.function.clone(),
            ..Configuration::default()
        };
        let load = |path: &Path| {
            options.cancel.check()?;
            wait(None, |done| swift::Model::load_async(path, &configuration, done)).map_err(at)
        };
        let (mut core_ml, compiled) = if is_compiled(&model) {
            (load(model.path())?, None)
        } else {
            let models = CompiledModels::new(options.cache.clone());
            let compile = |to: &Path| compile(&model, to);
            let (loaded, compiled) = models.load(&model, &compile_options(&model, options), compile, load)?;
            (loaded, Some(compiled))
        };
        let state = match function.states.is_empty() {
            true => None,
            false => Some(core_ml.new_state().map_err(at)?),
        };
        let loaded = Loaded {
            backend: "swift",
            plan: compiled.as_ref().map_or(PlanOrigin::Compiled, |compiled| compiled.origin().clone()),
            plan_path: Some(compiled.as_ref().map_or_else(|| model.path().to_owned(), CompiledModel::path)),
            duration: start.elapsed(),
            // Core ML does not say.
            arena_bytes: 0,
            weight_bytes: 0,
        };
        let cancel = options.cancel.clone();
        Ok(SwiftSession { model, function, loaded, core_ml, state, cancel, _compiled: compiled })
    }

    /// The inputs as Core ML takes them. Names are checked here: it ignores those that it does not know.
    fn inputs(&self, request: &InferenceRequest) -> Result<Features> {
        let inputs = &self.function.inputs;
        let mut features = Features::new();
        for (name, tensor) in request.inputs() {
            let Some(feature) = inputs.iter().find(|input| input.name == *name) else {
                let names: Vec<&str> = inputs.iter().map(|input| &*input.name).collect();
                return Err(Error::invalid(format!("the model has no input `{name}`"))
                    .with_hint(format!("its inputs are: {}", names.join(", "))));
            };
            // Core ML's arrays have a dimension at least.
            let one = tensor.shape().is_empty().then(|| tensor.reshaped(&[1]).ok()).flatten();
            let array = array(one.as_ref().unwrap_or(tensor), tensor_type(feature)?).ok_or_else(|| {
                let dtype = tensor.dtype();
                Error::invalid(format!("the input `{name}` cannot be made of {dtype}"))
            })?;
            features.insert(name.clone(), Value::Array(array));
        }
        match inputs.iter().find(|input| !input.optional && !features.contains_key(&input.name)) {
            Some(input) => Err(Error::invalid(format!("the input `{}` is missing", input.name))),
            None => Ok(features),
        }
    }

    fn prediction(&self, mut outputs: Features) -> Result<Prediction> {
        let mut tensors = Vec::with_capacity(outputs.len());
        for feature in &self.function.outputs {
            match outputs.remove(&feature.name) {
                Some(Value::Array(array)) => tensors.push((feature.name.clone(), tensor(&array)?)),
                _ => {
                    let message = format!("Core ML gave no tensor for the output `{}`", feature.name);
                    return Err(Error::new(ErrorKind::Runtime, message));
                }
            }
        }
        Ok(Prediction::new(tensors))
    }

    /// A prediction with tensors of the caller's as states: they are copied in and out.
    fn run_with(&mut self, inputs: &Features, tensors: &mut State, limits: &Limits<'_>) -> Result<Features> {
        let mut state = self.core_ml.new_state().map_err(error)?;
        for feature in &self.function.states {
            let name = &feature.name;
            let array = array(tensors.read(name)?, tensor_type(feature)?)
                .ok_or_else(|| Error::invalid(format!("the state `{name}` is of another element type")))?;
            state.write(name, &array).map_err(error)?;
        }
        let outputs = run(&mut self.core_ml, inputs, Some(&mut state), limits)?;
        for feature in &self.function.states {
            let array = state.read(&feature.name).map_err(error)?;
            tensors.write(&feature.name, &tensor(&array)?)?;
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
        let cancels = [self.cancel.clone(), options.cancel];
        let limits = Limits { deadline: options.deadline, cancels: &cancels };
        limits.check()?;
        let model = Arc::clone(&self.model);
        let predict = || {
            let inputs = self.inputs(request)?;
            let outputs = match options.state {
                Some(state) if self.state.is_some() => self.run_with(&inputs, state, &limits)?,
                _ => run(&mut self.core_ml, &inputs, self.state.as_mut(), &limits)?,
            };
            self.prediction(outputs)
        };
        predict().map_err(|e: Error| e.at(model.path()))
    }

    fn new_state(&self) -> State {
        let mut state = State::default();
        for feature in &self.function.states {
            if let (Ok(dtype), FeatureType::State { shape, .. }) = (tensor_type(feature), &feature.ty) {
                let shape: Vec<usize> = shape.iter().map(|n| *n as usize).collect();
                let size = shape.iter().try_fold(dtype.bits() / 8, |n, d| n.checked_mul(*d));
                let zero = size.and_then(|size| Tensor::from_bytes(dtype, &shape, vec![0; size].into()).ok());
                if let Some(zero) = zero {
                    state.0.set(&feature.name, zero);
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

/// What ends a prediction early.
struct Limits<'a> {
    deadline: Option<Instant>,
    cancels: &'a [Cancel],
}

impl Limits<'_> {
    fn check(&self) -> Result<()> {
        self.cancels.iter().try_for_each(Cancel::check)?;
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => {
                Err(Error::new(ErrorKind::DeadlineExceeded, "the deadline passed"))
            }
            _ => Ok(()),
        }
    }
}

/// How often a running prediction looks whether it is cancelled. The result itself is not waited for any longer.
const TICK: Duration = Duration::from_millis(10);

/// One prediction. At a limit Core ML is asked to stop, and not waited for: until it has come back, the session refuses
/// more.
fn run(
    model: &mut swift::Model,
    inputs: &Features,
    state: Option<&mut swift::State>,
    limits: &Limits<'_>,
) -> Result<Features> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let running = model.predict_async(inputs, state, Route::Arrays, move |result| {
        // Nobody may be waiting any more.
        let _ = sender.send(result);
    });
    loop {
        let left = limits.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match receiver.recv_timeout(left.unwrap_or(TICK).min(TICK)) {
            Ok(result) => return result.map_err(error),
            Err(RecvTimeoutError::Timeout) => limits.check().inspect_err(|_| running.cancel())?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(ErrorKind::Runtime, "Core ML did not answer"));
            }
        }
    }
}

fn is_compiled(model: &Model) -> bool {
    model.path().extension().is_some_and(|extension| extension == "mlmodelc")
}

/// Core ML compiles what is a file. What came from memory we write ourselves, as its compiler would.
fn compile(model: &Model, to: &Path) -> Result<()> {
    if !core_ml_compiles(model) {
        return model.compile_to(to);
    }
    let temporary = milwright_apple::compile(model.path()).map_err(|e| error(e).at(model.path()))?;
    let moved = fs::rename(&temporary, to).map_err(|e| Error::io("write", to, e));
    // If it has been moved there is nothing left to remove.
    let _ = fs::remove_dir_all(&temporary);
    moved
}

fn core_ml_compiles(model: &Model) -> bool {
    model.path().exists() && milwright_apple::availability().is_ok()
}

fn compile_options(model: &Model, options: &LoadOptions) -> CompileOptions {
    let ours = concat!("milwright ", env!("CARGO_PKG_VERSION"));
    CompileOptions {
        compute_units: options.compute_units,
        system: milwright_apple::system().unwrap_or_default(),
        device: std::env::consts::ARCH.to_owned(),
        compiler: if core_ml_compiles(model) { "coreml" } else { ours }.to_owned(),
        cancel: options.cancel.clone(),
        ..CompileOptions::default()
    }
}

/// The element type of a tensor, which is all that goes through Swift.
fn tensor_type(feature: &FeatureInfo) -> Result<DType> {
    let dtype = match &feature.ty {
        FeatureType::MultiArray { dtype, .. } | FeatureType::State { dtype, .. } => dtype.parse().ok(),
        _ => None,
    };
    dtype.filter(|dtype| element(*dtype).is_some()).ok_or_else(|| {
        let message = format!("`{}` is no tensor of a type that Swift passes on", feature.name);
        Error::new(ErrorKind::Unsupported, message).with_hint("use the backend `coreml`")
    })
}

/// The bytes of a tensor of the right element type are shared, not copied.
fn array(tensor: &Tensor, dtype: DType) -> Option<Array> {
    let converted = (tensor.dtype() != dtype).then(|| milwright_cpu::convert_input(tensor, dtype));
    let tensor = match &converted {
        Some(converted) => converted.as_ref()?,
        None => tensor,
    };
    Array::new(element(dtype)?, tensor.shape(), tensor.shared_bytes()).ok()
}

fn tensor(array: &Array) -> Result<Tensor> {
    let dtype = DTYPES.iter().find(|(_, element)| *element == array.element()).map(|(dtype, _)| *dtype);
    let dtype =
        dtype.ok_or_else(|| Error::new(ErrorKind::Runtime, "Core ML gave elements of an unknown type"))?;
    Tensor::from_bytes(dtype, array.shape(), array.packed())
        .map_err(|e| Error::new(ErrorKind::Runtime, e.to_string()))
}

const DTYPES: [(DType, ElementType); 4] = [
    (DType::Fp16, ElementType::Float16),
    (DType::Fp32, ElementType::Float32),
    (DType::Fp64, ElementType::Float64),
    (DType::Int32, ElementType::Int32),
];

fn element(dtype: DType) -> Option<ElementType> {
    DTYPES.iter().find(|(d, _)| *d == dtype).map(|(_, element)| *element)
}

fn units(units: ComputeUnits) -> milwright_apple::ComputeUnits {
    match units {
        ComputeUnits::All => milwright_apple::ComputeUnits::All,
        ComputeUnits::CpuOnly => milwright_apple::ComputeUnits::CpuOnly,
        ComputeUnits::CpuAndGpu => milwright_apple::ComputeUnits::CpuAndGpu,
        ComputeUnits::CpuAndNeuralEngine => milwright_apple::ComputeUnits::CpuAndNeuralEngine,
    }
}

fn error(e: milwright_apple::Error) -> Error {
    use milwright_apple::ErrorKind as Apple;
    let kind = match e.kind() {
        Apple::Unavailable => ErrorKind::Unavailable,
        Apple::Unsupported => ErrorKind::Unsupported,
        Apple::Invalid => ErrorKind::InvalidInput,
        Apple::Busy => ErrorKind::Overloaded,
        Apple::Timeout => ErrorKind::DeadlineExceeded,
        Apple::Cancelled => ErrorKind::Cancelled,
        _ => ErrorKind::Runtime,
    };
    let mut error = Error::new(kind, e.to_string());
    if let Some(recovery) = e.recovery() {
        error = error.with_hint(recovery);
    }
    error.with_source(e)
}
