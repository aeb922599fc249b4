//! How far two results are apart.

use serde::Serialize;

use crate::{DType, Tensor};

/// The difference of one output between an original and another, over all inputs that were run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OutputDifference {
    /// The output.
    pub name: String,
    /// Signal to noise in dB: 10·log₁₀(Σa² / Σ(a−b)²). `None` where the two are equal, bit for bit or number for
    /// number: infinitely good.
    pub snr_db: Option<f64>,
    /// The largest absolute difference.
    pub max_abs: f64,
    /// The mean absolute difference.
    pub mean_abs: f64,
    /// The cosine of the angle between the two, as vectors; 1 where both are zero.
    pub cosine: f64,
    /// For class scores and labels: the share of cases in which both choose the same class.
    pub agreement: Option<f64>,
    /// Elements that are NaN or infinite where the original's are not.
    pub non_finite: usize,
    /// Elements compared.
    pub elements: usize,
}

impl OutputDifference {
    /// Whether the output is as near as asked for: at least `snr_db` dB, and no NaN or infinity that the original does
    /// not have. Class labels have no distance: how often they agree is reported, and the scores that they come from are
    /// what is judged.
    pub fn within(&self, snr_db: f64) -> bool {
        self.snr_db.is_none_or(|found| found >= snr_db) && self.non_finite == 0
    }
}

/// Sums up differences of one output over several runs.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    signal: f64,
    noise: f64,
    other: f64,
    dot: f64,
    max_abs: f64,
    sum_abs: f64,
    elements: usize,
    non_finite: usize,
    cases: usize,
    same: usize,
}

impl Differences {
    /// Adds one result of the original (`a`) and of the other (`b`). With `is_scores`, the largest element along the
    /// last dimension is the choice that both are compared by, too. Tensors of different shapes count as infinitely
    /// far apart.
    pub fn add(&mut self, a: &Tensor, b: &Tensor, is_scores: bool) {
        // Labels agree or not: how far two class numbers are apart means nothing.
        let is_label =
            |t: &Tensor| t.dtype() == DType::String || (t.dtype().is_int() && t.shape().is_empty());
        if is_label(a) || is_label(b) {
            self.cases += 1;
            self.same += usize::from(a == b);
            return;
        }
        if a.shape() != b.shape() {
            self.non_finite += a.elements().max(1);
            return;
        }
        let (x, y) = (a.to_f64(), b.to_f64());
        for (&x, &y) in x.iter().zip(&y) {
            self.elements += 1;
            if !x.is_finite() || !y.is_finite() {
                // Where the original is not finite itself, there is nothing to measure.
                self.non_finite += usize::from(x.is_finite());
                continue;
            }
            let e = x - y;
            self.signal += x * x;
            self.other += y * y;
            self.dot += x * y;
            self.noise += e * e;
            self.sum_abs += e.abs();
            self.max_abs = self.max_abs.max(e.abs());
        }
        let classes = a.shape().last().copied().unwrap_or(1).max(1);
        if is_scores && classes > 1 {
            for (x, y) in x.chunks(classes).zip(y.chunks(classes)) {
                self.cases += 1;
                self.same += usize::from(largest(x) == largest(y));
            }
        }
    }

    /// The figures.
    pub fn finish(&self, name: &str) -> OutputDifference {
        let norms = (self.signal * self.other).sqrt();
        OutputDifference {
            name: name.to_owned(),
            snr_db: (self.noise > 0.0).then(|| 10.0 * (self.signal / self.noise).log10()),
            max_abs: self.max_abs,
            mean_abs: if self.elements == 0 { 0.0 } else { self.sum_abs / self.elements as f64 },
            cosine: if norms > 0.0 {
                (self.dot / norms).min(1.0)
            } else {
                f64::from(u8::from(self.signal == self.other))
            },
            agreement: (self.cases > 0).then(|| self.same as f64 / self.cases as f64),
            non_finite: self.non_finite,
            elements: self.elements,
        }
    }
}

/// The position of the largest element; the first where there are several.
pub fn largest(scores: &[f64]) -> usize {
    (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(v: &[f32]) -> Tensor {
        Tensor::from_vec(&[v.len()], v.to_vec()).unwrap()
    }

    #[test]
    fn figures() {
        let mut d = Differences::default();
        d.add(&tensor(&[3.0, 4.0]), &tensor(&[3.0, 4.5]), true);
        let d = d.finish("y");
        assert!((d.snr_db.unwrap() - 20.0).abs() < 1e-9);
        assert_eq!((d.max_abs, d.mean_abs, d.agreement), (0.5, 0.25, Some(1.0)));
        assert!((d.cosine - 27.0 / (5.0 * 29.25f64.sqrt())).abs() < 1e-12);
        assert!(d.within(20.0) && !d.within(20.1));
    }

    #[test]
    fn equal_is_infinitely_good() {
        let mut d = Differences::default();
        d.add(&tensor(&[0.0, 1.0]), &tensor(&[0.0, 1.0]), false);
        let d = d.finish("y");
        assert_eq!((d.snr_db, d.cosine), (None, 1.0));
        assert!(d.within(f64::INFINITY));
    }

    #[test]
    fn new_nans_are_never_within() {
        let mut d = Differences::default();
        d.add(&tensor(&[1.0, f32::NAN]), &tensor(&[f32::INFINITY, f32::NAN]), false);
        let d = d.finish("y");
        assert_eq!(d.non_finite, 1);
        assert!(!d.within(0.0));
    }

    #[test]
    fn labels_are_reported_not_judged() {
        let mut d = Differences::default();
        d.add(&Tensor::string("cat"), &Tensor::string("dog"), true);
        assert_eq!(d.finish("label").agreement, Some(0.0));
        assert!(d.finish("label").within(10.0));
    }
}
