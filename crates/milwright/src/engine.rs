//! Runs models on an engine, whichever it is. An engine computes with plain tensors of known shapes; a model has features.
//! What is between the two is here: defaults, flexible shapes, classes, states, limits, and the cache of plans.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use milwright_cache::{Key, KeyBuilder, Meta, Origin, Wait};
use milwright_mil::engine::{
    CompileFault, CompileOptions, Engine, Executable, ExecuteOptions, KernelError, Plan, RunError, RunOptions,
};
use milwright_mil::{DType, Dim, Function, Tensor, TensorType, Type, widen};

use crate::classifier::Classifier;
use crate::feature::default_shape;
use crate::legacy::{self, declared_axis};
use crate::model::Content;
use crate::pipeline::{ClassicModel, PipelineModel};
use milwright_formats::did_you_mean;

use crate::{
    Availability, Backend, Error, ErrorKind, FeatureInfo, FeatureType, Flexibility, InferenceRequest,
    LoadOptions, Loaded, LoadedModel, Model, NamedList, PlanOrigin, Precision, PredictOptions, Prediction,
    Profile, Result, Session, State,
};

/// The backend of an engine.
#[derive(Clone, Copy)]
pub(crate) struct OnEngine(pub &'static dyn Engine);

impl Backend for OnEngine {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn availability(&self) -> Availability {
        match self.0.hardware() {
            Ok(reason) => Availability { available: true, reason },
            Err(reason) => Availability { available: false, reason },
        }
    }

    fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
        let (name, main) = (options.function.as_deref(), &model.info().default_function);
        if !matches!(model.content(), Content::Program(_)) && name.is_some_and(|name| name != main) {
            return Err(Error::invalid(format!("there is no function `{}`", name.unwrap_or_default()))
                .with_hint(format!("the functions are: {main}"))
                .at(model.path()));
        }
        let shared = Arc::clone(model);
        Ok(match model.content() {
            Content::Program(_) => Arc::new(EngineModel::new(self.0, shared, options)?),
            Content::Classic(_) => Arc::new(ClassicModel::new(self.name(), shared, options)),
            Content::Pipeline(parts) => Arc::new(PipelineModel::new(self, shared, parts, options)?),
        })
    }

    fn engine(&self) -> Option<&'static dyn Engine> {
        Some(self.0)
    }

    fn is_cached(&self, model: &Model, options: &LoadOptions) -> bool {
        let (Some(store), Ok(program)) = (&options.cache, model.function(options.function.as_deref())) else {
            return false;
        };
        let function = options.function.as_ref().unwrap_or(&model.info().default_function);
        store.contains(&key(self.0, model, function, &default_shapes(model, function, program), options))
    }
}

/// The shapes of a function's inputs, in declared order.
type Shapes = Vec<(String, Vec<usize>)>;

/// A program that was loaded on an engine.
struct EngineModel {
    engine: &'static dyn Engine,
    model: Arc<Model>,
    function: String,
    options: LoadOptions,
    classifier: Option<Classifier>,
    /// How the plan for the default shapes was made.
    loaded: Loaded,
    /// The executables, most recently used first. A flexible model has one for each set of input shapes seen so far,
    /// perhaps none at first.
    ready: Mutex<Vec<Ready>>,
}

/// A function that is ready to run with these input shapes.
#[derive(Clone)]
struct Ready {
    shapes: Shapes,
    executable: Arc<dyn Executable>,
    loaded: Loaded,
}

/// The number of sets of input shapes for which a loaded model keeps an executable.
const MAX_READY: usize = 8;

