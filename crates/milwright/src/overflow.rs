//! Measures the effect of a conversion to fp16 on the values inside a function: how large they become, and which ops
//! lose precision.

use std::collections::HashMap;
use std::time::Instant;

use milwright_mil::engine::{CompileOptions, ExecuteOptions, RunOptions};
use milwright_mil::{Checked, DType, Function, OpKind, Program, Tensor, Type, ValueId, verify};
use milwright_optimize::InMemory;
use milwright_optimize::float16::{self, Observed};

use crate::target::reference_engine;
use crate::{Error, ErrorKind, LoadOptions, Result, Samples, Snr};

/// The largest number of values that one run collects. They stay in memory until the end of the run.
const GROUP: usize = 256;

/// The largest number of bytes that one run collects.
const GROUP_BYTES: usize = 256 << 20;

/// The SNR of numbers that were rounded to fp16, which has 11 bits.
pub(crate) const ROUNDED_DB: f64 = 66.0;

/// An op loses precision if the SNR of its result is below this
pub(crate) const POOR_DB: f64 = 30.0;

/// and lower than that of its inputs by at least this.
pub(crate) const DROP_DB: f64 = 12.0;

/// The number of rounds of finding losses with the earlier ones kept in fp32.
const ROUNDS: usize = 4;

/// Returns the largest magnitude of every fp32 value in a function's body, over samples of one shape. Values in nested
/// blocks are not included.
///
/// # Errors
/// The function cannot be run.
pub(crate) fn magnitudes(
    program: &Checked,
    function: &str,
    samples: &Samples,
    options: &LoadOptions,
) -> Result<HashMap<ValueId, f64>> {
    let mut found = HashMap::new();
    let Some(f) = program.functions.get(function) else { return Ok(found) };
    for &input in f.inputs.iter().filter(|&&v| is_single(f, v)) {
        let given = samples.requests.iter().flat_map(|r| r.inputs()).filter(|(n, _)| *n == f[input].name);
        found.insert(input, given.map(|(_, t)| largest(t)).fold(0.0, f64::max));
    }
    for group in groups(f) {
        let results = probe(program, function, &group, samples, options)?;
        for results in results {
            for (&value, tensor) in group.iter().zip(&results) {
                let m = found.entry(value).or_default();
                *m = m.max(largest(tensor));
            }
        }
    }
    Ok(found)
}

/// Finds the values that a conversion to fp16 must leave in fp32 so that no op loses too much precision, and why.
/// Values in `observed` already stay in fp32. If an op's result has a much lower SNR than its inputs (the logarithm of
/// numbers that are subnormal in fp16, or the difference of nearly equal numbers), the op and its inputs stay in fp32.
///
/// # Errors
/// The function cannot be run.
pub(crate) fn losses(
    program: &Checked,
    function: &str,
    mut observed: Observed,
    samples: &Samples,
    options: &LoadOptions,
) -> Result<Observed> {
    let Some(f) = program.functions.get(function) else { return Ok(observed) };
    for _ in 0..ROUNDS {
        let mut half: Program = program.clone().into_inner();
        half.functions.retain(|name, _| name == function);
        let converted =
            float16::convert(function, &mut half.functions[function], &observed, &mut InMemory, &mut |_| ());
        converted.map_err(|e| unusable(&e))?;
        let half = verify(half)?;
        let figures = figures(program, &half, function, samples, options)?;
        let before = observed.lost.len();
        for &op in &f[f.body].ops {
            let op = &f[op];
            let known = |v: &ValueId| figures.get(v).copied();
            let Some(after) = op.outputs.iter().filter_map(known).reduce(f64::min) else { continue };
            let into: Vec<ValueId> =
                op.values().filter(|&v| is_single(f, v) && f.const_value(v).is_none()).collect();
            let best = into.iter().filter_map(known).fold(ROUNDED_DB, f64::min);
            // What is infinite before an op is not lost by it.
            if after >= POOR_DB || !best.is_finite() || best - after < DROP_DB {
                continue;
            }
            let output = op.outputs.first().map_or("", |&v| f[v].name.as_str());
            let after = if after.is_finite() { format!("{after:.0} dB") } else { "nothing".to_owned() };
            let why = format!(
                "{} `{output}` loses it in fp16: {best:.0} dB before it, {after} after",
                op.kind.name()
            );
            // If the results of a loop or conditional stay in fp32, the values in its blocks do, too.
            let results = op.outputs.iter().filter(|_| !op.blocks.is_empty());
            for value in into.into_iter().chain(results.copied()) {
                observed.lost.entry(value).or_insert_with(|| why.clone());
            }
        }
        if observed.lost.len() == before {
            break;
        }
    }
    Ok(observed)
}

