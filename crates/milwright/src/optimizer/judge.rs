//! Judges a result against the tolerance, and words the errors, the hints and why it is not smaller.

use milwright_mil::OpKind;

use super::tolerance::{Tolerance, limited};
use super::{Compression, Observations, OptimizeReport, Optimizer};
use crate::kinds::Task;
use crate::{Error, ErrorKind, Model, OutputDifference, Result, Snr, WeightReport};

impl Optimizer {
    /// The default tolerance of these settings, in dB.
    pub fn default_db(&self) -> f64 {
        /// Integers of eight bits between ops are as good as those of weights.
        const INTEGERS_DB: f64 = 20.0;
        let most = if self.activations.is_some() { INTEGERS_DB } else { f64::INFINITY };
        limited(self.config.tolerance_db(), self.halves()).min(most)
    }

    /// Returns an error if the proof fails.
    pub(super) fn judge(
        &self,
        model: &Model,
        report: &OptimizeReport,
        observed: &Observations,
    ) -> Result<()> {
        let limit = self.tolerance_db();
        if !report.proved {
            return Ok(());
        }
        let failures = report.proof.failures(limit);
        let outputs = || report.proof.functions.iter().flat_map(|c| &c.outputs);
        // A conversion keeps every weight. An output that is equal is therefore accepted even if it never changes.
        let excused =
            |o: &OutputDifference| self.task == Task::Convert && is_unjudged(o) && o.snr_db == Snr::Equal;
        if outputs().all(|o| o.failure(limit).is_none() || excused(o)) {
            return Ok(());
        }
        let is_broken = outputs().any(|o| o.failure(None).is_some());
        let what = match limit {
            Some(limit) if !is_broken => {
                let whose = match self.tolerance {
                    Tolerance::Default => format!(", the default for {}", self.setting()),
                    _ => String::new(),
                };
                if outputs().filter(|o| o.failure(Some(limit)).is_some()).all(is_unjudged) {
                    format!("the result cannot be judged to be within {limit} dB{whose}")
                } else {
                    format!("the result is not within {limit} dB of the original{whose}")
                }
            }
            _ => "the result is broken".to_owned(),
        };
        let message = format!("{what}: {}", failures.join("; "));
        let hint = self.hint(report, observed, is_broken);
        Err(Error::new(ErrorKind::Tolerance, message).with_hint(hint).at(model.path()))
    }

    /// Advice for a result that was refused.
    fn hint(&self, report: &OptimizeReport, observed: &Observations, is_broken: bool) -> String {
        let limit = self.tolerance_db().unwrap_or(f64::INFINITY);
        let outputs = || report.proof.functions.iter().flat_map(|c| &c.outputs);
        let mut advice = vec!["nothing was written".to_owned()];
        if outputs().filter(|o| o.failure(Some(limit)).is_some()).all(is_unjudged) {
            advice.push(
                "give inputs that it depends on, with --inputs, or lift the tolerance with `none`".to_owned(),
            );
            return advice.join("; ");
        }
        let mut lost: Vec<&str> =
            observed.values().flat_map(|o| o.lost.values()).map(String::as_str).collect();
        lost.sort_unstable();
        lost.dedup();
        if !lost.is_empty() {
            advice.push(format!(
                "it is not enough to keep these in fp32: {}",
                lost[..lost.len().min(3)].join("; ")
            ));
        }
        if self.halves() && outputs().any(|o| o.non_finite > 0) {
            advice.push("fp16 has no numbers above 65504".to_owned());
        }
        if self.halves() && (is_broken || !lost.is_empty()) {
            advice.push("keep this model in fp32, where int8 or a palette makes it smaller, too".to_owned());
            return advice.join("; ");
        }
        // Only weights that lost enough to be the cause are blamed.
        let lossy = |w: &&WeightReport| w.snr_db.is_some_and(|s| s < limit + BLAME_MARGIN_DB);
        let mut worst: Vec<&WeightReport> = report.weights.iter().filter(lossy).collect();
        worst.sort_by(|a, b| a.snr_db.partial_cmp(&b.snr_db).unwrap_or(std::cmp::Ordering::Equal));
        let finer = self.config.compressions().find_map(Compression::finer);
        advice.extend(finer.filter(|_| !worst.is_empty()).map(str::to_owned));
        if !is_broken && self.tolerance == Tolerance::Default {
            advice.push("or lift the tolerance with `none`".to_owned());
        }
        let worst: Vec<String> =
            worst.iter().take(3).map(|w| format!("{} ({:.1} dB)", w.name, w.snr_db.unwrap_or(0.0))).collect();
        let blamed = if worst.is_empty() {
            String::new()
        } else {
            format!(". The weights that lost most: {}", worst.join(", "))
        };
        advice.join("; ") + &blamed
    }

    /// The setting as users write it.
    fn setting(&self) -> String {
        match &self.config.all {
            _ if !self.config.op_types.is_empty() || !self.config.op_names.is_empty() => {
                "this configuration".to_owned()
            }
            Some(all) if !all.is_none() => all.to_string(),
            _ if self.halves() => "fp16".to_owned(),
            _ => "graph passes".to_owned(),
        }
    }

    /// Why the result is not smaller than the original; `None` if it is smaller.
    pub(super) fn not_smaller(&self, model: &Model, report: &OptimizeReport) -> Option<String> {
        if report.bytes_after < report.bytes_before {
            return None;
        }
        if self.config.expands() {
            return Some("compressed weights were expanded, as asked".to_owned());
        }
        if !self.config.compresses() && !self.halves() {
            return Some("weights stay as they are without --quantize".to_owned());
        }
        if report.weights.iter().any(|w| w.snr_db.is_some()) {
            return Some("what the new form of the weights saves, the ops that go with it take".to_owned());
        }
        let ops = || {
            model
                .program()
                .into_iter()
                .flat_map(|p| p.functions.values())
                .flat_map(|f| f.walk().into_iter().map(|op| f[op].kind).collect::<Vec<_>>())
        };
        Some(if ops().any(OpKind::is_constexpr) {
            "its weights are compressed already".to_owned()
        } else if !self.config.compresses() {
            "it has no fp32 weights that could be fp16".to_owned()
        } else if report.weights.iter().any(|w| w.skipped.is_some()) {
            "every weight that is large enough was left alone".to_owned()
        } else {
            "it has no weights of two or more dimensions and more than 2048 elements".to_owned()
        })
    }
}

/// A weight whose SNR is more than this above the tolerance, in dB, is not blamed for a failure.
const BLAME_MARGIN_DB: f64 = 20.0;

/// Whether an output cannot be judged, although nothing about it is known to be wrong.
fn is_unjudged(output: &OutputDifference) -> bool {
    output.reason.is_some() && output.failure(None).is_none()
}