impl EngineModel {
    /// Compiles the plan for the model's default shapes, or loads it from the cache.
    ///
    /// A flexible model may not run with its default shapes, because converters use the lower end of a range as the
    /// default. Then the first prediction compiles the plan. A model with states must run with its default shapes.
    fn new(engine: &'static dyn Engine, model: Arc<Model>, options: &LoadOptions) -> Result<EngineModel> {
        let program = model.function(options.function.as_deref())?;
        let function = options.function.clone().unwrap_or_else(|| model.info().default_function.clone());
        let shapes = default_shapes(&model, &function, program);
        let ready = match prepare(engine, &model, &function, shapes, options) {
            Ok(ready) => Ok(ready),
            Err(e) if e.kind() == ErrorKind::InvalidInput && !is_stateful(program) => {
                Err(Loaded::of_plan(engine.name(), PlanOrigin::Deferred(e.to_string())))
            }
            Err(e) => return Err(e),
        };
        let (loaded, ready) = match ready {
            Ok(ready) => (ready.loaded.clone(), vec![ready]),
            Err(deferred) => (deferred, Vec::new()),
        };
        let classifier = Classifier::detach(model.program()?, &function)?.map(|(_, c)| c);
        let (options, ready) = (options.clone(), Mutex::new(ready));
        Ok(EngineModel { engine, model, function, options, classifier, loaded, ready })
    }

    /// The executable for these shapes. It is compiled if no session needed it before.
    fn ready(&self, shapes: Shapes) -> Result<Ready> {
        if let Some(found) = self.most_recent(&shapes) {
            return Ok(found);
        }
        // Without the lock: sessions whose executables are ready do not wait for the compiler.
        let made = prepare(self.engine, &self.model, &self.function, shapes, &self.options)?;
        if let Some(found) = self.most_recent(&made.shapes) {
            return Ok(found);
        }
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.truncate(MAX_READY - 1);
        ready.insert(0, made.clone());
        Ok(made)
    }

