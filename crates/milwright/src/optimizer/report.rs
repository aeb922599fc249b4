//! What an optimization reports, and how that is written as JSON.

use std::path::PathBuf;
use std::time::Duration;

use milwright_optimize::KeptOp;
use serde::Serialize;

use super::SearchReport;
use crate::backend::seconds;
use crate::{Proof, WeightReport};

/// What an optimization did.
#[derive(Clone, Debug, Serialize)]
pub struct OptimizeReport {
    /// The path of the result, if it was written.
    #[serde(serialize_with = "crate::paths::path_in_words")]
    pub output: Option<PathBuf>,
    /// Bytes of the original.
    pub bytes_before: u64,
    /// Bytes of the result.
    pub bytes_after: u64,
    /// Every weight, in program order.
    #[serde(serialize_with = "weight_rows")]
    pub weights: Vec<WeightReport>,
    /// The ops that stayed in fp32 when the program was converted to fp16, and why.
    #[serde(serialize_with = "kept")]
    pub kept: Vec<KeptOp>,
    /// The specification version of the result.
    pub specification_version: i32,
    /// Changes besides those of weights, as sentences, such as what a neural network loses when it becomes an ML
    /// program.
    pub notes: Vec<String>,
    /// Whether the result was compared with the original. If not, `proof` is empty.
    pub proved: bool,
    /// The differences between the outputs and the original's.
    pub proof: Proof,
    /// The tolerance that the proof was held to, in dB; `None` if there was none.
    pub tolerance_db: Option<f64>,
    /// Whether that is the default tolerance of the setting.
    pub default_tolerance: bool,
    /// Why the result is not smaller, if it is not.
    pub not_smaller: Option<String>,
    /// The factor by which intermediate values may grow before they overflow fp16, as seen on drawn inputs. `None` if
    /// the result does not compute in fp16, if the inputs were given, or if it was not determined.
    pub fp16_headroom: Option<f64>,
    /// What a search found, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
    /// How long compressing and writing took.
    #[serde(rename = "optimize_seconds", serialize_with = "seconds")]
    pub optimize_time: Duration,
    /// How long the proof took.
    #[serde(rename = "proof_seconds", serialize_with = "seconds")]
    pub proof_time: Duration,
}

fn kept<S: serde::Serializer>(kept: &[KeptOp], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        function: &'a str,
        op: &'a str,
        name: &'a str,
        reason: &'a str,
    }
    serializer.collect_seq(kept.iter().map(|k| Row {
        function: &k.function,
        op: k.op,
        name: &k.name,
        reason: &k.reason,
    }))
}

fn weight_rows<S: serde::Serializer>(weights: &[WeightReport], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        function: &'a str,
        name: &'a str,
        shape: &'a [usize],
        dtype: &'a str,
        bytes_before: usize,
        bytes_after: usize,
        form: Option<&'a str>,
        snr_db: Option<f64>,
        output_snr_db: Option<f64>,
        max_error: f64,
        skipped: Option<&'a str>,
    }
    serializer.collect_seq(weights.iter().map(|w| Row {
        function: &w.function,
        name: &w.name,
        shape: &w.shape,
        dtype: w.dtype.name(),
        bytes_before: w.bytes_before,
        bytes_after: w.bytes_after,
        form: w.form.as_deref(),
        snr_db: w.snr_db.filter(|s| s.is_finite()),
        output_snr_db: w.output_snr_db.filter(|s| s.is_finite()),
        max_error: w.max_error,
        skipped: w.skipped.as_deref(),
    }))
}
