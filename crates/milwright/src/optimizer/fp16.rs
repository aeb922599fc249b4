//! Finds the ops of a model that fp16 loses: see [`find_fp16_losses`].

use std::collections::HashMap;
use std::sync::Arc;

use milwright_mil::{Checked, DType, Function, OpId, OpKind, Program, Tensor, Type, ValueId, verify, widen};
use milwright_optimize::InMemory;
use milwright_optimize::float16::{self, Observed};
use serde::Serialize;

use super::inner::{inner, least_probability};
use super::parts::{Part, Source};
use crate::kinds::Task;
use crate::model::Content;
use crate::overflow::{DROP_DB, POOR_DB, ROUNDED_DB, groups, probe, unusable};
use crate::{Error, ErrorKind, LoadOptions, Model, Result, SampleSource, Samples, Snr};

/// What fp16 does to a model: the result of [`find_fp16_losses`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Fp16Report {
    /// Whether the model computes in fp16 already, in part at least. If not, the report is about what it would become.
    pub is_fp16: bool,
    /// What it was run on.
    pub inputs: SampleSource,
    /// How many sets of inputs that were.
    pub sets: usize,
    /// What is lost, and what is close to a limit, in the order of the program.
    pub findings: Vec<Fp16Finding>,
    /// How many ops were looked at.
    pub ops: usize,
    /// Ops inside loops and conditionals, which were not looked at one by one.
    pub hidden: usize,
    /// By how much the values that fit may grow before the first of them overflows; `None` if there are none.
    pub headroom: Option<f64>,
}

/// An op that fp16 loses, or nearly does.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Fp16Finding {
    /// The function, and the model in a pipeline.
    pub function: String,
    /// The op in MIL, such as `exp`.
    pub op: &'static str,
    /// The op's name, which converters take from the layer of the source.
    pub name: String,
    /// The name of the value that is lost: the op's output, or the input that a step inside the op is made of.
    pub value: String,
    /// What happens.
    pub signal: Fp16Signal,
    /// The step inside the op, such as `exp(x)`, if it is one.
    pub inner: Option<&'static str>,
    /// The magnitude that was found, in fp32.
    pub magnitude: f64,
    /// The limit of fp16 that it is compared with: its largest number, its least normal one, the largest that becomes
    /// zero; for digits, the distance from one number to the next where the op's data lies.
    pub limit: f64,
    /// How far it is from the limit: the factor by which it may grow, or shrink. Below 1, it is beyond the limit.
    pub margin: f64,
    /// The share of numbers that are not zero and below fp16's normal range, for small ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The SNR in dB of the op's result in fp16, where it ran in both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snr_db: Option<Snr>,
    /// Whether it is lost, and not only close to a limit.
    pub lost: bool,
}

/// How fp16 loses a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fp16Signal {
    /// It is above 65504, where fp16 ends.
    Overflow,
    /// It is so small that it loses digits, or becomes zero, and the result depends on it.
    Underflow,
    /// It has more digits than fp16 keeps, and the result depends on the last ones: whole numbers above 2048, or the
    /// difference of nearly equal numbers.
    Digits,
    /// A step inside the op overflows, or becomes zero, where a unit takes no precautions.
    Inner,
}

/// The least number that has all its digits in fp16.
const LEAST_NORMAL: f64 = 6.103_515_625e-5;
/// The largest number that fp16 rounds to zero.
const LARGEST_ZERO: f64 = 2.980_232_238_769_531e-8;
/// What may not grow by this factor is reported.
const CLOSE: f64 = 4.0;
/// If at least this share of numbers is below the normal range, a loss is due to that.
const SMALL_SHARE: f64 = 0.1;