    /// Looks an executable up, and makes it the most recently used one.
    fn most_recent(&self, shapes: &Shapes) -> Option<Ready> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let i = ready.iter().position(|r| r.shapes == *shapes)?;
        ready[..=i].rotate_right(1);
        ready.first().cloned()
    }
    /// Completes a request: adds the defaults of optional inputs, and reshapes inputs to the form that the program
    /// expects.
    fn complete(&self, request: &InferenceRequest) -> InferenceRequest {
        let mut complete = request.clone();
        let (Ok(program), Some(info)) =
            (self.model.function(Some(&self.function)), self.model.info().function(Some(&self.function)))
        else {
            return complete;
        };
        for &input in &program.inputs {
            let value = &program[input];
            let Some(ty) = value.ty.as_tensor() else { continue };
            let Some((_, given)) = request.inputs().named(&value.name) else {
                let feature = info.inputs.named(&value.name);
                let Some((feature, default)) = feature.and_then(|f| Some((f, f.default?))) else { continue };
                let shape = default_shape(ty, Some(&feature.ty));
                let elements = vec![default as f32; shape.iter().product()];
                if let Ok(tensor) = Tensor::from_vec(&shape, elements) {
                    complete = complete.input(&value.name, tensor);
                }
                continue;
            };
            // Core ML's arrays have at least one dimension, so a single number may come as an array of length 1.
            if given.elements() == 1
                && ty.elements() == Some(1)
                && let Ok(one) = given.reshaped(&vec![1; ty.rank()])
                && (ty.rank() == 0 || given.shape().is_empty())
            {
                complete = complete.input(&value.name, one);
            }
            if self.model.has_five_dimensions()
                && let Some(FeatureType::MultiArray { shape, .. }) = feature_of(&info.inputs, &value.name)
                && let Some(whole) = legacy::five_dimensions(given, shape.len())
            {
                complete = complete.input(&value.name, whole);
            }
        }
        complete
    }

    /// Removes dimensions that an old network does not declare from its outputs.
    fn declared_form(&self, outputs: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
        let info = self.model.info().function(Some(&self.function));
        let Some(info) = info.filter(|_| self.model.has_five_dimensions()) else { return outputs };
        let form = |(name, tensor): (String, Tensor)| {
            let tensor = match feature_of(&info.outputs, &name) {
                Some(FeatureType::MultiArray { shape, .. }) => legacy::declared_form(tensor, shape.len()),
                _ => tensor,
            };
            (name, tensor)
        };
        outputs.into_iter().map(form).collect()
    }

    fn input_type(&self, name: &str) -> Option<&TensorType> {
        let program = self.model.function(Some(&self.function)).ok()?;
        program.inputs.iter().map(|&v| &program[v]).find(|v| v.name == name)?.ty.as_tensor()
    }

    /// Checks the names and shapes of the inputs against the model's declaration, and returns the shapes.
    fn shapes(&self, request: &InferenceRequest) -> Result<Shapes> {
        let program = self.model.function(Some(&self.function))?;
        let info = self.model.info().function(Some(&self.function));
        let inputs: Vec<_> = program.inputs.iter().map(|&v| &program[v]).collect();
        let inputs: Vec<_> =
            inputs.iter().filter_map(|v| v.ty.as_tensor().map(|t| (v.name.as_str(), t))).collect();
        let known: HashSet<&str> = inputs.iter().map(|(name, _)| *name).collect();
        for (name, tensor) in request.inputs() {
            if !known.contains(name.as_str()) {
                let names: Vec<&str> = inputs.iter().map(|(n, _)| *n).collect();
                return Err(Error::invalid(format!("the model has no input `{name}`"))
                    .with_hint(format!(
                        "{}its inputs are: {}",
                        did_you_mean(name, names.iter().copied()),
                        names.join(", ")
                    ))
                    .at(self.model.path()));
            }
            let kind = match request.keys(name) {
                Some(_) => "a dictionary",
                None if tensor.dtype() == DType::String => "text",
                None => continue,
            };
            let message = format!("the input `{name}` is not an array of numbers, but {kind}");
            return Err(Error::invalid(message).at(self.model.path()));
        }
        let mut shapes = Shapes::new();
        for (name, ty) in inputs {
            let Some((_, tensor)) = request.inputs().named(name) else {
                return Err(Error::invalid(format!("the input `{name}` is missing"))
                    .with_hint(format!("give it as a {ty}"))
                    .at(self.model.path()));
            };
            let fits = tensor.shape().len() == ty.rank()
                && tensor.shape().iter().zip(&ty.shape).all(|(n, d)| d.agrees(Dim::Fixed(*n)));
            let feature = info.and_then(|f| f.inputs.named(name)).map(|f| &f.ty);
            let fault = feature.and_then(|f| forbids(f, tensor.shape()));
            if !fits || fault.is_some() {
                let fault = fault.map_or_else(|| format!(", the model takes {ty}"), |f| format!(": {f}"));
                let message = format!("the input `{name}` has the shape {:?}{fault}", tensor.shape());
                let error = Error::invalid(message).at(self.model.path());
                return Err(error.with_hint(
                    feature.and_then(flexible_hint).unwrap_or_else(|| shape_hint(tensor.shape(), ty)),
                ));
            }
            shapes.push((name.to_owned(), tensor.shape().to_vec()));
        }
        Ok(shapes)
    }
}

impl LoadedModel for EngineModel {
    fn session(self: Arc<Self>) -> Result<Box<dyn Session>> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).first().cloned();
        let loaded = self.loaded.clone();
        let mut session = EngineSession { model: self, ready, state: State::default(), loaded };
        session.state = session.new_state();
        Ok(Box::new(session))
    }

    fn loaded(&self) -> Loaded {
        self.loaded.clone()
    }
}

/// A session of a program.
struct EngineSession {
    model: Arc<EngineModel>,
    /// The executable of the last prediction, or for the default shapes.
    ready: Option<Ready>,
    /// The states of a stateful model, kept between predictions.
    state: State,
    loaded: Loaded,
}

