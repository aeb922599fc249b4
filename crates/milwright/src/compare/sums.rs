//! Sums up how two results differ, sample by sample.

use super::{Measure, OutputDifference, Part, Role, Slice, Snr};
use crate::{DType, Tensor};

/// Outputs with fewer numbers than this are sometimes near zero by chance. Each sample of them is measured against the
/// median signal instead of its own.
const FEW: usize = 16;

/// A part counts as at least this share of the median power (−20 dB): in a dark image, errors are as large as in a
/// bright one.
const QUIET: f64 = 1e-2;

/// The same (−60 dB) for slices along a dimension of at most `CHANNELS`, whose slices may have different units.
const QUIET_CHANNEL: f64 = 1e-6;
const CHANNELS: usize = 32;

/// Slices with fewer numbers than this are not judged.
const MIN_SLICE: usize = 64;

/// What changes between samples is measured on at most this many elements, evenly spaced.
const MAX_TRACKED: usize = 1 << 20;

/// Slices are measured only in outputs of at most this many elements.
const MAX_SLICED: usize = 1 << 24;

/// Changes below this share of the total power are not measured.
const HARDLY: f64 = 1e-10;

/// Sums up differences of one output over several runs.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    measure: Measure,
    role: Role,
    /// Whether the output cannot depend on any input.
    fixed: bool,
    sets: Vec<Set>,
    slices: Vec<Vec<Powers>>,
    other: f64,
    dot: f64,
    /// The largest magnitude of the original.
    peak: f64,
    /// The summed divergences of the rows of scores.
    kl: f64,
    max_abs: f64,
    sum_abs: f64,
    finite: usize,
    elements: usize,
    non_finite: usize,
    cases: usize,
    same: usize,
    changes: Changes,
    other_type: Option<String>,
    faults: Vec<String>,
    /// Why a part of it cannot be judged.
    unjudged: Option<String>,
}

/// The summed squares of a signal and of its error.
#[derive(Clone, Copy, Debug, Default)]
struct Powers {
    signal: f64,
    noise: f64,
    count: usize,
}

/// The sums of one sample.
#[derive(Clone, Copy, Debug, Default)]
struct Set {
    powers: Powers,
    cases: usize,
    same: usize,
    /// Whether the two results are identical.
    is_equal: bool,
}

/// Sums up what changes from sample to sample.
#[derive(Clone, Debug, Default)]
struct Changes {
    /// The original's result for the first sample.
    first: Option<Tensor>,
    /// Whether a later result differs from the first.
    changed: bool,
    /// The number of results with the shape of the first one. Others are left out, because there is no mean over
    /// different shapes.
    sets: usize,
    /// The value and the error of each tracked element in the first sample.
    start: Vec<(f64, f64)>,
    /// The sums of the differences from `start`, and of their squares. They are not finite for an element that was
    /// ever NaN or infinite.
    values: Vec<Moments>,
    errors: Vec<Moments>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    sum: f64,
    squares: f64,
}

impl Differences {
    /// Sums with no results yet.
    pub fn new(measure: Measure) -> Differences {
        Differences { measure, ..Differences::default() }
    }

    /// The measure for a tensor about which nothing else is known.
    pub fn measure_of(tensor: &Tensor) -> Measure {
        if tensor.dtype().is_float() { Measure::Numbers } else { Measure::Choices }
    }

    /// Marks these sums as those of a state.
    #[must_use]
    pub fn of_state(self) -> Differences {
        Differences { role: Role::State, ..self }
    }

    /// Marks these sums as those of an output that cannot depend on any input.
    #[must_use]
    pub fn fixed(self) -> Differences {
        Differences { fixed: true, ..self }
    }

