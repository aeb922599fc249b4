//! The contract of backends, which run models: a [`Backend`] loads a model once, and the [`LoadedModel`] opens any number
//! of [`Session`]s, each of which makes one prediction at a time.
//!
//! `target.rs` has the list of backends. `engine.rs` is the backend of all engines, which run programs on plain tensors.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use milwright_cache::Store;
use milwright_mil::engine::{DEFAULT_MEMORY, Engine};
use serde::{Deserialize, Serialize};

use crate::words::words;
use crate::{Cancel, Error, ErrorKind, InferenceRequest, Model, Prediction, Profile, Result, State};

/// Something that runs models.
pub trait Backend: Send + Sync {
    /// The name, such as `cpu`.
    fn name(&self) -> &'static str;

    /// Whether it can be used on this machine, and why (not).
    fn availability(&self) -> Availability;

    /// Makes a model ready to run. Open a session for each thread that runs it.
    ///
    /// # Errors
    /// The backend is not available, or the model uses something that it does not run.
    fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Arc<dyn LoadedModel>>;

    /// Loads a model and opens its only session.
    ///
    /// # Errors
    /// As for [`load`](Backend::load) and [`LoadedModel::session`].
    fn session(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Box<dyn Session>> {
        self.load(model, options)?.session()
    }

    /// The engine beneath it, if it runs models on one.
    fn engine(&self) -> Option<&'static dyn Engine> {
        None
    }

    /// Whether the cache that the options name has an entry for what `load` would compile. The entry is not read: if it
    /// is damaged, `load` finds out and compiles again.
    fn is_cached(&self, _model: &Model, _options: &LoadOptions) -> bool {
        false
    }
}

/// Whether a backend can be used on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Availability {
    /// Whether it can.
    pub available: bool,
    /// Why, or why not, in words.
    pub reason: String,
}

/// A model that was loaded once, for any number of sessions. They share what costs time and memory: the compiled plan,
/// the packed weights, and the engine's threads.
pub trait LoadedModel: Send + Sync {
    /// Opens a session with states of its own.
    ///
    /// # Errors
    /// The backend lacks the memory, or cannot load the model once more.
    fn session(self: Arc<Self>) -> Result<Box<dyn Session>>;

    /// How the model was made ready.
    fn loaded(&self) -> Loaded;
}

/// A loaded model of a backend that shares nothing between sessions: each is made by the same function.
pub struct Unshared<F> {
    open: F,
    loaded: Loaded,
    /// The session that was opened to load the model.
    first: Mutex<Option<Box<dyn Session>>>,
}

impl<F: Fn() -> Result<Box<dyn Session>> + Send + Sync + 'static> Unshared<F> {
    /// Opens the first session.
    ///
    /// # Errors
    /// `open` fails.
    pub fn load(open: F) -> Result<Arc<dyn LoadedModel>> {
        let first = open()?;
        let loaded = first.loaded().clone();
        Ok(Arc::new(Unshared { open, loaded, first: Mutex::new(Some(first)) }))
    }
}

impl<F: Fn() -> Result<Box<dyn Session>> + Send + Sync> LoadedModel for Unshared<F> {
    fn session(self: Arc<Self>) -> Result<Box<dyn Session>> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.map_or_else(&self.open, Ok)
    }

    fn loaded(&self) -> Loaded {
        self.loaded.clone()
    }
}

/// What runs a model: one prediction at a time, with its own states.
///
/// An error of the kind [`Unavailable`](ErrorKind::Unavailable) means that the session no longer works (its process
/// died, say): load the model again.
pub trait Session: Send {
    /// Runs the model once. A stateful model keeps its states from one call to the next.
    ///
    /// # Errors
    /// An input is missing, unknown, of a wrong shape or element type, or the run fails. The error names the input
    /// or the op.
    fn predict(&mut self, request: &InferenceRequest) -> Result<Prediction> {
        self.predict_with(request, PredictOptions::default())
    }