/// The SNR of every value in the body, in dB.
fn figures(
    program: &Checked,
    half: &Checked,
    function: &str,
    samples: &Samples,
    options: &LoadOptions,
) -> Result<HashMap<ValueId, f64>> {
    let mut found = HashMap::new();
    for group in groups(&program.functions[function]) {
        let expected = probe(program, function, &group, samples, options)?;
        let results = probe(half, function, &group, samples, options)?;
        for (i, &value) in group.iter().enumerate() {
            let (mut signal, mut noise) = (0.0, 0.0);
            for (a, b) in expected.iter().zip(&results) {
                for (x, y) in a[i].to_f64().into_iter().zip(b[i].to_f64()) {
                    if x == y || !x.is_finite() {
                        signal += if x.is_finite() { x * x } else { 0.0 };
                        continue;
                    }
                    signal += x * x;
                    noise += if y.is_finite() { (x - y) * (x - y) } else { f64::INFINITY };
                }
            }
            let db = if noise.is_finite() { Snr::of_powers(signal, noise).decibels() } else { None };
            found.insert(value, db.unwrap_or(f64::NEG_INFINITY));
        }
    }
    Ok(found)
}

/// The fp32 results of the ops in a function's body, in groups that are measured in one run.
pub(crate) fn groups(f: &Function) -> Vec<Vec<ValueId>> {
    let ops = f[f.body].ops.iter().filter(|op| f[**op].kind != OpKind::Const);
    let values = ops.flat_map(|op| f[*op].outputs.iter().copied()).filter(|&v| is_single(f, v));
    let mut groups: Vec<Vec<ValueId>> = Vec::new();
    let mut bytes = usize::MAX;
    for value in values {
        let size = f[value]
            .ty
            .as_tensor()
            .and_then(|t| t.elements())
            .map_or(GROUP_BYTES / 64, |n| n.saturating_mul(4));
        bytes = bytes.saturating_add(size);
        match groups.last_mut().filter(|group| bytes <= GROUP_BYTES && group.len() < GROUP) {
            Some(group) => group.push(value),
            None => {
                groups.push(vec![value]);
                bytes = size;
            }
        }
    }
    groups
}

/// The number of runs, each with a compilation, that it takes to measure all values of a function.
pub(crate) fn probes(f: &Function) -> usize {
    groups(f).len()
}

/// Runs a function with the values of a group as outputs, for each sample that has the shapes of the first one.
pub(crate) fn probe(
    program: &Checked,
    function: &str,
    group: &[ValueId],
    samples: &Samples,
    options: &LoadOptions,
) -> Result<Vec<Vec<Tensor>>> {
    let mut results = Vec::new();
    probe_each(program, function, group, samples, options, &mut |found| results.push(found))?;
    Ok(results)
}