    /// Records a fault, which is wrong at any tolerance. Duplicates are dropped.
    pub fn fault(&mut self, fault: impl Into<String>) {
        let fault = fault.into();
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// Whether there is a fault.
    pub(crate) fn is_faulty(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Records why a part cannot be judged. Under a tolerance that counts as a failure.
    pub(crate) fn not_judged(&mut self, why: impl Into<String>) {
        self.unjudged.get_or_insert(why.into());
    }

    /// Adds a result of the original (`a`) and of the other model (`b`).
    pub fn add(&mut self, a: &Tensor, b: &Tensor) {
        self.changes.see(a);
        self.add_of_another_size(a, b);
    }

    /// Adds results for inputs of another shape, as [`add`](Differences::add) does. A difference to the results at the
    /// first shape does not show that the output depends on the inputs' values.
    pub(crate) fn add_of_another_size(&mut self, a: &Tensor, b: &Tensor) {
        self.elements += a.elements();
        if a.shape() != b.shape() {
            return self.fault(format!("it has the shape {:?}, not {:?}", b.shape(), a.shape()));
        }
        if Kind::of(a) != Kind::of(b) {
            return self.fault(format!("it has elements of type {}, not {}", b.dtype(), a.dtype()));
        }
        if a.dtype() != b.dtype() {
            self.other_type = Some(b.dtype().to_string());
        }
        let mut set = Set { is_equal: true, ..Set::default() };
        if self.measure == Measure::Choices || a.dtype() == DType::String {
            self.measure = Measure::Choices;
            let same = matches(a, b);
            (set.cases, set.same) = (a.elements(), same);
            set.is_equal = same == a.elements();
        } else {
            self.add_numbers(a, b, &mut set);
        }
        self.cases += set.cases;
        self.same += set.same;
        self.sets.push(set);
    }

    fn add_numbers(&mut self, a: &Tensor, b: &Tensor, set: &mut Set) {
        let (x, y) = (a.to_f64(), b.to_f64());
        let errors = errors(a, b, &x, &y);
        for ((&x, &y), &e) in x.iter().zip(&y).zip(&errors) {
            if !x.is_finite() || !y.is_finite() {
                let same = x == y || (x.is_nan() && y.is_nan());
                self.non_finite += usize::from(!same);
                continue;
            }
            self.finite += 1;
            set.is_equal &= e == 0.0;
            set.powers.add(x, e);
            self.other += y * y;
            self.dot += x * y;
            self.sum_abs += e.abs();
            self.max_abs = self.max_abs.max(e.abs());
            self.peak = self.peak.max(x.abs());
        }
        let is_first = self.changes.first.as_ref().is_none_or(|first| first.shape() == a.shape());
        if is_first {
            self.changes.add(&x, &errors);
            self.add_slices(a.shape(), &x, &errors);
        }
        let classes = a.shape().last().copied().unwrap_or(1);
        if matches!(self.measure, Measure::Scores | Measure::Classes) && classes > 1 {
            for (x, y) in x.chunks(classes).zip(y.chunks(classes)) {
                set.cases += 1;
                set.same += usize::from(super::largest(x) == super::largest(y));
                self.kl += divergence(x, y);
            }
        }
    }

    fn add_slices(&mut self, shape: &[usize], x: &[f64], errors: &[f64]) {
        if x.is_empty() || x.len() > MAX_SLICED {
            return;
        }
        if self.slices.is_empty() {
            self.slices = shape.iter().map(|&n| vec![Powers::default(); if n > 1 { n } else { 0 }]).collect();
        }
        let mut inner: usize = shape.iter().product();
        for (slices, &n) in self.slices.iter_mut().zip(shape) {
            inner /= n.max(1);
            if slices.is_empty() {
                continue;
            }
            for (i, (x, e)) in x.chunks(inner).zip(errors.chunks(inner)).enumerate() {
                let powers = &mut slices[i % n];
                // Elements that are not finite are equal in both results, or a failure in any case.
                let finite = x.iter().zip(e).filter(|(x, e)| x.is_finite() && e.is_finite());
                finite.for_each(|(&x, &e)| powers.add(x, e));
            }
        }
    }

    /// Computes the resulting difference.
    pub fn finish(&self, name: &str) -> OutputDifference {
        let numbers = self.measure != Measure::Choices;
        let agreement = (self.cases > 0).then(|| self.same as f64 / self.cases as f64);
        let measured = (numbers && self.finite > 0 && self.non_finite == 0).then_some(());
        let norms = (self.signal().signal * self.other).sqrt();
        let several = self.sets.len() > 1 && self.faults.is_empty();
        let constant = several && self.changes.first.is_some() && !self.changes.changed;
        let mut found = OutputDifference {
            name: name.to_owned(),
            role: self.role,
            measure: self.measure,
            snr_db: Snr::Unknown,
            psnr_db: measured.map_or(Snr::Unknown, |()| self.peak_snr()),
            kl: measured.filter(|()| self.cases > 0).map(|()| self.kl / self.cases as f64),
            max_abs: measured.map(|()| self.max_abs),
            mean_abs: measured.map(|()| self.sum_abs / self.finite as f64),
            cosine: measured
                .filter(|()| norms > 0.0 && norms.is_finite())
                .map(|()| (self.dot / norms).clamp(-1.0, 1.0)),
            agreement,
            non_finite: self.non_finite,
            elements: self.elements,
            worst_set: several.then(|| self.worst_set()).flatten(),
            worst_slice: if several || self.sets.len() == 1 { self.worst_slice() } else { None },
            varying_snr_db: several.then(|| self.varying()).flatten(),
            constant,
            other_type: self.other_type.clone(),
            faults: self.faults.clone(),
            reason: None,
        };
        (found.snr_db, found.reason) = self.whole(agreement);
        if found.reason.is_none() && self.role == Role::Output && !self.fixed {
            found.reason = self.proves_nothing(constant);
        }
        if let Some(why) = &self.unjudged {
            found.reason = Some(why.clone());
        }
        found
    }

    fn signal(&self) -> Powers {
        self.sets.iter().fold(Powers::default(), |all, set| all.and(set.powers))
    }

    fn peak_snr(&self) -> Snr {
        Snr::of_powers(self.peak * self.peak * self.finite as f64, self.signal().noise)
    }

    /// The SNR of the whole output, and why there is none.
    fn whole(&self, agreement: Option<f64>) -> (Snr, Option<String>) {
        let none = |why: &str| (Snr::Unknown, Some(why.to_owned()));
        if !self.faults.is_empty() {
            return none("it cannot be compared");
        }
        if self.elements == 0 {
            // Both results are empty, such as a list of boxes without a detection.
            return (Snr::Equal, (!self.fixed).then(|| "it has no elements".to_owned()));
        }
        if self.measure == Measure::Choices {
            return (agreement.map_or(Snr::Unknown, Snr::of_agreement), None);
        }
        let powers = self.signal();
        if self.finite == 0 && !(self.fixed && self.non_finite == 0) {
            return none("no element is finite in both");
        }
        if self.sets.iter().all(|s| s.is_equal) {
            return (if self.non_finite == 0 { Snr::Equal } else { Snr::Unknown }, None);
        }
        if powers.signal == 0.0 {
            return none("the original is zero everywhere, and the other is not: there is no signal");
        }
        match Snr::of_powers(powers.signal, powers.noise) {
            Snr::Decibels(db) => (Snr::Decibels(db), None),
            _ => none("its numbers are too large or too small to be squared"),
        }
    }

    /// Why an output that is within the tolerance proves nothing; `None` if it does prove something.
    fn proves_nothing(&self, constant: bool) -> Option<String> {
        if constant {
            return Some("it does not depend on the inputs, so that it proves nothing".to_owned());
        }
        // A single sample does not show whether an output changes, but one that is zero everywhere most likely never
        // does.
        let zero = self.measure != Measure::Choices && self.finite > 0 && self.signal().signal == 0.0;
        zero.then(|| "it is zero everywhere, so that it proves nothing".to_owned())
    }

    fn worst_set(&self) -> Option<Part> {
        if self.measure == Measure::Choices {
            let share = |s: &Set| s.same as f64 / s.cases as f64;
            let sets = self.sets.iter().enumerate().filter(|(_, s)| s.cases >= FEW);
            let (index, set) = sets.min_by(|a, b| share(a.1).total_cmp(&share(b.1)))?;
            return Some(Part { index, snr_db: Snr::of_agreement(share(set)) });
        }
        let all: Vec<Powers> = self.sets.iter().map(|s| s.powers).collect();
        let few = all.iter().any(|s| s.count < FEW);
        let (index, snr_db) = worst(&all, if few { 1.0 } else { QUIET })?;
        Some(Part { index, snr_db })
    }

    fn worst_slice(&self) -> Option<Slice> {
        let mut found: Option<Slice> = None;
        for (axis, slices) in self.slices.iter().enumerate() {
            if slices.iter().any(|s| s.count < MIN_SLICE) {
                continue;
            }
            let quiet = if slices.len() <= CHANNELS { QUIET_CHANNEL } else { QUIET };
            let Some((index, snr_db)) = worst(slices, quiet) else { continue };
            if found.is_none_or(|f| snr_db.rank() < f.snr_db.rank()) {
                found = Some(Slice { axis, index, snr_db });
            }
        }
        found
    }

    fn varying(&self) -> Option<Snr> {
        if self.measure == Measure::Choices || self.changes.sets < 2 {
            return None;
        }
        let sets = self.changes.sets as f64;
        let power = |m: &Moments| m.squares - m.sum * m.sum / sets;
        let (mut values, mut errors, mut tracked) = (0.0, 0.0, 0.0);
        let all = self.changes.values.iter().zip(&self.changes.errors).zip(&self.changes.start);
        for ((value, error), (start, _)) in all {
            // An element that was ever NaN or infinite has no mean.
            if value.squares.is_finite() && error.squares.is_finite() {
                values += power(value);
                errors += power(error);
                tracked += start * start * sets;
            }
        }
        (values > HARDLY * tracked).then(|| Snr::of_powers(values, errors.max(0.0)))
    }
}

/// The Kullback–Leibler divergence of a distribution from another, in nats.
fn divergence(a: &[f64], b: &[f64]) -> f64 {
    /// Probabilities below this count as this much.
    const LEAST: f64 = 1e-12;
    let (p, q) = (distribution(a), distribution(b));
    let of = |(p, q): (&f64, &f64)| if *p > 0.0 { p * (p.max(LEAST) / q.max(LEAST)).ln() } else { 0.0 };
    p.iter().zip(&q).map(of).sum::<f64>().max(0.0)
}

/// Scores as probabilities: as they are if they are such, else as their logarithms (softmax).
fn distribution(scores: &[f64]) -> Vec<f64> {
    const ROUNDING: f64 = 5e-3;
    let sum: f64 = scores.iter().sum();
    if scores.iter().all(|x| *x >= 0.0) && (sum - 1.0).abs() < ROUNDING {
        return scores.iter().map(|x| x / sum).collect();
    }
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|x| x / sum).collect()
}

/// The part with the lowest SNR. A part that is weaker than a share of the median counts as that strong.
fn worst(parts: &[Powers], quiet: f64) -> Option<(usize, Snr)> {
    let mut signals: Vec<f64> = parts.iter().map(|p| p.signal / p.count.max(1) as f64).collect();
    signals.sort_by(f64::total_cmp);
    let middle = *signals.get(signals.len() / 2)?;
    let figure = |p: &Powers| Snr::of_powers(p.signal.max(quiet * middle * p.count as f64), p.noise);
    let all = parts.iter().map(figure).enumerate();
    all.filter(|(_, snr)| *snr != Snr::Unknown).min_by(|a, b| a.1.rank().total_cmp(&b.1.rank()))
}

impl Powers {
    fn add(&mut self, value: f64, error: f64) {
        self.signal += value * value;
        self.noise += error * error;
        self.count += 1;
    }

