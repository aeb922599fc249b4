//! Metrics: their names, and the functions that record them.
//!
//! The metrics go to the recorder that the program installed for the [`metrics`] facade, if any;
#![cfg_attr(feature = "prometheus", doc = "[`Exporter`] is one.")]
#![cfg_attr(not(feature = "prometheus"), doc = "the feature `prometheus` has one.")]

#[cfg(feature = "prometheus")]
mod prometheus;

use std::sync::Arc;

use metrics::counter;

use crate::ErrorKind;

#[cfg(feature = "prometheus")]
pub use prometheus::Exporter;

/// Declares each metric once: its name, and its description for the recorder.
macro_rules! metrics {
    ($($(#[doc = $text:literal])+ $describe:ident $name:ident = $value:literal;)+) => {
        $($(#[doc = $text])+ pub const $name: &str = $value;)+

        /// Passes the descriptions of all metrics to the recorder.
        pub fn describe() {
            $(metrics::$describe!($name, [$($text),+].map(str::trim).join(" "));)+
        }
    };
}

metrics! {
    /// Optimizations, by `outcome`: `proved`, or the kind of the error. A counter.
    describe_counter OPTIMIZATIONS = "milwright_optimizations_total";
    /// Seconds that compiling a model took, by `model` and `backend`. A histogram.
    describe_histogram COMPILE_SECONDS = "milwright_compile_seconds";
    /// Models that were made ready, by `model`, `backend` and `cache`: `hit`, `miss`, or `rebuilt` if the entry was
    /// broken. A counter.
    describe_counter LOADS = "milwright_loads_total";
    /// Models that could not be made ready, by `model`, `backend` and `kind` of the error. A counter.
    describe_counter LOAD_FAILURES = "milwright_load_failures_total";
    /// Calls that were answered, by `model` and `outcome`: `ok`, or the kind of the error. A counter.
    describe_counter CALLS = "milwright_calls_total";
    /// Seconds from a call to its answer, by `model` and the `backend` that gave it. A histogram.
    describe_histogram CALL_SECONDS = "milwright_call_seconds";
    /// Seconds that a model ran for a call, by `model` and `backend`. A histogram.
    describe_histogram RUN_SECONDS = "milwright_run_seconds";
    /// Seconds that a call waited for its turn, by `model`. A histogram.
    describe_histogram QUEUE_SECONDS = "milwright_queue_seconds";
    /// Calls that wait, by `model`. A gauge.
    describe_gauge QUEUE_DEPTH = "milwright_queue_depth";
    /// What a breaker lets through, by `model` and `backend`: 0 all (closed), 1 a probe (half-open), 2 nothing
    /// (open). A gauge.
    describe_gauge BREAKER_STATE = "milwright_breaker_state";
    /// Calls that a backend failed and the next one got, by `model`, `from`, `to` and `kind` of the error. A counter.
    describe_counter FALLBACKS = "milwright_fallbacks_total";
    /// Threads that hung in a backend and were left behind, by `model` and `backend`. A counter.
    describe_counter ABANDONED_THREADS = "milwright_abandoned_threads_total";
    /// Of these, the ones that have not come back, by `model` and `backend`. A gauge.
    describe_gauge HUNG_THREADS = "milwright_hung_threads";
    /// Comparisons of two backends on live traffic, by `model`, `backend` and `outcome`: `match`, `mismatch`,
    /// `failed`. A counter.
    describe_counter SHADOW = "milwright_shadow_total";
    /// Worker processes that were started again, by `backend`. A counter.
    describe_counter WORKER_RESTARTS = "milwright_worker_restarts_total";
}

/// The labels of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels {
    /// The name that the manager knows the model by.
    pub model: Arc<str>,
    /// The [name](crate::Candidate::name) of the candidate that runs it.
    pub backend: Arc<str>,
}

/// Records that a worker process was started again.
pub fn worker_restarted(backend: &str) {
    counter!(WORKER_RESTARTS, "backend" => backend.to_owned()).increment(1);
}

pub(crate) fn optimized(outcome: Result<(), ErrorKind>) {
    counter!(OPTIMIZATIONS, "outcome" => outcome.map_or_else(name, |()| "proved")).increment(1);
}

/// The label for a kind of error.
pub(crate) fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Io => "io",
        ErrorKind::Malformed => "malformed",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::InvalidInput => "invalid_input",
        ErrorKind::Exists => "exists",
        ErrorKind::Tolerance => "tolerance",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Runtime => "runtime",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::OutOfMemory => "out_of_memory",
        ErrorKind::DeadlineExceeded => "deadline_exceeded",
        ErrorKind::WorkerDied => "worker_died",
        ErrorKind::StateLost => "state_lost",
        ErrorKind::Overloaded => "overloaded",
    }
}