/// As [`probe`], and hands over what each sample gives.
pub(crate) fn probe_each(
    program: &Checked,
    function: &str,
    group: &[ValueId],
    samples: &Samples,
    options: &LoadOptions,
    take: &mut dyn FnMut(Vec<Tensor>),
) -> Result<()> {
    let Some(first) = samples.requests.first() else { return Ok(()) };
    let shapes: Vec<(&str, &[usize])> = first.inputs().iter().map(|(n, t)| (n.as_str(), t.shape())).collect();
    let mut probe = program.clone().into_inner();
    probe.functions.retain(|name, _| name == function);
    let f = &mut probe.functions[function];
    let body = f.body;
    f[body].outputs = group.to_vec();
    let stop = || options.cancel.is_cancelled();
    let limits = CompileOptions { memory: options.limits.memory, cancel: Some(&stop) };
    let engine = reference_engine();
    let plan = engine.compile(&verify(probe)?, function, &shapes, limits).map_err(|e| unusable(&e))?;
    let execute = ExecuteOptions { threads: options.threads, memory: options.limits.memory };
    let executable = plan.load(execute).map_err(|e| unusable(&e))?;
    let mut state = executable.new_state();
    for request in &samples.requests {
        options.cancel.check()?;
        let inputs: Vec<(&str, Tensor)> =
            request.inputs().iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        if inputs.iter().map(|(n, t)| (*n, t.shape())).ne(shapes.iter().copied()) {
            continue;
        }
        let until = options.limits.prediction.and_then(|limit| Instant::now().checked_add(limit));
        let stop = || options.cancel.is_cancelled() || until.is_some_and(|until| Instant::now() >= until);
        let run = RunOptions { state: Some(&mut state), cancel: Some(&stop), ..RunOptions::default() };
        let outputs = executable.run(&inputs, run).map_err(|e| match options.cancel.check() {
            Err(stopped) => stopped,
            Ok(()) => unusable(&e),
        })?;
        take(outputs.into_iter().map(|(_, tensor)| tensor).collect());
    }
    Ok(())
}

pub(crate) fn unusable(e: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Runtime, e.to_string())
}

fn is_single(f: &Function, value: ValueId) -> bool {
    matches!(&f[value].ty, Type::Tensor(t) if t.dtype == DType::Fp32)
}

/// The largest finite magnitude.
fn largest(tensor: &Tensor) -> f64 {
    tensor.to_f64().into_iter().filter(|x| x.is_finite()).fold(0.0, |m, x| m.max(x.abs()))
}

#[cfg(test)]
mod tests {
    use milwright_mil::text::parse;

    use super::*;
    use crate::InferenceRequest;

    /// A division by what fp16 rounds to zero is infinite, and so is all that follows: only the division is to blame, and
    /// the rest stays in fp16.
    #[test]
    fn what_follows_an_infinity_is_not_to_blame() {
        let text = "program(1.3) { func main<ios17>(tensor<fp32, [64]> x) {
            tensor<fp32, [64]> small = mul(x = x, y = fp32(1e-4))[name = string(\"small\")];
            tensor<fp32, [64]> tiny = mul(x = small, y = fp32(1e-4))[name = string(\"tiny\")];
            tensor<fp32, [64]> inverse = real_div(x = small, y = tiny)[name = string(\"inverse\")];
            tensor<fp32, [64]> more = add(x = inverse, y = fp32(1))[name = string(\"more\")];
            tensor<fp32, [64]> root = sqrt(x = more)[name = string(\"root\")];
            tensor<fp32, [64]> y = relu(x = root)[name = string(\"y\")];
        } -> (y); }";
        let program = verify(parse(text).unwrap()).unwrap();
        let x = Tensor::from_vec(&[64], (0..64).map(|i| 1.0 + i as f32 / 64.0).collect()).unwrap();
        let samples = Samples::given(vec![InferenceRequest::new().input("x", x)]);
        let observed = Observed::default();
        let found = losses(&program, "main", observed, &samples, &LoadOptions::default()).unwrap();
        let f = &program.functions["main"];
        let mut lost: Vec<&str> = found.lost.keys().map(|&v| f[v].name.as_str()).collect();
        lost.sort_unstable();
        assert_eq!(lost, ["small", "tiny"]);
    }
}
