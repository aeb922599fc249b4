//! Models, their states, and predictions.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use milwright::cache::{Options, Store};
use milwright::{
    Cancel, Container, DType, Error, ErrorKind, Limits, LoadOptions, Precision, PredictOptions, Prediction,
    Session, Structure, Target, Tensor,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{OrRaise, check_new, existing};
use crate::tools::word;
use crate::{tensors, work};

/// A Core ML model, ready to run.
#[pyclass(frozen, module = "milwright._native")]
pub struct Model {
    pub model: Arc<milwright::Model>,
    options: LoadOptions,
    /// Locked by who holds Python's lock, and for a moment only: a process that is forked, which takes Python's lock,
    /// never inherits it locked.
    session: Mutex<Loaded>,
    /// Whether a prediction may take so long that Ctrl-C should end it.
    is_slow: AtomicBool,
}

/// A session, and how often the process had been forked when it was loaded. A session's threads do not survive that.
struct Loaded {
    forks: u64,
    session: Arc<Mutex<Box<dyn Session>>>,
}

/// The states of a stateful model.
#[pyclass(frozen, module = "milwright._native")]
pub struct State {
    state: Mutex<milwright::State>,
    forks: u64,
}

/// How often this process was forked, counted from its first ancestor that loaded this module.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// To be called in each process that is forked off.
#[pyfunction]
pub fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// A prediction that took less is done on the caller's thread the next time: handing it over costs 20 microseconds or
/// so, and nobody presses Ctrl-C that fast.
const SLOW: Duration = Duration::from_millis(20);

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (path, *, function = None, threads = 0, cache = None, precision = "declared", memory_limit = None))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        function: Option<String>,
        threads: usize,
        cache: Option<PathBuf>,
        precision: &str,
        memory_limit: Option<u64>,
    ) -> PyResult<Model> {
        let limits = limits(memory_limit);
        Model::load(py, || milwright::Model::open(path), function, threads, cache, precision, limits)
    }

    /// Makes a model out of the bytes of its specification, and of its weight files by their names.
    #[staticmethod]
    #[pyo3(signature = (specification, weights, *, function = None, threads = 0, precision = "declared", memory_limit = None))]
    fn from_bytes(
        py: Python<'_>,
        specification: Vec<u8>,
        weights: std::collections::BTreeMap<String, Vec<u8>>,
        function: Option<String>,
        threads: usize,
        precision: &str,
        memory_limit: Option<u64>,
    ) -> PyResult<Model> {
        let open = || {
            let weights = weights.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
            milwright::Model::from_bytes(specification.into(), &weights)
        };
        Model::load(py, open, function, threads, None, precision, limits(memory_limit))
    }

    /// One prediction.
    #[pyo3(signature = (inputs, state = None, timeout = None))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyDict>,
        state: Option<&State>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let request = tensors::request(inputs)?;
        let deadline = timeout.map(deadline).transpose().or_raise(py)?;
        let session = self.session(py)?;
        let cancel = Cancel::default();
        let mut took = Duration::ZERO;
        let predict = || {
            let mut state = state.map(State::lock).transpose()?;
            let start = Instant::now();
            let options = PredictOptions { state: state.as_deref_mut(), deadline, cancel: cancel.clone() };
            let prediction = lock(&session).predict_with(&request, options);
            took = start.elapsed();
            prediction
        };
        let prediction = if self.is_slow.load(Ordering::Relaxed) {
            work::interruptible(py, &cancel, predict)
        } else {
            work::detached(py, predict)
        }?;
        self.is_slow.store(took >= SLOW || self.model.has_loops(), Ordering::Relaxed);
        self.outputs(py, prediction)
    }

    /// New states, all zero.
    fn make_state(&self, py: Python<'_>) -> PyResult<State> {
        let session = self.session(py)?;
        let state = work::detached(py, || Ok(lock(&session).new_state()))?;
        Ok(State { state: Mutex::new(state), forks: FORKS.load(Ordering::Relaxed) })
    }

    /// Everything that the file says about itself, as JSON.
    fn info(&self) -> String {
        serde_json::to_string(self.model.info()).expect("plain data has a JSON form")
    }

    /// The function that this is.
    #[getter]
    fn function(&self) -> String {
        self.options.function.clone().unwrap_or_else(|| self.model.info().default_function.clone())
    }

    /// How the model was made ready, as JSON.
    fn loaded(&self, py: Python<'_>) -> PyResult<String> {
        let session = self.session(py)?;
        work::detached(py, || Ok(serde_json::to_string(lock(&session).loaded())))
            .map(|json| json.expect("plain data has a JSON form"))
    }

    /// Writes the model in its compiled form, a folder `.mlmodelc`.
    #[pyo3(signature = (path, *, force))]
    fn compile_to(&self, py: Python<'_>, path: PathBuf, force: bool) -> PyResult<()> {
        let existing = existing(force);
        check_new(py, &path, Container::Mlmodelc, existing)?;
        work::detached(py, || self.model.compile_over(path, existing))
    }

    /// The program as plain data, as JSON.
    fn structure(&self) -> String {
        serde_json::to_string(&Structure::new(&self.model)).expect("plain data has a JSON form")
    }
}