impl EngineSession {
    /// Runs the model once, and measures its steps if there is a place for their times.
    fn run(
        &mut self,
        request: &InferenceRequest,
        options: PredictOptions<'_>,
        times: Option<&mut Vec<Duration>>,
    ) -> Result<Prediction> {
        let shared = &*self.model;
        let path = shared.model.path();
        let request = &shared.complete(request);
        let shapes = shared.shapes(request)?;
        let executable = match &self.ready {
            Some(ready) if ready.shapes == shapes => &ready.executable,
            _ => {
                let ready = shared.ready(shapes)?;
                self.loaded = ready.loaded.clone();
                &self.ready.insert(ready).executable
            }
        };
        let inputs: Vec<(&str, Tensor)> =
            request.inputs().iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        let state = options.state.unwrap_or(&mut self.state);
        let limits = shared.options.limits;
        let (cancels, deadline) = ([&shared.options.cancel, &options.cancel], options.deadline);
        let own = limits.prediction.and_then(|limit| Instant::now().checked_add(limit));
        let until = [deadline, own].into_iter().flatten().min();
        let is_over = |until: Option<Instant>| until.is_some_and(|until| Instant::now() >= until);
        let stop = || cancels.iter().any(|c| c.is_cancelled()) || is_over(until);
        let options = RunOptions { state: Some(&mut state.0), cancel: Some(&stop), times };
        let outputs = executable.run(&inputs, options).map_err(|e| {
            let (kind, message) = match &e {
                RunError::Input { name, .. } => {
                    let error = Error::invalid(e.to_string()).at(path);
                    return match shared.input_type(name) {
                        Some(ty) => error.with_hint(format!("the model takes {ty}: convert it")),
                        None => error,
                    };
                }
                RunError::Op { error: KernelError::Memory(_), .. } | RunError::Memory { .. } => {
                    return out_of_memory(e.to_string()).at(path);
                }
                RunError::Op { .. } => {
                    return Error::new(ErrorKind::Runtime, e.to_string())
                        .with_hint("the inputs may hold values that the model is not made for")
                        .at(path);
                }
                RunError::State { .. } => (ErrorKind::InvalidInput, e.to_string()),
                RunError::Cancelled { before } => match cancels.iter().find_map(|c| c.check().err()) {
                    Some(e) if e.kind() == ErrorKind::Cancelled => (e.kind(), e.message().to_owned()),
                    Some(e) => (e.kind(), format!("{}; it was before the op `{before}`", e.message())),
                    None if is_over(deadline) => {
                        (ErrorKind::DeadlineExceeded, format!("the deadline passed before the op `{before}`"))
                    }
                    None => {
                        let limit = limits.prediction.unwrap_or_default().as_secs_f64();
                        let message = format!(
                            "one prediction took longer than {limit} seconds; it was before the op `{before}`"
                        );
                        let error = Error::new(ErrorKind::DeadlineExceeded, message).at(path);
                        return error.with_hint("a loop may never end; if it does, allow more time");
                    }
                },
                _ => (ErrorKind::Runtime, e.to_string()),
            };
            Error::new(kind, message).at(path)
        })?;
        let outputs = shared.declared_form(outputs);
        Ok(match &shared.classifier {
            Some(classifier) => classifier.finish(outputs),
            None => Prediction::new(outputs),
        })
    }
}

impl Session for EngineSession {
    fn predict_with(
        &mut self,
        request: &InferenceRequest,
        options: PredictOptions<'_>,
    ) -> Result<Prediction> {
        self.run(request, options, None)
    }

    fn profile(&mut self, request: &InferenceRequest, runs: usize) -> Result<Profile> {
        let mut all = Vec::with_capacity(runs);
        for _ in 0..runs {
            let mut times = Vec::new();
            let start = Instant::now();
            self.run(request, PredictOptions::default(), Some(&mut times))?;
            all.push((start.elapsed(), times));
        }
        let executable = self.ready.as_ref().map(|ready| &ready.executable);
        let (steps, costs) = executable.map_or_else(Default::default, |e| (e.steps(), e.costs()));
        Ok(Profile::new(steps, costs, &all))
    }

    fn new_state(&self) -> State {
        State(self.ready.as_ref().map(|r| r.executable.new_state()).unwrap_or_default())
    }

