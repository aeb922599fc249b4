//! What a search measures, and what it allows.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::{Comparison, Measure, OutputDifference};

/// What a search for the smallest model holds to the tolerance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// The least SNR of an output in dB, judged as every proof is.
    #[default]
    Snr,
    /// The least SNR of an output against its largest magnitude, in dB.
    Psnr,
    /// The largest mean Kullback–Leibler divergence of scores, in nats.
    Kl,
    /// The least share of scores whose largest is at the same place, from 0 to 1.
    Top1,
    /// What a [`MetricTask`](crate::MetricTask) makes of the results: larger is better.
    Task,
}

impl Metric {
    /// Those that have no need of a [task](Metric::Task), in the order of help texts.
    pub const ALL: &'static [Metric] = &[Metric::Snr, Metric::Kl, Metric::Top1, Metric::Psnr];

    /// The name in the command line and in Python.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Snr => "snr",
            Metric::Psnr => "psnr",
            Metric::Kl => "kl",
            Metric::Top1 => "top1",
            Metric::Task => "task",
        }
    }

    /// A description in a few words, for help texts.
    pub fn doc(self) -> &'static str {
        match self {
            Metric::Snr => "Signal to noise of every output, in dB",
            Metric::Psnr => "Peak signal to noise of every output, in dB",
            Metric::Kl => "Divergence of scores along the last dimension, in nats",
            Metric::Top1 => "Share of scores along the last dimension whose largest stays, 0 to 1",
            Metric::Task => "What a command makes of the results",
        }
    }

    /// A figure in words.
    pub fn show(self, figure: f64) -> String {
        match self {
            _ if figure == self.perfect() => "equal".to_owned(),
            Metric::Snr | Metric::Psnr => format!("{figure:.1} dB"),
            Metric::Kl => format!("{figure:.2e} nats"),
            Metric::Top1 => format!("{:.2} %", 100.0 * figure),
            Metric::Task => format!("{figure}"),
        }
    }

    /// Checks that a tolerance can be one of this metric.
    ///
    /// # Errors
    /// It cannot; the text says what can.
    pub fn check(self, tolerance: f64) -> Result<(), String> {
        match self {
            _ if !tolerance.is_finite() => Err("the tolerance is not a finite number".to_owned()),
            Metric::Kl if tolerance < 0.0 => {
                Err("a divergence is not negative: give nats, such as 0.01".to_owned())
            }
            Metric::Top1 if !(0.0..=1.0).contains(&tolerance) => {
                Err("the tolerance of top1 is a share from 0 to 1, such as 0.99".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether it takes the last dimension of outputs for scores.
    pub(super) fn is_of_scores(self) -> bool {
        matches!(self, Metric::Kl | Metric::Top1)
    }

    /// The figure of equal results. Those of psnr and snr have no largest value.
    pub(super) fn perfect(self) -> f64 {
        match self {
            Metric::Snr | Metric::Psnr | Metric::Task => f64::INFINITY,
            Metric::Kl => 0.0,
            Metric::Top1 => 1.0,
        }
    }

    /// Whether `a` is better than `b`.
    pub(super) fn is_better(self, a: f64, b: f64) -> bool {
        if self == Metric::Kl { a < b } else { a > b }
    }

    /// The order of figures, from good to bad.
    pub(super) fn order(self, a: f64, b: f64) -> Ordering {
        if self == Metric::Kl { a.total_cmp(&b) } else { b.total_cmp(&a) }
    }

    /// What choices are looked at by on the first samples: a task is only asked about all.
    pub(super) fn at_first(self) -> Metric {
        if self == Metric::Task { Metric::Snr } else { self }
    }

    /// The figure of the worst output; `None` if it measures none of them.
    pub(crate) fn worst(self, comparison: &Comparison) -> Option<f64> {
        if self == Metric::Task {
            return comparison.task;
        }
        let of = |o: &OutputDifference| match self {
            // What cannot be judged has no figure. The judgement of the whole refuses it.
            Metric::Snr | Metric::Psnr if o.reason.is_some() => None,
            Metric::Psnr if o.measure == Measure::Choices => None,
            Metric::Snr => Some(o.snr_db.rank()),
            Metric::Psnr => Some(o.psnr_db.rank()),
            Metric::Kl => o.kl,
            Metric::Top1 if o.measure == Measure::Numbers => None,
            Metric::Top1 => o.agreement,
            Metric::Task => None,
        };
        comparison.outputs.iter().filter_map(of).reduce(|a, b| if self.is_better(a, b) { b } else { a })
    }

    /// Why a comparison is outside the tolerance; `None` if it is within.
    pub(super) fn failure(self, comparison: &Comparison, tolerance: Option<f64>) -> Option<String> {
        let of_snr = tolerance.filter(|_| self == Metric::Snr);
        if let Some(failure) = comparison.failures(of_snr).into_iter().next() {
            return Some(failure);
        }
        let limit = tolerance.filter(|_| self != Metric::Snr)?;
        match self.worst(comparison) {
            None => Some(format!("no output has scores, which {} measures", self.name())),
            Some(figure) if self.is_better(limit, figure) => Some(self.show(figure)),
            Some(_) => None,
        }
    }

    /// What a change adds to each output, such that the sum over changes tells what all of them do: relative noise, or
    /// divergence. Infinite where the outputs are broken.
    pub(super) fn noise(self, comparison: &Comparison) -> Vec<f64> {
        let broken = !comparison.failures(None).is_empty();
        let of = |o: &OutputDifference| match self {
            _ if broken => f64::INFINITY,
            Metric::Kl | Metric::Top1 => o.kl.unwrap_or(0.0),
            _ if o.measure == Measure::Choices => 0.0,
            _ => o.snr_db.decibels().map_or(0.0, |db| 10f64.powf(-db / 10.0)),
        };
        comparison.outputs.iter().map(of).collect()
    }

    /// The figure that this much noise amounts to.
    pub(super) fn of_noise(self, noise: f64) -> f64 {
        match self {
            Metric::Snr | Metric::Psnr | Metric::Task => -10.0 * noise.log10(),
            Metric::Kl | Metric::Top1 => noise,
        }
    }

    /// A tolerance that a result may miss on a few samples although it holds on all of them.
    pub(super) fn looser(self, tolerance: f64) -> f64 {
        match self {
            Metric::Snr | Metric::Psnr => tolerance - 2.0,
            Metric::Kl => 2.0 * tolerance,
            Metric::Top1 => tolerance - (1.0 - tolerance) - 0.05,
            Metric::Task => f64::NEG_INFINITY,
        }
    }

    /// A stricter tolerance than `searched`, after a result that was within it reached only `found` where `tolerance`
    /// is asked for.
    pub(super) fn stricter(self, searched: f64, tolerance: f64, found: f64) -> f64 {
        match self {
            Metric::Snr | Metric::Psnr => searched + (tolerance - found).clamp(0.0, 10.0) + 0.2,
            Metric::Kl => searched * (tolerance / found.max(1e-300)).clamp(0.1, 1.0) * 0.9,
            Metric::Top1 => (searched + (tolerance - found).max(0.0) + 0.1 * (1.0 - searched)).min(1.0),
            // Nothing is known of its scale but what it gave.
            Metric::Task => searched + 0.5 * (tolerance - found).max(1e-9 * tolerance.abs()),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(name: &str) -> Result<Metric, String> {
        let found = Metric::ALL.iter().copied().find(|m| m.name() == name);
        found.ok_or_else(|| format!("there is no metric `{name}`; there are snr, kl, top1 and psnr"))
    }
}

/// Serializes a figure; that of equal results, which may be infinite, as `"equal"`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(super) fn figure<S: Serializer>(figure: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if figure.is_infinite() { serializer.serialize_str("equal") } else { serializer.serialize_f64(*figure) }
}

/// As [`figure`]; null if there is none.
#[expect(clippy::ref_option, reason = "serde calls it so")]
pub(super) fn maybe<S: Serializer>(figure: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match figure {
        Some(value) => self::figure(value, serializer),
        None => serializer.serialize_none(),
    }
}