/// Runs a model in fp32 and in fp16, and finds the ops that fp16 loses. For a model in fp32, that is what it would
/// become; for one that computes in fp16, what it is, compared with the same program in fp32.
///
/// There are three signals: values above fp16's range; results that are much worse than what they are computed from,
/// because numbers are too small or have too many digits; and steps inside composite ops (softplus, logsumexp, norms,
/// the logarithm of a softmax) that leave the range where a unit computes them in fp16 without precautions. Our engine
/// does take them, so that only the numbers tell.
///
/// ```
/// # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
/// use std::sync::Arc;
/// use milwright::{LoadOptions, Model, Samples, find_fp16_losses};
///
/// let model = Arc::new(Model::open(format!("{root}examples/digits.mlpackage"))?);
/// let samples = Samples::draw(&model, None, 0, 2)?;
/// let report = find_fp16_losses(&model, None, &samples, &LoadOptions::default())?;
/// assert!(report.findings.iter().all(|finding| !finding.lost));
/// # Ok::<(), milwright::Error>(())
/// ```
///
/// # Errors
/// The model has no program, or cannot be run on the samples.
pub fn find_fp16_losses(
    model: &Arc<Model>,
    function: Option<&str>,
    samples: &Samples,
    options: &LoadOptions,
) -> Result<Fp16Report> {
    if matches!(model.content(), Content::Classic(_)) {
        let message = "it has no program: it is computed in double precision, never in fp16";
        return Err(Error::new(ErrorKind::Unsupported, message).at(model.path()));
    }
    let source = Source::new(model, None, Task::Convert)?;
    let mut report = Fp16Report {
        is_fp16: false,
        inputs: samples.source.clone(),
        sets: samples.requests.len(),
        findings: Vec::new(),
        ops: 0,
        hidden: 0,
        headroom: None,
    };
    let mut largest: f64 = 0.0;
    for part in &source.parts {
        let default = &source.model.info().default_function;
        let names = part.program.functions.keys();
        let wanted = function.unwrap_or(default);
        for name in names.filter(|name| !part.is_whole() || *name == wanted) {
            let looked = look(&source, part, name, samples, options).map_err(|e| e.at(model.path()))?;
            report.is_fp16 |= looked.is_fp16;
            report.ops += looked.ops;
            report.hidden += looked.hidden;
            report.findings.extend(looked.findings);
            largest = largest.max(looked.largest);
        }
    }
    report.headroom = (largest > 0.0).then(|| float16::LARGEST / largest);
    Ok(report)
}

/// What was found in one function.
struct Looked {
    is_fp16: bool,
    findings: Vec<Fp16Finding>,
    ops: usize,
    hidden: usize,
    /// The largest magnitude that fits fp16.
    largest: f64,
}

fn look(
    source: &Source,
    part: &Part,
    name: &str,
    samples: &Samples,
    options: &LoadOptions,
) -> Result<Looked> {
    let only = |program: &Checked| {
        let mut program: Program = program.clone().into_inner();
        program.functions.retain(|n, _| n == name);
        program
    };
    let declared = verify(only(&part.program))?;
    let is_fp16 = declared.functions[name].values().any(|(_, v)| is(&v.ty, DType::Fp16));
    let (single, half) = if is_fp16 {
        (widen(declared.clone())?, declared)
    } else {
        let mut half = only(&part.program);
        let f = &mut half.functions[name];
        float16::convert(name, f, &Observed::default(), &mut InMemory, &mut |_| ())
            .map_err(|e| unusable(&e))?;
        (declared, verify(half)?)
    };
    let samples = source.samples_of(part, name, samples, options)?;
    let given = [&single, &half].map(|program| converted(&samples, &program.functions[name]));
    let f = &single.functions[name];
    let mut takers: HashMap<ValueId, Vec<OpId>> = HashMap::new();
    for &op in &f[f.body].ops {
        if let Some(x) = f[op].value("x") {
            takers.entry(x).or_default().push(op);
        }
    }
    let (figures, inside) = (HashMap::new(), HashMap::new());
    let mut finder = Finder { f, function: part.function(name), takers, figures, inside };
    for &input in f.inputs.iter().filter(|&&v| is(&f[v].ty, DType::Fp32)) {
        let tensors = given[0].requests.iter().flat_map(|r| r.inputs());
        for (_, tensor) in tensors.filter(|(n, _)| *n == f[input].name) {
            finder.see(input, tensor, None);
        }
    }
    for group in groups(f) {
        let expected = probe(&single, name, &group, &given[0], options)?;
        let found = probe(&half, name, &group, &given[1], options)?;
        for (expected, found) in expected.iter().zip(&found) {
            for ((&value, x), y) in group.iter().zip(expected).zip(found) {
                finder.see(value, x, Some(y));
            }
        }
    }
    let body = f[f.body].ops.len();
    let fits = finder.figures.values().map(|figure| figure.largest).filter(|&m| m <= float16::LARGEST);
    Ok(Looked {
        is_fp16,
        largest: fits.fold(0.0, f64::max),
        findings: finder.findings(),
        ops: body,
        hidden: f.walk().len() - body,
    })
}