    fn reset(&mut self) -> Result<()> {
        self.state = self.new_state();
        Ok(())
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}

fn default_shapes(model: &Model, function: &str, program: &Function) -> Shapes {
    let info = model.info().function(Some(function));
    let mut shapes = Shapes::new();
    for &input in &program.inputs {
        let value = &program[input];
        if let Type::Tensor(ty) = &value.ty {
            let feature = info.and_then(|f| f.inputs.named(&value.name));
            shapes.push((value.name.clone(), default_shape(ty, feature.map(|f| &f.ty))));
        }
    }
    shapes
}

/// The cache key of a plan: everything that the plan depends on.
fn key(engine: &dyn Engine, model: &Model, function: &str, shapes: &Shapes, options: &LoadOptions) -> Key {
    let mut key = KeyBuilder::new("plan")
        .field("model", model.digest())
        .field("function", function)
        .field("precision", format!("{:?}", options.precision))
        .field("engine", engine.fingerprint());
    for (name, shape) in shapes {
        key = key.field(name, format!("{shape:?}"));
    }
    key.finish()
}

/// Compiles a plan, or loads it from the cache.
fn prepare(
    engine: &dyn Engine,
    model: &Model,
    function: &str,
    shapes: Shapes,
    options: &LoadOptions,
) -> Result<Ready> {
    options.cancel.check()?;
    let start = Instant::now();
    let unusable = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Runtime, e.to_string()).at(model.path());
    let build = || -> Result<Box<dyn Plan>> {
        let program = model.program()?;
        let detached = Classifier::detach(program, function)?;
        let program = detached.as_ref().map_or(program, |(p, _)| p);
        let wide = match options.precision {
            Precision::Declared => None,
            Precision::Wide => widen(program.clone())
                .inspect_err(|errors| tracing::warn!(%errors, "computing as declared: it cannot be widened"))
                .ok(),
        };
        let program = wide.as_ref().unwrap_or(program);
        let named: Vec<(&str, &[usize])> = shapes.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        let cancel = || options.cancel.is_cancelled();
        let limits = CompileOptions { memory: options.limits.memory, cancel: Some(&cancel) };
        engine.compile(program, function, &named, limits).map_err(|e| {
            if let (CompileFault::Cancelled, Err(e)) = (e.cause, options.cancel.check()) {
                return e;
            }
            if e.cause == CompileFault::Memory {
                return out_of_memory(e.to_string()).at(model.path());
            }
            let fault =
                e.cause == CompileFault::Shapes && model.function(Some(function)).is_ok_and(is_flexible);
            let kind = if fault { ErrorKind::InvalidInput } else { ErrorKind::Unsupported };
            let error = Error::new(kind, e.to_string()).at(model.path());
            match e.hint {
                Some(hint) => error.with_hint(hint),
                None if fault => error.with_hint(format!(
                    "the shapes of the inputs must fit the model and each other; they are: {}",
                    list(&shapes)
                )),
                None => error,
            }
        })
    };
    let (plan, origin, path) = match &options.cache {
        None => (build()?, PlanOrigin::Compiled, None),
        Some(store) => {
            let key = key(engine, model, function, &shapes, options);
            let meta = Meta::new("plan", &name(model));
            let bytes = || -> Result<Vec<u8>> {
                options.cancel.check()?;
                let mut bytes = Vec::new();
                build()?.write(&mut bytes).map_err(|e| unusable(&e))?;
                Ok(bytes)
            };
            let stop = || options.cancel.is_cancelled();
            let wait = Wait { timeout: store.options().wait, stop: Some(&stop) };
            let fetched = store.get_or_create_within(&key, &meta, wait, bytes)?;
            if let Some(e) = &fetched.unstored {
                tracing::warn!("the compiled plan could not be kept: {e}");
            }
            let path = fetched.unstored.is_none().then(|| store.entry_path(&key));
            if let Origin::Rebuilt(fault) = &fetched.origin {
                tracing::warn!(
                    "a cached plan of {} was unusable ({fault}): it was compiled again",
                    name(model)
                );
            }
            match (engine.read_plan(fetched.payload), fetched.origin) {
                (Ok(plan), Origin::Hit) => (plan, PlanOrigin::Cached, path),
                (Ok(plan), Origin::Built) => (plan, PlanOrigin::Compiled, path),
                (Ok(plan), Origin::Rebuilt(fault)) => (plan, PlanOrigin::Rebuilt(fault.to_string()), path),
                // The cache entry is undamaged, but not a plan: another program wrote it. Replace it.
                (Err(e), _) => {
                    let bytes: Bytes = bytes()?.into();
                    if let Err(e) = store.put(&key, &meta, &bytes) {
                        tracing::warn!("the compiled plan could not be kept: {e}");
                    }
                    let plan = engine.read_plan(bytes).map_err(|e| unusable(&e))?;
                    (plan, PlanOrigin::Rebuilt(e.to_string()), path)
                }
            }
        }
    };
    let (arena_bytes, weight_bytes) = (plan.arena_bytes(), plan.weight_bytes());
    let memory = options.limits.memory;
    if arena_bytes > memory {
        let message = format!("its intermediate results take {arena_bytes} bytes; the limit is {memory}");
        return Err(out_of_memory(message).at(model.path()));
    }
    let execute = ExecuteOptions { threads: options.threads, memory };
    let executable = plan.load(execute).map_err(|e| unusable(&e))?;
    let duration = start.elapsed();
    tracing::debug!(
        "{}: plan of {function} for {shapes:?} {origin} in {duration:?}: {arena_bytes} bytes of intermediate results, \
         {weight_bytes} of weights",
        model.path().display(),
    );
    let plan_path = path;
    let loaded =
        Loaded { plan_path, duration, arena_bytes, weight_bytes, ..Loaded::of_plan(engine.name(), origin) };
    Ok(Ready { shapes, executable, loaded })
}

