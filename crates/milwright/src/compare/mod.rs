//! How far two results differ, and whether that is within a tolerance.
//!
//! `sums` measures the differences; this module holds the result types and the judgement. `docs/proof.md` explains
//! both to users.

mod sums;

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

pub use sums::Differences;

/// The difference of one output between an original and another model, over all samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputDifference {
    /// The name of the output or state.
    pub name: String,
    /// Whether it is an output or a state.
    pub role: Role,
    /// What was measured.
    pub measure: Measure,
    /// The SNR; for choices, [`Snr::of_agreement`] of the share that agrees.
    pub snr_db: Snr,
    /// The SNR against the largest magnitude of the original instead of its mean power; [`Snr::Unknown`] for choices.
    pub psnr_db: Snr,
    /// For scores and class scores: the mean Kullback–Leibler divergence of the distributions along the last dimension, in
    /// nats. Scores that are not probabilities count as their logarithms.
    pub kl: Option<f64>,
    /// The largest absolute difference; `None` for choices, and if an element is finite in only one of the two.
    pub max_abs: Option<f64>,
    /// The mean absolute difference; `None` as for `max_abs`.
    pub mean_abs: Option<f64>,
    /// The cosine of the angle between the two as vectors; `None` as for `max_abs`, and if one of them is zero.
    pub cosine: Option<f64>,
    /// The share of cases in which both models choose the same; for choices and class scores.
    pub agreement: Option<f64>,
    /// Elements that are NaN or infinite in one of the two, without being the same in the other.
    pub non_finite: usize,
    /// The number of compared elements.
    pub elements: usize,
    /// The sample with the lowest SNR, if there are several.
    pub worst_set: Option<Part>,
    /// The slice along a dimension with the lowest SNR, if there are slices with enough numbers.
    pub worst_slice: Option<Slice>,
    /// The SNR of what changes from sample to sample: both results are compared after subtracting their means over the
    /// samples. `None` if there is only one sample, or if hardly anything changes.
    pub varying_snr_db: Option<Snr>,
    /// Whether the original gave the same result for every sample.
    pub constant: bool,
    /// The element type in the other model, if it differs within the same kind, such as fp16 instead of fp32. It is
    /// reported, but does not count as a failure.
    pub other_type: Option<String>,
    /// What is wrong at any tolerance, such as a missing output, another shape or other keys.
    pub faults: Vec<String>,
    /// Why the output cannot be judged, if it cannot. Under a tolerance that counts as a failure.
    pub reason: Option<String>,
}

/// Whether an [`OutputDifference`] is about an output or a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An output.
    #[default]
    Output,
    /// A state, after the last run.
    State,
}

/// How an output is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Numbers, measured by SNR.
    #[default]
    Numbers,
    /// Scores along the last dimension, whose largest element is a choice. Measured by SNR; the agreement of choices
    /// is only reported.
    Scores,
    /// A probability for each class, measured by SNR and by whether the likeliest class agrees.
    Classes,
    /// Labels, indices, bools and strings, which are either equal or not; measured by the share that agrees.
    Choices,
}

/// A signal-to-noise ratio (SNR).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Snr {
    /// The results are equal.
    Equal,
    /// 10·log₁₀(Σa² / Σ(a−b)²).
    Decibels(f64),
    /// There is no SNR; [`OutputDifference::reason`] or the faults say why.
    #[default]
    Unknown,
}

/// A sample and its SNR.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The index of the sample, from 0.
    pub index: usize,
    /// Its SNR.
    pub snr_db: Snr,
}

/// A slice of an output along a dimension, such as a channel, and its SNR.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slice {
    /// The dimension.
    pub axis: usize,
    /// The index along that dimension.
    pub index: usize,
    /// Its SNR.
    pub snr_db: Snr,
}

/// How far the SNR of a part of an output may lie below the tolerance, in dB.
pub const PART_MARGIN_DB: f64 = 20.0;

/// Below this SNR, in dB, a part counts as lost: the error has half the power of the signal.
pub const LOST_DB: f64 = 3.0;

impl Snr {
    /// The SNR as a number, for sorting and comparing: infinite if the results are equal.
    pub fn decibels(self) -> Option<f64> {
        match self {
            Snr::Equal => Some(f64::INFINITY),
            Snr::Decibels(db) => Some(db),
            Snr::Unknown => None,
        }
    }

