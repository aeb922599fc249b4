//! The metrics of the manager.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::telemetry::*;
use crate::{ErrorKind, Loaded, PlanOrigin};

pub fn loaded(labels: &Labels, loaded: &Loaded) {
    let (model, backend) = both(labels);
    let cache = match loaded.plan {
        PlanOrigin::Cached => "hit",
        PlanOrigin::Rebuilt(_) => "rebuilt",
        PlanOrigin::Compiled | PlanOrigin::Deferred(_) => "miss",
    };
    if matches!(loaded.plan, PlanOrigin::Compiled | PlanOrigin::Rebuilt(_)) {
        let seconds = histogram!(COMPILE_SECONDS, "model" => model.clone(), "backend" => backend.clone());
        seconds.record(loaded.duration);
    }
    counter!(LOADS, "model" => model, "backend" => backend, "cache" => cache).increment(1);
}

pub fn load_failed(labels: &Labels, kind: ErrorKind) {
    let (model, backend) = both(labels);
    counter!(LOAD_FAILURES, "model" => model, "backend" => backend, "kind" => name(kind)).increment(1);
}

pub fn answered(model: &Arc<str>, outcome: Result<&str, ErrorKind>, took: Duration) {
    let label = outcome.map_or_else(name, |_| "ok");
    counter!(CALLS, "model" => Arc::clone(model), "outcome" => label).increment(1);
    if let Ok(backend) = outcome {
        histogram!(CALL_SECONDS, "model" => Arc::clone(model), "backend" => backend.to_owned()).record(took);
    }
}

pub fn ran(labels: &Labels, took: Duration) {
    let (model, backend) = both(labels);
    histogram!(RUN_SECONDS, "model" => model, "backend" => backend).record(took);
}

pub fn queued(model: &Arc<str>, waited: Duration) {
    histogram!(QUEUE_SECONDS, "model" => Arc::clone(model)).record(waited);
}

pub fn queue_depth(model: &Arc<str>, depth: usize) {
    gauge!(QUEUE_DEPTH, "model" => Arc::clone(model)).set(depth as f64);
}

/// The state of a breaker: 0 closed, 1 half open, 2 open.
pub fn breaker(labels: &Labels, value: f64) {
    let (model, backend) = both(labels);
    gauge!(BREAKER_STATE, "model" => model, "backend" => backend).set(value);
}

pub fn fallback(from: &Labels, to: &Arc<str>, kind: ErrorKind) {
    let (model, from) = both(from);
    let (to, kind) = (Arc::clone(to), name(kind));
    counter!(FALLBACKS, "model" => model, "from" => from, "to" => to, "kind" => kind).increment(1);
}

pub fn abandoned(labels: &Labels) {
    let (model, backend) = both(labels);
    counter!(ABANDONED_THREADS, "model" => model, "backend" => backend).increment(1);
    let (model, backend) = both(labels);
    gauge!(HUNG_THREADS, "model" => model, "backend" => backend).increment(1);
}

pub fn came_back(labels: &Labels) {
    let (model, backend) = both(labels);
    gauge!(HUNG_THREADS, "model" => model, "backend" => backend).decrement(1);
}

pub fn shadow(labels: &Labels, outcome: &'static str) {
    let (model, backend) = both(labels);
    counter!(SHADOW, "model" => model, "backend" => backend, "outcome" => outcome).increment(1);
}

fn both(labels: &Labels) -> (Arc<str>, Arc<str>) {
    (Arc::clone(&labels.model), Arc::clone(&labels.backend))
}
