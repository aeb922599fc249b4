//! Optimizing, converting and comparing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use milwright::image::Fit;
use milwright::{
    Cancel, Compression, CompressionConfig, Container, Converter, Error, ErrorKind, Files, ImportOptions,
    InferenceRequest, LoadOptions, Metric, Model, ModelInfo, Optimizer, Progress, Proof, Samples, Search,
    Tolerance,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{OrRaise, check_new, existing};
use crate::model::deadline;
use crate::{tensors, work};

/// Optimizes the model at `path`; gives the report as JSON. `progress` is called with a stage, done and total, and
/// ends the work by raising.
#[pyfunction]
#[pyo3(signature = (path, output, *, force, quantize, config, target, target_os, tolerance, proof, calibrate, smallest, metric, max_bytes, plot, inputs, fit, seed, progress, timeout, memory_limit))]
#[expect(clippy::too_many_arguments, reason = "one for each keyword of the function in Python")]
pub fn optimize(
    py: Python<'_>,
    path: PathBuf,
    output: Option<PathBuf>,
    force: bool,
    quantize: &str,
    config: Option<&str>,
    target: &str,
    target_os: Option<&str>,
    tolerance: Option<Limit>,
    proof: bool,
    calibrate: bool,
    smallest: bool,
    metric: &str,
    max_bytes: Option<u64>,
    plot: Option<PathBuf>,
    inputs: Option<Inputs<'_>>,
    fit: &str,
    seed: u64,
    progress: Option<Py<PyAny>>,
    timeout: Option<f64>,
    memory_limit: Option<u64>,
) -> PyResult<String> {
    let existing = existing(force);
    if let Some(output) = &output {
        check_new(py, output, Container::Mlpackage, existing)?;
    }
    let fit = word(fit).or_raise(py)?;
    let inputs = inputs.map(|inputs| inputs.unbind(fit)).transpose()?;
    let metric = word(metric).or_raise(py)?;
    let load = limited(timeout, memory_limit).or_raise(py)?;
    let cancel = load.cancel.clone();
    let on_event = |at: Event| call(py, progress.as_ref(), at);
    let report = work::with_events(py, &cancel, on_event, |events| {
        let model = Arc::new(Model::open(path)?);
        let config = match config {
            Some(text) => word(text)?,
            None => CompressionConfig::from(word::<Compression>(quantize)?),
        };
        let mut optimizer = Optimizer::new()
            .config(config)
            .target(word(target)?)
            .seed(seed)
            .existing(existing)
            .load_options(load);
        if let Some(name) = target_os {
            optimizer = optimizer.target_os(word(name)?);
        }
        if let Some(tolerance) = tolerance {
            optimizer = optimizer.tolerance(tolerance.parse()?);
        }
        if calibrate {
            optimizer = optimizer.calibrated();
        }
        if smallest {
            optimizer = optimizer.smallest(search(metric, max_bytes, timeout)?);
        } else if max_bytes.is_some() || plot.is_some() {
            let error = Error::new(ErrorKind::InvalidInput, "`max_bytes` and `plot` are those of a search");
            return Err(error.with_hint("search with `smallest=True`, or leave them out"));
        }
        if !proof {
            optimizer = optimizer.without_proof();
        }
        if let Some(inputs) = inputs {
            optimizer = optimizer.samples(inputs.samples(&model, None)?);
        }
        let report = optimizer.optimize(&model, output.as_deref(), &mut |at| events.send(event(&at)))?;
        if let (Some(path), Some(found)) = (&plot, &report.search) {
            let mut files = Files::default();
            files.text(path, &found.plot())?;
            files.commit()?;
        }
        Ok(report)
    })?;
    Ok(serde_json::to_string(&report).expect("plain data has a JSON form"))
}

/// Writes the networks of the model at `path` as ML programs; gives the report as JSON. `progress` is called as by `optimize`.
#[pyfunction]
#[pyo3(signature = (path, output, *, force, target_os, precision, sizes, freeze, tolerance, inputs, fit, seed, threads, progress, timeout, memory_limit))]
#[expect(clippy::too_many_arguments, reason = "one for each keyword of the function in Python")]
pub fn convert(
    py: Python<'_>,
    path: PathBuf,
    output: Option<PathBuf>,
    force: bool,
    target_os: Option<&str>,
    precision: &str,
    sizes: Vec<(String, String)>,
    freeze: Option<Bound<'_, PyDict>>,
    tolerance: Option<Limit>,
    inputs: Option<Inputs<'_>>,
    fit: &str,
    seed: u64,
    threads: usize,
    progress: Option<Py<PyAny>>,
    timeout: Option<f64>,
    memory_limit: Option<u64>,
) -> PyResult<String> {
    let existing = existing(force);
    if let Some(output) = &output {
        check_new(py, output, Container::Mlpackage, existing)?;
    }
    let fit = word(fit).or_raise(py)?;
    let inputs = inputs.map(|inputs| inputs.unbind(fit)).transpose()?;
    let frozen = freeze.as_ref().map(tensors::request).transpose()?.unwrap_or_default();
    let load = LoadOptions { threads, ..limited(timeout, memory_limit).or_raise(py)? };
    let cancel = load.cancel.clone();
    let on_event = |at: Event| call(py, progress.as_ref(), at);
    let report = work::with_events(py, &cancel, on_event, |events| {
        let mut converter =
            Converter::new().precision(word(precision)?).seed(seed).existing(existing).load_options(load);
        if let Some(name) = target_os {
            converter = converter.target_os(word(name)?);
        }
        if let Some(tolerance) = tolerance {
            converter = converter.tolerance(tolerance.parse()?);
        }
        let model = Arc::new(import(path, target_os, sizes, &frozen, inputs.is_none())?);
        if let Some(inputs) = inputs {
            converter = converter.samples(inputs.samples(&model, None)?);
        }
        converter.convert(&model, output.as_deref(), &mut |at| events.send(event(&at)))
    })?;
    Ok(serde_json::to_string(&report).expect("plain data has a JSON form"))
}

/// A search by a metric. If there is a time for all of it, the search ends early enough to prove and write what it has.
fn search(metric: Metric, max_bytes: Option<u64>, timeout: Option<f64>) -> milwright::Result<Search> {
    const SHARE: f64 = 0.75;
    let mut search = Search::new().metric(metric);
    if let Some(bytes) = max_bytes {
        search = search.max_bytes(bytes);
    }
    Ok(match timeout {
        Some(timeout) => search.stop(Cancel::default().with_deadline(deadline(SHARE * timeout)?)),
        None => search,
    })
}

/// Opens a model, an ONNX model with options for it.
fn import(
    path: PathBuf,
    target_os: Option<&str>,
    sizes: Vec<(String, String)>,
    frozen: &InferenceRequest,
    for_package: bool,
) -> milwright::Result<Model> {
    let is_plain = sizes.is_empty() && frozen.inputs().is_empty();
    let mut options = ImportOptions::new();
    // Inputs that are given have the names of the ONNX model.
    if for_package {
        options = options.for_package();
    }
    if let Some(name) = target_os {
        options = options.target_os(word(name)?);
    }
    for (name, size) in sizes {
        let wrong = |why| Error::new(ErrorKind::InvalidInput, format!("the size `{name}`: {why}"));
        let size = size.parse().map_err(wrong)?;
        options = options.size(name, size);
    }
    for (name, value) in frozen.inputs() {
        options = options.freeze(name, value.clone());
    }
    if is_plain { Model::open_with(path, &options) } else { Model::import(path, &options) }
}

/// What `progress` gets: a stage, done and total.
type Event = (&'static str, usize, usize);

fn event(at: &Progress) -> Event {
    match *at {
        Progress::Compressing { done, total } => ("compressing", done, total),
        Progress::Proving { done, total } => ("proving", done, total),
        Progress::Searching { done, total } => ("searching", done, total),
        _ => ("writing", 0, 1),
    }
}

fn call(py: Python<'_>, progress: Option<&Py<PyAny>>, event: Event) -> PyResult<()> {
    progress.map_or(Ok(()), |progress| progress.call1(py, event).map(drop))
}

/// Reads a text file.
#[pyfunction]
pub fn read_text(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    work::detached(py, || milwright::read_text(path))
}

/// Describes the weights of the model at `path`, as JSON.
#[pyfunction]
#[pyo3(signature = (path, *, min_elements))]
pub fn weights(py: Python<'_>, path: PathBuf, min_elements: usize) -> PyResult<String> {
    let cancel = LoadOptions::default().cancel;
    let found =
        work::interruptible(py, &cancel, || milwright::weights(&Arc::new(Model::open(path)?), min_elements))?;
    Ok(serde_json::to_string(&found).expect("plain data has a JSON form"))
}

/// Reads a configuration; gives the form of each entry, as JSON with the keys of the configuration.
#[pyfunction]
pub fn forms(py: Python<'_>, config: &str) -> PyResult<String> {
    let config: CompressionConfig = word(config).or_raise(py)?;
    let form = |c: &Option<Compression>| c.as_ref().map(Compression::to_string);
    let all = |of: &BTreeMap<String, Option<Compression>>| {
        of.iter().map(|(name, c)| (name.clone(), form(c))).collect::<BTreeMap<_, _>>()
    };
    let found = serde_json::json!({
        "global_config": form(&config.all),
        "op_type_configs": all(&config.op_types),
        "op_name_configs": all(&config.op_names),
    });
    Ok(found.to_string())
}

/// Runs two models on the same inputs; gives the differences as JSON.
#[pyfunction]
#[pyo3(signature = (a, b, *, inputs, fit, function, seed, samples, timeout, memory_limit))]
#[expect(clippy::too_many_arguments, reason = "one for each keyword of the function in Python")]
pub fn compare(
    py: Python<'_>,
    a: PathBuf,
    b: PathBuf,
    inputs: Option<Inputs<'_>>,
    fit: &str,
    function: Option<String>,
    seed: u64,
    samples: usize,
    timeout: Option<f64>,
    memory_limit: Option<u64>,
) -> PyResult<String> {
    let fit = word(fit).or_raise(py)?;
    let mut inputs = inputs.map(|inputs| inputs.unbind(fit)).transpose()?;
    let load = limited(timeout, memory_limit).or_raise(py)?;
    let cancel = load.cancel.clone();
    let proof = work::interruptible(py, &cancel, || {
        let a = Arc::new(Model::open(a)?);
        let b = Arc::new(Model::open(b)?);
        let mut samples = |name: Option<&str>| {
            // What was given is for the default function.
            let is_default = name.is_none_or(|f| function.is_some() || f == a.info().default_function);
            match if is_default { inputs.take() } else { None } {
                Some(inputs) => inputs.samples(&a, name),
                None => Samples::draw_within(&a, name, seed, samples, &load),
            }
        };
        match function.as_deref() {
            Some(name) => {
                let one = milwright::compare(&a, &b, Some(name), &samples(Some(name))?, &load, &mut || ())?;
                Ok(Proof { functions: vec![one] })
            }
            None => milwright::compare_functions(&a, &b, &mut samples, &load, &mut || ()),
        }
    })?;
    Ok(serde_json::to_string(&proof.rows()).expect("plain data has a JSON form"))
}

/// What work may take: seconds for all of it, or ten minutes for each prediction; bytes of intermediate results.
fn limited(timeout: Option<f64>, memory: Option<u64>) -> milwright::Result<LoadOptions> {
    let mut load = LoadOptions::default();
    if let Some(memory) = memory {
        load.limits.memory = memory;
    }
    if let Some(timeout) = timeout {
        load.limits.prediction = None;
        load.cancel = load.cancel.with_deadline(deadline(timeout)?);
    }
    Ok(load)
}

/// What the model file at `path` says about itself, as JSON.
#[pyfunction]
pub fn info(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let info = work::detached(py, || ModelInfo::open(path))?;
    Ok(serde_json::to_string(&info).expect("plain data has a JSON form"))
}

/// Sets of inputs, or the folder that they are in.
#[derive(FromPyObject)]
pub enum Inputs<'py> {
    Folder(PathBuf),
    Sets(Vec<Bound<'py, PyDict>>),
}

/// [`Inputs`] that need Python no more.
enum Given {
    Folder(PathBuf, Fit),
    Sets(Vec<InferenceRequest>),
}

impl Inputs<'_> {
    fn unbind(self, fit: Fit) -> PyResult<Given> {
        Ok(match self {
            Inputs::Folder(folder) => Given::Folder(folder, fit),
            Inputs::Sets(sets) => Given::Sets(sets.iter().map(tensors::request).collect::<PyResult<_>>()?),
        })
    }
}

impl Given {
    fn samples(self, model: &Model, function: Option<&str>) -> milwright::Result<Samples> {
        match self {
            Given::Folder(path, fit) => Samples::read_fitted(model, function, path, fit),
            Given::Sets(sets) if sets.is_empty() => {
                let error = Error::new(ErrorKind::InvalidInput, "the list of inputs is empty");
                Err(error.with_hint("leave `inputs` out to have them drawn"))
            }
            Given::Sets(sets) => Ok(Samples::given(sets)),
        }
    }
}

/// A number of decibels, or the word `none`.
#[derive(FromPyObject)]
pub enum Limit {
    Decibels(f64),
    Word(String),
}

impl Limit {
    fn parse(&self) -> milwright::Result<Tolerance> {
        match self {
            Limit::Decibels(db) if !db.is_nan() => Ok(Tolerance::Decibels(*db)),
            Limit::Word(word) if word == "none" => Ok(Tolerance::None),
            _ => {
                let error = Error::new(ErrorKind::InvalidInput, "the tolerance is not a number of decibels");
                Err(error
                    .with_hint("give a number such as 20.0, `None` for the default, or \"none\" to lift it"))
            }
        }
    }
}

/// Parses one of the words that an option takes; the error names the others.
pub fn word<T: std::str::FromStr<Err = String>>(text: &str) -> milwright::Result<T> {
    text.parse().map_err(|why| Error::new(ErrorKind::InvalidInput, why))
}
