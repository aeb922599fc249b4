//! Models, their states, and predictions.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use milwright::cache::{Options, Store};
use milwright::{
    DType, Error, ErrorKind, InferenceRequest, LoadOptions, Precision, PredictOptions, Prediction, Session,
    Structure, Target, Tensor,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{OrRaise, exception};
use crate::tensors;

/// A Core ML model, ready to run.
#[pyclass(frozen, module = "milwright._native")]
pub struct Model {
    pub model: Arc<milwright::Model>,
    function: Option<String>,
    session: Mutex<Box<dyn Session>>,
}

/// The states of a stateful model.
#[pyclass(frozen, module = "milwright._native")]
pub struct State(Mutex<milwright::State>);

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (path, *, function = None, threads = 0, cache = None, precision = "declared"))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        function: Option<String>,
        threads: usize,
        cache: Option<PathBuf>,
        precision: &str,
    ) -> PyResult<Model> {
        py.detach(|| {
            let model = Arc::new(milwright::Model::open(path)?);
            Model::load(model, function, threads, cache, precision)
        })
        .or_raise(py)
    }

    /// Makes a model out of the bytes of its specification, and of its weight files by their names.
    #[staticmethod]
    #[pyo3(signature = (specification, weights, *, function = None, threads = 0, precision = "declared"))]
    fn from_bytes(
        py: Python<'_>,
        specification: Vec<u8>,
        weights: std::collections::BTreeMap<String, Vec<u8>>,
        function: Option<String>,
        threads: usize,
        precision: &str,
    ) -> PyResult<Model> {
        py.detach(|| {
            let weights = weights.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
            let model = Arc::new(milwright::Model::from_bytes(specification.into(), &weights)?);
            Model::load(model, function, threads, None, precision)
        })
        .or_raise(py)
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
        let mut request = InferenceRequest::new();
        for (name, value) in inputs {
            let name: String = name.extract()?;
            let tensor = tensors::from_python(&name, &value)?;
            request = request.input(name, tensor);
        }
        let deadline = timeout.map(deadline).transpose().or_raise(py)?;
        let prediction = py.detach(|| {
            let mut state = state.map(State::lock);
            let options =
                PredictOptions { state: state.as_deref_mut(), deadline, ..PredictOptions::default() };
            self.lock().predict_with(&request, options)
        });
        self.outputs(py, prediction.or_raise(py)?)
    }

    /// New states, all zero.
    fn make_state(&self) -> State {
        State(Mutex::new(self.lock().new_state()))
    }

    /// Everything that the file says about itself, as JSON.
    fn info(&self) -> String {
        serde_json::to_string(self.model.info()).expect("plain data has a JSON form")
    }

    /// The function that this is.
    #[getter]
    fn function(&self) -> String {
        self.function.clone().unwrap_or_else(|| self.model.info().default_function.clone())
    }

    /// How the model was made ready, as JSON.
    fn loaded(&self) -> String {
        serde_json::to_string(self.lock().loaded()).expect("plain data has a JSON form")
    }

    /// Writes the model in its compiled form, a folder `.mlmodelc`.
    fn compile_to(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.model.compile_to(path)).or_raise(py)
    }

    /// The program as plain data, as JSON.
    fn structure(&self) -> String {
        serde_json::to_string(&Structure::new(&self.model)).expect("plain data has a JSON form")
    }
}

impl Model {
    fn load(
        model: Arc<milwright::Model>,
        function: Option<String>,
        threads: usize,
        cache: Option<PathBuf>,
        precision: &str,
    ) -> milwright::Result<Model> {
        let precision = match precision {
            "declared" => Precision::Declared,
            "wide" => Precision::Wide,
            _ => {
                let error =
                    Error::new(ErrorKind::InvalidInput, format!("there is no precision {precision:?}"));
                return Err(error.with_hint("it is \"declared\" or \"wide\""));
            }
        };
        let cache = cache.map(|folder| Store::open(folder, Options::default())).transpose()?;
        let options =
            LoadOptions { function: function.clone(), threads, cache, precision, ..LoadOptions::default() };
        let session = Target::Cpu.backend()?.load(&model, &options)?;
        Ok(Model { model, function, session: Mutex::new(session) })
    }

    /// A panic in another thread's prediction leaves a session that can be used: each run starts from its inputs.
    fn lock(&self) -> MutexGuard<'_, Box<dyn Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outputs<'py>(&self, py: Python<'py>, prediction: Prediction) -> PyResult<Bound<'py, PyDict>> {
        let outputs = PyDict::new(py);
        let info = self.model.info().function(self.function.as_deref());
        let probabilities = info.and_then(|f| f.predicted_probabilities.clone());
        for (name, tensor) in prediction.outputs() {
            let value = match prediction.classes() {
                Some(classes) if Some(name) == probabilities.as_ref() => {
                    by_class(py, classes, tensor)?.into_any()
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

/// Each class with its probability.
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

fn deadline(seconds: f64) -> milwright::Result<Instant> {
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
    fn names(&self) -> Vec<String> {
        self.lock().names().into_iter().map(str::to_owned).collect()
    }

    /// What a state holds: a copy.
    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let state = self.lock();
        let tensor = state.read(name).map_err(|e| exception(py, &e))?;
        tensors::to_python(py, tensor)
    }

    /// Replaces what a state holds.
    fn write(&self, py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let tensor = tensors::from_python(name, value)?;
        self.lock().write(name, &tensor).or_raise(py)
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, milwright::State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