/// Samples in the element types that a function declares.
fn converted(samples: &Samples, function: &Function) -> Samples {
    let mut samples = samples.clone();
    let declared = function.inputs_by_name();
    for request in &mut samples.requests {
        let given = request.clone();
        for (name, tensor) in given.inputs() {
            let input = declared.get(name.as_str());
            let dtype = input.and_then(|&v| Some(function[v].ty.as_tensor()?.dtype));
            if let Some(tensor) = dtype.filter(|&d| d != tensor.dtype()).and_then(|d| tensor.converted(d)) {
                *request = std::mem::take(request).input(name, tensor);
            }
        }
    }
    samples
}

fn is(ty: &Type, dtype: DType) -> bool {
    matches!(ty, Type::Tensor(t) if t.dtype == dtype)
}

/// What was seen of a value.
#[derive(Default)]
struct Figure {
    /// The largest finite magnitude in fp32.
    largest: f64,
    /// Numbers that are not zero, and those of them below the normal range of fp16.
    numbers: usize,
    small: usize,
    /// The largest of the small ones.
    largest_small: f64,
    /// Powers of the fp32 numbers and of their differences to fp16.
    signal: f64,
    noise: f64,
    ran: bool,
}

impl Figure {
    /// The SNR in dB; negative infinity if nothing is right.
    fn snr_db(&self) -> Option<f64> {
        let known = |noise: f64| Snr::of_powers(self.signal, noise).decibels();
        self.ran
            .then(|| Some(self.noise).filter(|n| n.is_finite()).and_then(known))
            .map(|db| db.unwrap_or(f64::NEG_INFINITY))
    }

    fn share(&self) -> f64 {
        if self.numbers == 0 { 0.0 } else { self.small as f64 / self.numbers as f64 }
    }
}

struct Finder<'a> {
    f: &'a Function,
    /// The function's name in the report.
    function: String,
    /// For each value, the ops whose data it is.
    takers: HashMap<ValueId, Vec<OpId>>,
    figures: HashMap<ValueId, Figure>,
    /// The largest step inside an op, and the least number that enters the logarithm of a softmax.
    inside: HashMap<OpId, (&'static str, f64)>,
}