impl Model {
    fn load(
        py: Python<'_>,
        open: impl FnOnce() -> milwright::Result<milwright::Model> + Send,
        function: Option<String>,
        threads: usize,
        cache: Option<PathBuf>,
        precision: &str,
        limits: Limits,
    ) -> PyResult<Model> {
        let precision = word::<Precision>(precision).or_raise(py)?;
        let cancel = Cancel::default();
        let load = || {
            let cache = cache.map(|folder| Store::open(folder, Options::default())).transpose()?;
            let options = LoadOptions {
                function,
                threads,
                cache,
                precision,
                limits,
                cancel: cancel.clone(),
                ..LoadOptions::default()
            };
            let model = Arc::new(open()?);
            let session = Target::Cpu.backend()?.session(&model, &options)?;
            Ok((model, options, session))
        };
        let (model, options, session) = work::interruptible(py, &cancel, load)?;
        let loaded = Loaded { forks: FORKS.load(Ordering::Relaxed), session: Arc::new(Mutex::new(session)) };
        Ok(Model { model, options, session: Mutex::new(loaded), is_slow: AtomicBool::new(true) })
    }

    /// The session; in a process that was forked off, one of its own, since the threads of the old one are not there.
    /// States that a session keeps begin at zero again.
    fn session(&self, py: Python<'_>) -> PyResult<Arc<Mutex<Box<dyn Session>>>> {
        let forks = FORKS.load(Ordering::Relaxed);
        {
            let loaded = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            if loaded.forks == forks {
                return Ok(Arc::clone(&loaded.session));
            }
        }
        let (model, options) = (&self.model, &self.options);
        let session = work::detached(py, || Target::Cpu.backend()?.session(model, options))?;
        let mut loaded = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.forks != forks {
            let new = Loaded { forks, session: Arc::new(Mutex::new(session)) };
            // What belongs to threads that are gone is left alone, not dropped.
            std::mem::forget(std::mem::replace(&mut *loaded, new));
        }
        Ok(Arc::clone(&loaded.session))
    }

    fn outputs<'py>(&self, py: Python<'py>, prediction: Prediction) -> PyResult<Bound<'py, PyDict>> {
        let outputs = PyDict::new(py);
        let info = self.model.info().function(self.options.function.as_deref());
        let probabilities = info.and_then(|f| f.predicted_probabilities.clone());
        for (name, tensor) in prediction.outputs() {
            let value = match prediction.classes() {
                Some(classes) if Some(name) == probabilities.as_ref() => {
                    by_class(py, classes, tensor)?.into_any()
                }
                _ if prediction.keys(name).is_some() => {
                    let keys = prediction.keys(name).expect("there are some");
                    by_class(py, keys, tensor)?.into_any()
                }
                // A class label is a number or a string, not an array.
                Some(_) if tensor.dtype() == DType::Int64 && tensor.shape().is_empty() => {
                    tensor.to_i64().unwrap_or_default()[0].into_pyobject(py)?.into_any()
                }
                _ => tensors::to_python(py, tensor)?,
            };
            outputs.set_item(name, value)?;
        }
        Ok(outputs)
    }
}

fn limits(memory: Option<u64>) -> Limits {
    let default = Limits::default();
    Limits { memory: memory.unwrap_or(default.memory), ..default }
}

/// A panic in another thread's prediction leaves a session that can be used: each run starts from its inputs.
fn lock(session: &Mutex<Box<dyn Session>>) -> MutexGuard<'_, Box<dyn Session>> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each class with its probability, or each key with its value.
fn by_class<'py>(py: Python<'py>, classes: &Tensor, probabilities: &Tensor) -> PyResult<Bound<'py, PyDict>> {
    let result = PyDict::new(py);
    let probabilities = probabilities.to_f64();
    match classes.to_i64() {
        Some(numbers) => {
            numbers.iter().zip(probabilities).try_for_each(|(class, p)| result.set_item(class, p))?;
        }
        None => {
            classes
                .strings()
                .iter()
                .zip(probabilities)
                .try_for_each(|(class, p)| result.set_item(class, p))?;
        }
    }
    Ok(result)
}

pub fn deadline(seconds: f64) -> milwright::Result<Instant> {
    let timeout = Duration::try_from_secs_f64(seconds).ok();
    timeout.and_then(|t| Instant::now().checked_add(t)).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("a timeout of {seconds} seconds: it is to be a number from 0 on"),
        )
    })
}

#[pymethods]
impl State {
    /// The names of the states.
    #[getter]
    fn names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        work::detached(py, || Ok(self.lock()?.names().into_iter().map(str::to_owned).collect()))
    }

    /// What a state holds: a copy.
    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let tensor = work::detached(py, || Ok(self.lock()?.read(name)?.clone()))?;
        tensors::to_python(py, &tensor)
    }

    /// Replaces what a state holds.
    fn write(&self, py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let tensor = tensors::from_python(name, value)?;
        work::detached(py, || self.lock()?.write(name, &tensor))
    }
}

impl State {
    /// Waits for the prediction that uses it; one that was under way when this process was forked off never ends here.
    fn lock(&self) -> milwright::Result<MutexGuard<'_, milwright::State>> {
        if self.forks == FORKS.load(Ordering::Relaxed) {
            return Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner));
        }
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(state)) => Ok(state.into_inner()),
            Err(TryLockError::WouldBlock) => {
                let message = "the state was in use when the process was forked, or is by another thread";
                let error = Error::new(ErrorKind::Runtime, message);
                Err(error.with_hint("make a state of its own in each process"))
            }
        }
    }
}