    /// Converts a share of agreeing choices to dB: −20·log₁₀ of the share that disagrees. Errors of a hundredth of the
    /// scores' size (40 dB) change about one choice in a hundred.
    pub fn of_agreement(agreement: f64) -> Snr {
        if agreement >= 1.0 { Snr::Equal } else { Snr::Decibels(0.0 - 20.0 * (1.0 - agreement).log10()) }
    }

    /// The share of choices that must agree for this many dB.
    pub fn required_agreement(snr_db: f64) -> f64 {
        (1.0 - 10f64.powf(-snr_db / 20.0)).clamp(0.0, 1.0)
    }

    /// The SNR for the powers of a signal and of its error.
    pub(crate) fn of_powers(signal: f64, noise: f64) -> Snr {
        if noise == 0.0 {
            return Snr::Equal;
        }
        let db = 10.0 * (signal / noise).log10();
        if db.is_finite() { Snr::Decibels(db) } else { Snr::Unknown }
    }

    fn is_below(self, snr_db: f64) -> bool {
        self.decibels().is_some_and(|found| found < snr_db)
    }

    /// Orders SNRs from bad to good; `Unknown` is the worst.
    pub(crate) fn rank(self) -> f64 {
        self.decibels().unwrap_or(f64::NEG_INFINITY)
    }
}

/// `equal`, a number with one digit, or `none`.
impl fmt::Display for Snr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Snr::Equal => f.pad("equal"),
            Snr::Decibels(db) => f.pad(&format!("{db:.1}")),
            Snr::Unknown => f.pad("none"),
        }
    }
}

/// Serializes as the string `"equal"`, as a number, or as null, which only says that there is none.
impl Serialize for Snr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Snr::Equal => serializer.serialize_str("equal"),
            Snr::Decibels(db) => serializer.serialize_f64(*db),
            Snr::Unknown => serializer.serialize_none(),
        }
    }
}

impl OutputDifference {
    /// Whether the output is within the tolerance. See [`failure`](OutputDifference::failure).
    pub fn within(&self, snr_db: f64) -> bool {
        self.failure(Some(snr_db)).is_none()
    }

    /// Returns what is wrong with the output at a tolerance in dB; `None` if nothing is.
    ///
    /// Without a tolerance, an output fails if it is missing, or has another type, shape or other keys; or if an
    /// element is NaN or infinite in one of the two and not the same in the other. With a tolerance, it also fails if
    /// it is outside the tolerance; if a part of it (a sample or a slice) is more than [`PART_MARGIN_DB`] below the
    /// tolerance, or is lost; if what changes with the inputs is lost; or if it cannot be judged.
    pub fn failure(&self, tolerance_db: Option<f64>) -> Option<String> {
        if !self.faults.is_empty() {
            return Some(self.faults.join("; "));
        }
        if self.non_finite > 0 {
            let (n, all) = (self.non_finite, self.elements);
            return Some(format!("{n} of {all} elements are NaN or infinite in one of the two only"));
        }
        let limit = tolerance_db?;
        if let Some(reason) = &self.reason {
            return Some(format!("not judged: {reason}"));
        }
        if self.snr_db.is_below(limit) {
            return Some(self.describe(limit));
        }
        if self.measure == Measure::Classes
            && let Some(agreement) = self.agreement.filter(|&a| Snr::of_agreement(a).is_below(limit))
        {
            return Some(disagreement("of the likeliest classes", agreement, limit));
        }
        let least = (limit - PART_MARGIN_DB).max(limit.min(LOST_DB));
        if let Some(part) = self.worst_set.filter(|part| part.snr_db.is_below(least)) {
            return Some(format!("{} dB on set {} of the inputs by itself", part.snr_db, part.index + 1));
        }
        if let Some(slice) = self.worst_slice.filter(|slice| slice.snr_db.is_below(least)) {
            let Slice { axis, index, snr_db } = slice;
            return Some(format!("{snr_db} dB in slice {index} along dimension {axis} by itself"));
        }
        if let Some(varying) = self.varying_snr_db.filter(|snr| snr.is_below(limit.min(LOST_DB))) {
            return Some(format!("what changes with the inputs is lost ({varying} dB)"));
        }
        None
    }

    fn describe(&self, limit: f64) -> String {
        match (self.measure, self.agreement) {
            (Measure::Choices, Some(agreement)) => disagreement("of the choices", agreement, limit),
            _ => format!("{} dB", self.snr_db),
        }
    }
}