impl Finder<'_> {
    /// Adds a value in fp32 and, if it ran there, in fp16.
    fn see(&mut self, value: ValueId, x: &Tensor, y: Option<&Tensor>) {
        let figure = self.figures.entry(value).or_default();
        let halves = y.map(Tensor::to_f64);
        figure.ran |= halves.is_some();
        for (i, a) in x.to_f64().into_iter().enumerate().filter(|(_, a)| a.is_finite()) {
            figure.largest = figure.largest.max(a.abs());
            if a != 0.0 {
                figure.numbers += 1;
                if a.abs() < LEAST_NORMAL {
                    figure.small += 1;
                    figure.largest_small = figure.largest_small.max(a.abs());
                }
            }
            figure.signal += a * a;
            if let Some(&b) = halves.as_ref().and_then(|h| h.get(i)) {
                figure.noise += if b.is_finite() { (a - b) * (a - b) } else { f64::INFINITY };
            }
        }
        for &id in self.takers.get(&value).into_iter().flatten() {
            let op = &self.f[id];
            let seen = match (inner(self.f, op, x), least_probability(self.f, op, x)) {
                (Some(inner), _) => Some((inner.formula, inner.largest)),
                (_, Some(least)) => Some((PROBABILITY, least)),
                _ => None,
            };
            if let Some((formula, found)) = seen {
                let so_far = self.inside.entry(id).or_insert((formula, found));
                so_far.1 = if formula == PROBABILITY { so_far.1.min(found) } else { so_far.1.max(found) };
            }
        }
    }

    fn findings(&self) -> Vec<Fp16Finding> {
        let ops = self.f[self.f.body].ops.iter().copied();
        let computes = |&id: &OpId| {
            let kind = self.f[id].kind;
            kind != OpKind::Const && !kind.name().starts_with("constexpr_")
        };
        ops.filter(computes).flat_map(|id| self.of_op(id)).collect()
    }

    fn of_op(&self, id: OpId) -> Vec<Fp16Finding> {
        let op = &self.f[id];
        let mut found = Vec::new();
        let outputs = || op.outputs.iter().filter_map(|v| Some((*v, self.figures.get(v)?)));
        let inputs = || op.values().filter_map(|v| Some((v, self.figures.get(&v)?)));
        let snr_db = outputs().filter_map(|(_, figure)| figure.snr_db()).reduce(f64::min);
        let before = inputs().filter_map(|(_, figure)| figure.snr_db()).fold(ROUNDED_DB, f64::min);
        let finding = |value: ValueId, signal, magnitude: f64, limit: f64, margin: f64| Fp16Finding {
            function: self.function.clone(),
            op: op.kind.name(),
            // An op need not have a name; its outputs have names.
            name: match op.name() {
                "" => op.outputs.first().map_or(String::new(), |&v| self.f[v].name.clone()),
                name => name.to_owned(),
            },
            value: self.f[value].name.clone(),
            signal,
            inner: None,
            magnitude: magnitude.min(f64::MAX),
            limit,
            margin,
            share: None,
            snr_db: snr_db
                .map(|db| if db == f64::INFINITY { Snr::Equal } else { Snr::Decibels(db) })
                .filter(|snr| snr.rank().is_finite() || *snr == Snr::Equal),
            lost: margin < 1.0,
        };
        for (value, figure) in outputs() {
            let margin = float16::LARGEST / figure.largest;
            // An op that passes on a large number is not where it comes from.
            let passes = inputs().any(|(_, input)| input.largest >= figure.largest);
            if margin < CLOSE && !passes {
                found.push(finding(value, Fp16Signal::Overflow, figure.largest, float16::LARGEST, margin));
            }
        }
        let x = op.value("x");
        if let (Some(&(formula, number)), Some(x)) = (self.inside.get(&id), x) {
            let (limit, margin) = match formula {
                PROBABILITY => (LARGEST_ZERO, number / LARGEST_ZERO),
                _ => (float16::LARGEST, float16::LARGEST / number),
            };
            if margin < CLOSE {
                let inner = finding(x, Fp16Signal::Inner, number, limit, margin);
                found.push(Fp16Finding { inner: Some(formula), ..inner });
            }
        }
        let overflows = found.iter().any(|f| f.signal == Fp16Signal::Overflow && f.lost);
        let is_lost = snr_db.is_some_and(|after| after < POOR_DB && before - after >= DROP_DB);
        if is_lost && !overflows && before.is_finite() {
            // Of several that are equally small, the last: what is lost before what it is made of.
            let small = inputs().chain(outputs()).filter(|(_, figure)| figure.share() >= SMALL_SHARE);
            let most = small.max_by(|(_, a), (_, b)| a.share().total_cmp(&b.share()));
            let output = outputs().next();
            if let Some((value, figure)) = most {
                let number = figure.largest_small;
                let of = finding(value, Fp16Signal::Underflow, number, LEAST_NORMAL, number / LEAST_NORMAL);
                found.push(Fp16Finding { share: Some(figure.share()), lost: true, ..of });
            } else if let Some((value, figure)) = output {
                let largest = inputs().map(|(_, figure)| figure.largest).fold(0.0, f64::max);
                let (number, step) = (figure.largest, largest / STEPS);
                let of = finding(value, Fp16Signal::Digits, number, step, number / step);
                found.push(Fp16Finding { lost: true, ..of });
            }
        }
        found
    }
}

const PROBABILITY: &str = "the probability under log";
/// fp16 has this many steps from one power of two to the next, so that it has all whole numbers up to twice as many.
const STEPS: f64 = 1024.0;
