//! How far two results are apart, and whether that is near enough.
//!
//! `sums` measures; what is here are the figures and the judgement. `docs/proof.md` explains both to users.

mod sums;

use std::fmt;

use serde::{Serialize, Serializer};

pub use sums::Differences;

/// The difference of one output between an original and another, over all inputs that were run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputDifference {
    /// The output, or the state.
    pub name: String,
    /// Which of the two it is.
    pub role: Role,
    /// What is measured.
    pub measure: Measure,
    /// Signal to noise; for choices what [`Snr::of_agreement`] makes of the share that agrees.
    pub snr_db: Snr,
    /// The largest absolute difference; `None` for choices, and where not everything
    /// that is finite in one of the two is so in the other.
    pub max_abs: Option<f64>,
    /// The mean absolute difference; `None` as for `max_abs`.
    pub mean_abs: Option<f64>,
    /// The cosine of the angle between the two, as vectors; `None` as for `max_abs`, and where one of the two is zero.
    pub cosine: Option<f64>,
    /// For choices and class scores: the share of cases in which both choose the same.
    pub agreement: Option<f64>,
    /// Elements that are NaN or infinite in one of the two, and not the same in the other.
    pub non_finite: usize,
    /// Elements compared.
    pub elements: usize,
    /// The set of inputs with the worst figure, where there are several.
    pub worst_set: Option<Part>,
    /// The slice along a dimension with the worst figure, where there are slices of enough numbers.
    pub worst_slice: Option<Slice>,
    /// The figure of what changes from one set of inputs to the next: that of both results, each without its mean over
    /// the sets. `None` where there is one set, or where next to nothing changes.
    pub varying_snr_db: Option<Snr>,
    /// Whether the original gave the same for every set of inputs.
    pub constant: bool,
    /// Its other element type of the same kind, in the other model: fp16 instead of fp32, say. That is said; the numbers
    /// are judged.
    pub other_type: Option<String>,
    /// What is wrong at any tolerance: it is lost, has another shape, other keys.
    pub faults: Vec<String>,
    /// Why nothing can be said about it, if nothing can. Under a tolerance it counts as failed.
    pub reason: Option<String>,
}

/// What an [`OutputDifference`] is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An output.
    #[default]
    Output,
    /// A state, after the last run.
    State,
}

/// What is measured of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Numbers, which are near or far: signal to noise.
    #[default]
    Numbers,
    /// Numbers along the last dimension, the largest of which is a choice: signal to noise; the choice is reported.
    Scores,
    /// A probability for each class: signal to noise, and whether the likeliest class is the same.
    Classes,
    /// Labels, indices, truth values, texts, which are the same or not: the share that agrees.
    Choices,
}

/// Signal to noise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Snr {
    /// Nothing differs.
    Equal,
    /// 10·log₁₀(Σa² / Σ(a−b)²).
    Decibels(f64),
    /// There is no such figure; [`OutputDifference::reason`] or its faults say why.
    #[default]
    Unknown,
}

/// A set of inputs, and its figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The number of the set, from 0.
    pub index: usize,
    /// Its figure.
    pub snr_db: Snr,
}

/// A slice of an output along a dimension, such as a channel, and its figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slice {
    /// The dimension.
    pub axis: usize,
    /// Where along that.
    pub index: usize,
    /// Its figure.
    pub snr_db: Snr,
}

/// How much worse than the whole a part of an output may be, in dB.
pub const PART_MARGIN_DB: f64 = 20.0;

/// Below this, in dB, a part is lost: the error has half the power of the signal.
pub const LOST_DB: f64 = 3.0;

impl Snr {
    /// As a number, for sorting and comparing: infinite where nothing differs.
    pub fn decibels(self) -> Option<f64> {
        match self {
            Snr::Equal => Some(f64::INFINITY),
            Snr::Decibels(db) => Some(db),
            Snr::Unknown => None,
        }
    }

    /// What a share of choices that agree is worth: −20·log₁₀ of the share that does not. An error of a hundredth of the
    /// size of the scores (40 dB) turns about one choice in a hundred.
    pub fn of_agreement(agreement: f64) -> Snr {
        if agreement >= 1.0 { Snr::Equal } else { Snr::Decibels(0.0 - 20.0 * (1.0 - agreement).log10()) }
    }

    /// The share of choices that has to agree for so many dB.
    pub fn required_agreement(snr_db: f64) -> f64 {
        (1.0 - 10f64.powf(-snr_db / 20.0)).clamp(0.0, 1.0)
    }

    /// Out of the powers of a signal and of what differs from it.
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

    /// What orders figures from bad to good; there is nothing worse than none.
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

/// The string `"equal"`, a number, or null, which says that there is none and no more.
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
    /// Whether the output is as near as asked for. See [`failure`](OutputDifference::failure).
    pub fn within(&self, snr_db: f64) -> bool {
        self.failure(Some(snr_db)).is_none()
    }

    /// What is wrong with the output, if something is, at a tolerance in dB.
    ///
    /// Without one: it is lost, or has another type or shape or other keys; or something is NaN or infinite in one of
    /// the two and not the same in the other. With one, also: it is not so near as asked for; a part of it (a set of
    /// inputs, a slice, what changes with the inputs) is more than [`PART_MARGIN_DB`] worse than that, or is lost; or
    /// nothing can be said about it.
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
    // So many digits that what is asked for differs from 100 %.
    let digits = (limit / 20.0 - 1.0).ceil().clamp(1.0, 9.0) as usize;
    let (found, required) = (100.0 * agreement, 100.0 * Snr::required_agreement(limit));
    format!("{found:.digits$} % {what} agree, {limit} dB asks for {required:.digits$} %")
}

/// The position of the largest element; the first where there are several. NaN is never the largest.
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

    /// 99.9 % of the choices for 60 dB, 90 % for 20 dB.
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