fn disagreement(what: &str, agreement: f64, limit: f64) -> String {
    // Enough digits to tell the required share from 100 %.
    let digits = (limit / 20.0 - 1.0).ceil().clamp(1.0, 9.0) as usize;
    let (found, required) = (100.0 * agreement, 100.0 * Snr::required_agreement(limit));
    format!("{found:.digits$} % {what} agree, {limit} dB asks for {required:.digits$} %")
}

/// The index of the largest element, the first of several equal ones. NaN is never the largest.
pub fn largest(scores: &[f64]) -> usize {
    let better =
        |best: usize, i: usize| scores[i] > scores[best] || (scores[best].is_nan() && !scores[i].is_nan());
    (1..scores.len()).fold(0, |best, i| if better(best, i) { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn tensor(v: &[f32]) -> Tensor {
        Tensor::from_vec(&[v.len()], v.to_vec()).unwrap()
    }

    fn difference(measure: Measure, a: &Tensor, b: &Tensor) -> OutputDifference {
        let mut sums = Differences::new(measure);
        sums.add(a, b);
        sums.finish("y")
    }

    #[test]
    fn figures() {
        let d = difference(Measure::Scores, &tensor(&[3.0, 4.0]), &tensor(&[3.0, 4.5]));
        assert!((d.snr_db.decibels().unwrap() - 20.0).abs() < 1e-9);
        assert_eq!((d.max_abs, d.mean_abs, d.agreement), (Some(0.5), Some(0.25), Some(1.0)));
        assert!((d.cosine.unwrap() - 27.0 / (5.0 * 29.25f64.sqrt())).abs() < 1e-12);
        assert!(d.within(20.0) && !d.within(20.1));
    }

    #[test]
    fn equal_is_infinitely_good() {
        let d = difference(Measure::Numbers, &tensor(&[0.0, 1.0]), &tensor(&[-0.0, 1.0]));
        assert_eq!((d.snr_db, d.cosine), (Snr::Equal, Some(1.0)));
        assert!(d.within(f64::INFINITY));
    }

    /// 60 dB require that 99.9 % of the choices agree; 20 dB require 90 %.
    #[test]
    fn choices_are_worth_decibels() {
        assert!((Snr::required_agreement(60.0) - 0.999).abs() < 1e-12);
        assert!((Snr::required_agreement(20.0) - 0.9).abs() < 1e-12);
        let labels = |n: usize| {
            let words = (0..1000).map(|i| if i < n { "cat" } else { "dog" }.to_owned()).collect();
            Tensor::from_strings(&[1000], words).unwrap()
        };
        let d = difference(Measure::Choices, &labels(500), &labels(550));
        assert_eq!((d.agreement, d.max_abs, d.cosine), (Some(0.95), None, None));
        assert!(d.within(26.0) && !d.within(26.1) && !d.within(60.0));
        let message = d.failure(Some(60.0)).unwrap();
        assert_eq!(message, "95.00 % of the choices agree, 60 dB asks for 99.90 %");
    }

    #[test]
    fn figures_over_nothing_are_none() {
        let d = difference(Measure::Numbers, &tensor(&[1.0, 2.0]), &tensor(&[f32::NAN, f32::NAN]));
        assert_eq!((d.non_finite, d.elements), (2, 2));
        assert_eq!((d.snr_db, d.max_abs, d.mean_abs, d.cosine), (Snr::Unknown, None, None, None));
        assert!(d.failure(None).is_some());
    }

    #[test]
    fn null_stands_for_no_figure_only() {
        let json = |a: &[f32], b: &[f32]| {
            let d = difference(Measure::Numbers, &tensor(a), &tensor(b));
            let json = serde_json::to_value(&d).unwrap();
            (json["snr_db"].clone(), json["reason"].clone())
        };
        assert_eq!(json(&[1.0], &[1.0]), ("equal".into(), serde_json::Value::Null));
        assert_eq!(json(&[1.0], &[0.5]).1, serde_json::Value::Null);
        let (snr, reason) = json(&[0.0], &[1.0]);
        assert!(snr.is_null() && reason.as_str().unwrap().contains("there is no signal"), "{reason}");
        let huge = serde_json::to_value(difference(
            Measure::Numbers,
            &Tensor::scalar(1e300),
            &Tensor::scalar(-1e300),
        ))
        .unwrap();
        assert!(huge["snr_db"].is_null() && !huge["reason"].is_null(), "{huge}");
    }
}