pub(crate) fn out_of_memory(message: String) -> Error {
    Error::new(ErrorKind::OutOfMemory, message)
        .with_hint("smaller inputs take less; allow more memory only for a model that you trust")
}

fn is_flexible(function: &Function) -> bool {
    let flexible = |ty: &Type| ty.as_tensor().is_some_and(|t| t.shape.iter().any(|d| d.fixed().is_none()));
    function.inputs.iter().any(|&v| flexible(&function[v].ty))
}

fn is_stateful(function: &Function) -> bool {
    function.inputs.iter().any(|&v| matches!(function[v].ty, Type::State(_)))
}

fn list(shapes: &Shapes) -> String {
    let shapes: Vec<String> = shapes.iter().map(|(n, s)| format!("{n} {s:?}")).collect();
    shapes.join(", ")
}

fn name(model: &Model) -> String {
    model.path().file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn feature_of<'a>(features: &'a NamedList<FeatureInfo>, name: &str) -> Option<&'a FeatureType> {
    features.named(name).map(|f| &f.ty)
}

/// Returns Core ML's own error text if a flexible feature does not allow a shape, so that users can search for it.
/// Shapes that the program itself fixes are checked elsewhere.
fn forbids(feature: &FeatureType, shape: &[usize]) -> Option<String> {
    let (flexibility, first) = match feature {
        FeatureType::MultiArray { flexibility, .. } => (flexibility, 0),
        // 1 × channels × height × width
        FeatureType::Image { flexibility, .. } => (flexibility, 2),
        _ => return None,
    };
    let shape = shape.get(first..).unwrap_or(&[]);
    // The sizes that the model declares, if it declares this many.
    let declared = |declared: usize| -> Vec<usize> {
        let is_declared = |d: usize| declared_axis(shape.len(), declared, d).is_some();
        shape.iter().enumerate().filter(|(d, _)| is_declared(*d)).map(|(_, &n)| n).collect()
    };
    match flexibility {
        Flexibility::Fixed => None,
        Flexibility::Enumerated { shapes } => {
            let found = shapes.iter().any(|s| s.iter().map(|&n| n as usize).eq(declared(s.len())));
            let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
            (!found).then(|| {
                format!(
                    "MultiArray Shape ({}) was not in enumerated set of allowed shapes",
                    sizes.join(" x ")
                )
            })
        }
        Flexibility::Range { dimensions } if dimensions.len() != declared(dimensions.len()).len() => {
            Some(format!("the model takes {} dimensions", first + dimensions.len()))
        }
        Flexibility::Range { dimensions } => {
            let sizes = declared(dimensions.len());
            let mut pairs = dimensions.iter().zip(&sizes).enumerate();
            let (i, (range, n)) = pairs.find(|(_, (range, n))| !range.contains(**n as u64))?;
            let (low, high) = (range.least, range.most.map_or(String::new(), |most| most.to_string()));
            Some(format!("Size ({n}) of dimension ({}) is not in allowed range ({low}..{high})", first + i))
        }
    }
}