    /// Runs the model as [`predict`](Session::predict) does, with the caller's state, a deadline or a cancel flag.
    ///
    /// # Errors
    /// As for `predict`; the state belongs to another model; the deadline passed; or the prediction was cancelled.
    fn predict_with(&mut self, request: &InferenceRequest, options: PredictOptions<'_>)
    -> Result<Prediction>;

    /// Runs the model once for each request, in order. A backend that supports batches is faster than single
    /// predictions.
    ///
    /// # Errors
    /// As for `predict_with`. If one request fails, the whole batch fails.
    fn predict_batch(
        &mut self,
        requests: &[InferenceRequest],
        mut options: PredictOptions<'_>,
    ) -> Result<Vec<Prediction>> {
        let mut one = |request| {
            let (deadline, cancel) = (options.deadline, options.cancel.clone());
            self.predict_with(
                request,
                PredictOptions { state: options.state.as_deref_mut(), deadline, cancel },
            )
        };
        requests.iter().map(&mut one).collect()
    }

    /// Returns a new state in which every tensor is zero. It is empty if the model has no states.
    fn new_state(&self) -> State;

    /// Blocks until abandoned predictions have finished. A backend that cannot be cancelled returns on time at the
    /// deadline but keeps computing; until it is done, it may refuse new predictions.
    fn rest(&mut self) {}

    /// Sets the session's own states to zero.
    ///
    /// # Errors
    /// The backend cannot do it; load the model again.
    fn reset(&mut self) -> Result<()> {
        let error = Error::new(ErrorKind::Unsupported, "this backend cannot reset the states of a session");
        Err(error.with_hint("load the model again"))
    }

    /// Runs the model `runs` times, and measures each step. Predictions do not get slower by it: nothing is measured
    /// in them.
    ///
    /// # Errors
    /// As for `predict`; or the backend does not know its steps.
    fn profile(&mut self, _request: &InferenceRequest, _runs: usize) -> Result<Profile> {
        let error =
            Error::new(ErrorKind::Unsupported, "only programs on Milwright's own engine can be profiled");
        Err(error.with_hint(
            "use the backend `cpu`, without isolation, and a model that is one program or network",
        ))
    }

    /// How the model was made ready: the last plan, if there are several for inputs of different shapes.
    fn loaded(&self) -> &Loaded;
}

/// How to make a model ready.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The function; `None` is the model's default.
    pub function: Option<String>,
    /// Threads that predictions may use, at most [`MAX_THREADS`](crate::MAX_THREADS); 0 means one per core. The sessions
    /// of a loaded model share them.
    pub threads: usize,
    /// The cache of compiled plans; without one (`None`), each load compiles anew.
    pub cache: Option<Store>,
    /// The precision that fp16 programs are computed in.
    pub precision: Precision,
    /// The hardware that Core ML may use. Other backends have only one kind of hardware.
    pub compute_units: ComputeUnits,
    /// Cancels loading, running and optimizing.
    pub cancel: Cancel,
    /// The memory and time that the model may use.
    pub limits: Limits,
}

/// The memory and time that a model may use on Milwright's own engine. Usual models stay far below the defaults, which
/// stop models that would fill the memory or never end. Core ML has no such limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The bytes that the intermediate results of one prediction may take. A model that needs more is refused with
    /// [`OutOfMemory`](ErrorKind::OutOfMemory); where sizes are known before the run, before anything is allocated.
    /// Weights do not count, and neither does the scratch memory of a single op. The default is 8 GiB.
    pub memory: u64,
    /// The longest time that one prediction may take, whatever the caller's deadline is. The engine checks it between
    /// ops. The default is ten minutes; `None` means no limit.
    pub prediction: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { memory: DEFAULT_MEMORY, prediction: Some(Duration::from_secs(600)) }
    }
}

/// What the results of an fp16 program's ops are rounded to. Programs that declare fp32 compute in fp32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Rounds to fp16, as the program declares and as the Neural Engine and the GPU do. Values that overflow there
    /// overflow here, too.
    #[default]
    Declared,
    /// Computes in fp32 everywhere, as Core ML does on the CPU. Inputs, outputs and states that are declared fp16 are
    /// fp32, too: nothing is rounded.
    Wide,
}

words!(Precision, "precision", "declared" => Declared, "wide" => Wide);

/// The hardware that Core ML may use, by its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ComputeUnits {
    /// The CPU, the GPU and the Neural Engine.
    #[default]
    All,
    /// The CPU.
    CpuOnly,
    /// The CPU and the GPU.
    #[serde(rename = "cpuAndGPU")]
    CpuAndGpu,
    /// The CPU and the Neural Engine.
    CpuAndNeuralEngine,
}

/// Options of a single prediction.
#[derive(Debug, Default)]
pub struct PredictOptions<'a> {
    /// The states to read and write, instead of the session's own.
    pub state: Option<&'a mut State>,
    /// The deadline. The engine checks it between ops, so that even an endless loop ends.
    pub deadline: Option<Instant>,
    /// Cancels this prediction. It is checked whenever the deadline is.
    pub cancel: Cancel,
}

/// How a model was made ready.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    /// The backend.
    pub backend: &'static str,
    /// Where the compiled plan came from.
    pub plan: PlanOrigin,
    /// The path of the plan in the cache, if it was cached.
    #[serde(serialize_with = "crate::paths::path_in_words")]
    pub plan_path: Option<PathBuf>,
    /// The time that it took to compile the plan, or to find it in the cache and map it.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// Bytes that the intermediate results of a prediction take.
    pub arena_bytes: u64,
    /// Bytes of packed weights, which the plan maps.
    pub weight_bytes: u64,
}

impl Loaded {
    /// A plan of which nothing else is known.
    pub(crate) fn of_plan(backend: &'static str, plan: PlanOrigin) -> Loaded {
        Loaded { backend, plan, plan_path: None, duration: Duration::ZERO, arena_bytes: 0, weight_bytes: 0 }
    }
}

pub(crate) fn seconds<S: serde::Serializer>(d: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(d.as_secs_f64())
}

/// Where a compiled plan came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanOrigin {
    /// It was compiled just now.
    Compiled,
    /// It was in the cache, and was memory-mapped.
    Cached,
    /// The cache entry was damaged, and the plan was compiled again. The text says what was wrong.
    Rebuilt(String),
    /// There is no plan yet: the model has flexible inputs and does not run with their default shapes (the text says
    /// why). The first prediction compiles a plan for its shapes.
    Deferred(String),
}

impl fmt::Display for PlanOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanOrigin::Compiled => f.write_str("compiled"),
            PlanOrigin::Cached => f.write_str("loaded from the cache"),
            PlanOrigin::Rebuilt(_) => f.write_str("compiled again"),
            PlanOrigin::Deferred(_) => f.write_str("not compiled: the default shapes do not work"),
        }
    }
}
