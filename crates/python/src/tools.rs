//! Optimizing and comparing.

use std::path::PathBuf;
use std::sync::Arc;

use milwright::{Cancel, Error, ErrorKind, LoadOptions, Optimizer, Progress, Samples, Target, Tolerance};
use pyo3::prelude::*;

use crate::work;

/// Optimizes the model at `path`; gives the report as JSON. `progress` is called with a stage, done and total, and
/// ends the work by raising.
#[pyfunction]
#[pyo3(signature = (path, output, *, quantize, target, tolerance, inputs, seed, progress))]
#[expect(clippy::too_many_arguments, reason = "one for each keyword of the function in Python")]
pub fn optimize(
    py: Python<'_>,
    path: PathBuf,
    output: Option<PathBuf>,
    quantize: &str,
    target: &str,
    tolerance: Option<Limit>,
    inputs: Option<PathBuf>,
    seed: u64,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let cancel = Cancel::default();
    let on_event = |(stage, done, total): (&str, usize, usize)| match &progress {
        Some(progress) => progress.call1(py, (stage, done, total)).map(|_| ()),
        None => Ok(()),
    };
    let report = work::with_events(py, &cancel, on_event, |events| {
        let model = Arc::new(milwright::Model::open(path)?);
        let load = LoadOptions { cancel: cancel.clone(), ..LoadOptions::default() };
        let mut optimizer = Optimizer::new()
            .quantization(choice(quantize)?)
            .target(self::target(target)?)
            .seed(seed)
            .load_options(load);
        if let Some(tolerance) = tolerance {
            optimizer = optimizer.tolerance(tolerance.parse()?);
        }
        if let Some(inputs) = inputs {
            optimizer = optimizer.samples(Samples::read(&model, None, inputs)?);
        }
        optimizer.optimize(&model, output.as_deref(), &mut |at| {
            let event = match at {
                Progress::Compressing { done, total } => ("compressing", done, total),
                Progress::Proving { done, total } => ("proving", done, total),
                _ => ("writing", 0, 1),
            };
            // The other end is there as long as the work is.
            let _ = events.send(event);
        })
    })?;
    Ok(serde_json::to_string(&report).expect("plain data has a JSON form"))
}

/// Runs two models on the same inputs; gives the differences as JSON.
#[pyfunction]
#[pyo3(signature = (a, b, *, inputs, function, seed, samples))]
pub fn compare(
    py: Python<'_>,
    a: PathBuf,
    b: PathBuf,
    inputs: Option<PathBuf>,
    function: Option<String>,
    seed: u64,
    samples: usize,
) -> PyResult<String> {
    let cancel = Cancel::default();
    let differences = work::interruptible(py, &cancel, || {
        let a = Arc::new(milwright::Model::open(a)?);
        let b = Arc::new(milwright::Model::open(b)?);
        let function = function.as_deref();
        let samples = match inputs {
            Some(folder) => Samples::read(&a, function, folder)?,
            None => Samples::draw(&a, function, seed, samples)?,
        };
        let load = LoadOptions { cancel: cancel.clone(), ..LoadOptions::default() };
        milwright::compare(&a, &b, function, &samples, &load, &mut || ())
    })?;
    Ok(serde_json::to_string(&differences).expect("plain data has a JSON form"))
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

fn choice(name: &str) -> milwright::Result<milwright::Quantization> {
    name.parse().map_err(|e: String| Error::new(ErrorKind::InvalidInput, e))
}

fn target(name: &str) -> milwright::Result<Target> {
    Ok(match name {
        "auto" => Target::Auto,
        "ane" => Target::Ane,
        "gpu" => Target::Gpu,
        "cpu" => Target::Cpu,
        _ => {
            let error = Error::new(ErrorKind::InvalidInput, format!("there is no target {name:?}"));
            return Err(error.with_hint("the targets are auto, ane, gpu and cpu"));
        }
    })
}