fn shape_hint(found: &[usize], wanted: &TensorType) -> String {
    let dims: Vec<String> = wanted.shape.iter().map(ToString::to_string).collect();
    let shape = format!("[{}]", dims.join(", "));
    let is_stack = |s: &[usize]| {
        s.len() == dims.len() && s.iter().zip(&wanted.shape).all(|(n, d)| d.agrees(Dim::Fixed(*n)))
    };
    let tail = |s: &[usize]| {
        s.len() == dims.len() && is_stack(&[&[wanted.shape[0].fixed().unwrap_or(1)], &s[1..]].concat())
    };
    if found.len() > 1 && !dims.is_empty() && (is_stack(&found[1..]) || tail(found)) {
        return format!("it looks like a stack of inputs: give one, of the shape {shape}");
    }
    format!("reshape, crop or pad it to {shape}")
}

fn flexible_hint(feature: &FeatureType) -> Option<String> {
    let (FeatureType::MultiArray { flexibility, .. } | FeatureType::Image { flexibility, .. }) = feature
    else {
        return None;
    };
    match flexibility {
        Flexibility::Fixed => None,
        Flexibility::Enumerated { shapes } => Some(format!("it may have one of the shapes {shapes:?}")),
        Flexibility::Range { dimensions } => {
            let ranges: Vec<String> = dimensions.iter().map(ToString::to_string).collect();
            Some(format!("its dimensions may be: {}", ranges.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::text;

    use super::*;
    use crate::{Backend, Cpu};

    fn model(source: &str) -> Arc<Model> {
        Arc::new(Model::from_program(text::parse(source).unwrap()).unwrap())
    }

    /// The default shape is [1, 1] because nothing else is declared, and the matrix product does not accept it.
    #[test]
    fn default_shapes_need_not_work() {
        let model = model(
            "program(1.3) {
    func main<ios15>(tensor<fp32, [?, ?]> x) {
        tensor<fp32, [2, 1]> w = const()[name = string(\"w\"), val = tensor<fp32, [2, 1]>([[3], [4]])];
        tensor<fp32, [?, 1]> y = matmul(x = x, y = w)[name = string(\"y\")];
    } -> (y);
}",
        );
        let mut session = Cpu.session(&model, &LoadOptions::default()).unwrap();
        assert!(matches!(session.loaded().plan, PlanOrigin::Deferred(_)), "{:?}", session.loaded());
        assert!(session.new_state().names().is_empty());

        let x = |shape: &[usize], values: &[f32]| {
            InferenceRequest::new().input("x", Tensor::from_vec(shape, values.to_vec()).unwrap())
        };
        let error = session.predict(&x(&[1, 1], &[1.0])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.hint().unwrap().contains("x [1, 1]"), "{error:?}");

        let prediction = session.predict(&x(&[2, 2], &[1.0, 2.0, 3.0, 5.0])).unwrap();
        let (_, y) = prediction.outputs().iter().next().unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [11.0, 29.0]);
        assert_eq!(session.loaded().plan, PlanOrigin::Compiled);
    }

    /// Sessions of one loaded model share what is compiled, and have states of their own.
    #[test]
    fn sessions_share_plans_and_not_states() {
        let model = model(
            "program(1.3) {
    func main<ios18>(state<tensor<fp16, [2]>> sum, tensor<fp16, [2]> x) {
        tensor<fp16, [2]> before = read_state(input = sum)[name = string(\"before\")];
        tensor<fp16, [2]> y = add(x = before, y = x)[name = string(\"y\")];
        write_state(input = sum, data = y)[name = string(\"after\")];
    } -> (y);
}",
        );
        let loaded = Cpu.load(&model, &LoadOptions::default()).unwrap();
        let mut sessions: Vec<_> = (0..2).map(|_| Arc::clone(&loaded).session().unwrap()).collect();
        let mut add = |i: usize, x: f32| {
            let x = Tensor::from_vec(&[2], vec![x, 1.0]).unwrap();
            let prediction = sessions[i].predict(&InferenceRequest::new().input("x", x)).unwrap();
            prediction.outputs()[0].1.to_f64()
        };
        assert_eq!(add(0, 2.0), [2.0, 1.0]);
        assert_eq!(add(1, 5.0), [5.0, 1.0]);
        assert_eq!(add(0, 3.0), [5.0, 2.0]);
        assert_eq!(add(1, 1.0), [6.0, 2.0]);
        sessions[0].reset().unwrap();
        assert_eq!(sessions[0].new_state().names(), ["sum"]);
    }

    #[test]
    fn a_profile_names_steps_and_counts_what_they_do() {
        let model = model(
            "program(1.3) {
    func main<ios15>(tensor<fp32, [8, 3]> x) {
        tensor<fp32, [5, 3]> w = const()[val = tensor<fp32, [5, 3]>([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6])];
        tensor<fp32, [8, 5]> p = linear(x = x, weight = w)[name = string(\"p\")];
        tensor<fp32, [8, 5]> y = relu(x = p)[name = string(\"y\")];
    } -> (y);
}",
        );
        let mut session = Cpu.session(&model, &LoadOptions { threads: 1, ..LoadOptions::default() }).unwrap();
        let x = Tensor::from_vec(&[8, 3], vec![1f32; 24]).unwrap();
        let profile = session.profile(&InferenceRequest::new().input("x", x), 3).unwrap();
        let [step] = &profile.steps[..] else { panic!("{profile:?}") };
        assert_eq!((profile.runs, step.ops.as_str(), step.name.as_str()), (3, "linear+relu", "y"));
        assert_eq!(step.kernel.as_deref(), Some("gemm"));
        // 8 · 5 sums of 3 products, and as many relus; x, w and y.
        assert_eq!((step.flops, step.bytes), (2 * 8 * 5 * 3 + 8 * 5, 4 * (24 + 15 + 40)));
        assert!(step.min_ns <= step.median_ns && step.median_ns <= profile.run_ns);
    }

    #[test]
    fn sessions_of_other_shapes_run_side_by_side() {
        let model = model(
            "program(1.3) {
    func main<ios15>(tensor<fp32, [?]> x) {
        tensor<fp32, [?]> y = relu(x = x)[name = string(\"y\")];
    } -> (y);
}",
        );
        let loaded = Cpu.load(&model, &LoadOptions { threads: 2, ..LoadOptions::default() }).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4usize {
                let mut session = Arc::clone(&loaded).session().unwrap();
                scope.spawn(move || {
                    for turn in 0..40 {
                        let n = 1 + (thread + turn) % 12;
                        let x = Tensor::from_vec(&[n], vec![-1.0 + turn as f32; n]).unwrap();
                        let prediction = session.predict(&InferenceRequest::new().input("x", x)).unwrap();
                        let expected = vec![(-1.0 + turn as f64).max(0.0); n];
                        assert_eq!(prediction.outputs()[0].1.to_f64(), expected);
                    }
                });
            }
        });
    }
}