    fn and(self, other: Powers) -> Powers {
        Powers {
            signal: self.signal + other.signal,
            noise: self.noise + other.noise,
            count: self.count + other.count,
        }
    }
}

impl Changes {
    fn see(&mut self, a: &Tensor) {
        match &self.first {
            None => self.first = Some(a.clone()),
            Some(first) => self.changed |= first != a,
        }
    }

    fn add(&mut self, values: &[f64], errors: &[f64]) {
        self.sets += 1;
        let step = values.len().div_ceil(MAX_TRACKED).max(1);
        let tracked = || values.iter().copied().zip(errors.iter().copied()).step_by(step);
        if self.start.is_empty() {
            self.start = tracked().collect();
            self.values = vec![Moments::default(); self.start.len()];
            self.errors = self.values.clone();
        }
        for (i, (x, e)) in tracked().enumerate() {
            let (x0, e0) = self.start[i];
            self.values[i].add(x - x0);
            self.errors[i].add(e - e0);
        }
    }
}

impl Moments {
    fn add(&mut self, x: f64) {
        self.sum += x;
        self.squares += x * x;
    }
}

/// The kinds of element types. Tensors of the same kind can be compared.
#[derive(PartialEq, Eq)]
enum Kind {
    Float,
    Whole,
    Truth,
    Text,
}

impl Kind {
    fn of(tensor: &Tensor) -> Kind {
        match tensor.dtype() {
            DType::String => Kind::Text,
            DType::Bool => Kind::Truth,
            d if d.is_float() => Kind::Float,
            _ => Kind::Whole,
        }
    }
}

/// The element-wise difference, the original minus the other. Large integers are subtracted without rounding.
fn errors(a: &Tensor, b: &Tensor, x: &[f64], y: &[f64]) -> Vec<f64> {
    match (a.to_i64(), b.to_i64()) {
        (Some(a), Some(b)) => {
            a.iter().zip(&b).map(|(&a, &b)| (i128::from(a) - i128::from(b)) as f64).collect()
        }
        _ => x.iter().zip(y).map(|(x, y)| x - y).collect(),
    }
}

/// The number of equal elements.
fn matches(a: &Tensor, b: &Tensor) -> usize {
    if a.dtype() == DType::String {
        return a.strings().iter().zip(b.strings()).filter(|(a, b)| a == b).count();
    }
    match (a.to_i64(), b.to_i64()) {
        (Some(a), Some(b)) => a.iter().zip(&b).filter(|(a, b)| a == b).count(),
        _ => {
            let same = |(x, y): &(f64, f64)| x == y || (x.is_nan() && y.is_nan());
            a.to_f64().into_iter().zip(b.to_f64()).filter(same).count()
        }
    }
}
