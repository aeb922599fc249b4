//! Integers between ops: finds the ranges of values in runs on samples, and which values have to stay floats.

use milwright_mil::{Checked, Function, OpKind, Program, Tensor, ValueId, param, verify};
use milwright_optimize::activations::{Activations, Grid, Place, Seen, places, quantize};
use milwright_optimize::to_f32;

use super::parts::{Part, Source};
use super::{Calibration, Optimizer, broken};
use crate::overflow::{probe, probe_each};
use crate::{Error, ErrorKind, Result, Samples};

/// The elements that are kept of a value, from all samples.
const KEPT: usize = 1 << 16;

/// The most bytes of values that one run gives.
const GROUP_BYTES: usize = 128 << 20;

/// The samples on which results are compared to find the values that lose most.
const COMPARED: usize = 8;

/// How much better than the tolerance the result should be on these samples, in dB.
const MARGIN_DB: f64 = 1.0;

/// How often more values become floats again.
const ROUNDS: usize = 8;

/// What became of the values of a function.
#[derive(Default)]
pub(super) struct Made {
    /// How many are integers now.
    pub integers: usize,
    /// The names of those that stay floats, those that lose most first.
    pub floats: Vec<String>,
}

impl Optimizer {
    /// Makes values between the ops of a part integers.
    pub(super) fn with_integers(
        &self,
        source: &Source,
        part: &Part,
        mut program: Program,
        notes: &mut Vec<String>,
    ) -> Result<Program> {
        let Some(activations) = self.activations else { return Ok(program) };
        let Calibration::With(samples) = &self.calibration else { return Ok(program) };
        let default = &source.model.info().default_function;
        let mut made = Made::default();
        for name in part.program.functions.keys() {
            if part.is_whole() && name != default {
                notes.push(format!("the values of `{name}` stay floats: samples are for `{default}`"));
                continue;
            }
            let samples = source.samples_of(part, name, samples, &self.load)?;
            let checked = verify(program).map_err(|e| broken(&source.model, &e))?;
            let found = self.grids(activations, &checked, name, &samples)?;
            let chosen = self.chosen(part, &checked, name, &samples, found, &mut made)?;
            program = checked.into_inner();
            quantize(&mut program.functions[name], &chosen);
        }
        super::check_raised(part, &program)?;
        let what = match made.floats.len() {
            0 => String::new(),
            1 => format!("; `{}` stays a float, because it loses most", made.floats[0]),
            n => format!("; {n} stay floats, because they lose most: `{}` and others", made.floats[0]),
        };
        let values = if made.integers == 1 { "value" } else { "values" };
        notes.push(format!("{} {values} between ops: int8 now{what}", made.integers));
        Ok(program)
    }

    /// The values that can be integers, with their numbers.
    fn grids(
        &self,
        activations: Activations,
        program: &Checked,
        function: &str,
        samples: &Samples,
    ) -> Result<Vec<(Place, Grid)>> {
        let f = &program.functions[function];
        let all = places(f);
        let mut seen: Vec<Seen> = all.iter().map(|_| Seen::default()).collect();
        let most = KEPT.div_ceil(samples.requests.len().max(1));
        let mut start = 0;
        while start < all.len() {
            let size =
                |p: &Place| f[p.value].ty.as_tensor().and_then(|t| t.elements()).map_or(1 << 22, |n| n * 4);
            let mut end = start;
            let mut bytes = 0usize;
            while end < all.len() && (end == start || bytes.saturating_add(size(&all[end])) <= GROUP_BYTES) {
                bytes = bytes.saturating_add(size(&all[end]));
                end += 1;
            }
            let group: Vec<ValueId> = all[start..end].iter().map(|p| p.value).collect();
            probe_each(program, function, &group, samples, &self.load, &mut |results| {
                for (seen, tensor) in seen[start..end].iter_mut().zip(&results) {
                    seen.add(&to_f32(tensor), most);
                }
            })?;
            start = end;
        }
        let grid = |(place, seen): (Place, Seen)| {
            let dtype = f[place.value].ty.as_tensor()?.dtype;
            Some((place, activations.grid(&seen, dtype)?))
        };
        Ok(all.into_iter().zip(seen).filter_map(grid).collect())
    }

    /// Those of which the result is within the tolerance: the ones that lose most by themselves stay floats, if there is one.
    fn chosen(
        &self,
        part: &Part,
        program: &Checked,
        function: &str,
        samples: &Samples,
        mut all: Vec<(Place, Grid)>,
        made: &mut Made,
    ) -> Result<Vec<(Place, Grid)>> {
        let Some(tolerance) = self.tolerance_db().filter(|_| !all.is_empty()) else {
            made.integers += all.len();
            return Ok(all);
        };
        let requests = samples.requests.iter().take(COMPARED).cloned().collect();
        let samples = Samples { requests, others: Vec::new(), ..samples.clone() };
        let outputs = |of: &Checked| -> Result<Vec<Vec<Tensor>>> {
            probe(of, function, &compared(&of.functions[function]), &samples, &self.load)
        };
        let with = |these: &[(Place, Grid)]| -> Result<Vec<Vec<Tensor>>> {
            let mut program = program.clone().into_inner();
            quantize(&mut program.functions[function], these);
            let checked = verify(program).map_err(|e| Error::new(ErrorKind::Unsupported, e.to_string()))?;
            outputs(&checked)
        };
        let (original, plain) = (outputs(&part.program)?, outputs(program)?);
        let limit = 10f64.powf(-(tolerance + MARGIN_DB) / 10.0);
        if noise(&original, &with(&all)?) <= limit {
            made.integers += all.len();
            return Ok(all);
        }
        let mut alone = Vec::with_capacity(all.len());
        for one in &all {
            alone.push(noise(&plain, &with(std::slice::from_ref(one))?));
        }
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|&a, &b| alone[a].total_cmp(&alone[b]));
        // What weights lose is lost already; the rest is divided.
        let budget = limit - noise(&original, &plain);
        let mut sum = 0.0;
        let mut kept = order.iter().take_while(|&&i| {
            sum += alone[i];
            sum <= budget
        });
        let mut count = kept.by_ref().count();
        let of = |count: usize| order[..count].iter().map(|&i| all[i].clone()).collect::<Vec<_>>();
        for _ in 0..ROUNDS {
            if count == 0 || noise(&original, &with(&of(count))?) <= limit {
                break;
            }
            count -= count.div_ceil(4);
        }
        made.integers += count;
        let name = |&i: &usize| program.functions[function][all[i].0.value].name.clone();
        made.floats.extend(order[count..].iter().rev().map(name));
        let stay: Vec<usize> = order[..count].to_vec();
        let mut at = 0;
        all.retain(|_| {
            at += 1;
            stay.contains(&(at - 1))
        });
        Ok(all)
    }
}

/// What is compared of a function: its outputs, and the probabilities in the place of classes.
fn compared(f: &Function) -> Vec<ValueId> {
    let mut found = Vec::new();
    for &output in &f[f.body].outputs {
        let classify = f.defining_op(output).filter(|&op| f[op].kind == OpKind::Classify);
        let value = classify.map_or(Some(output), |op| f[op].value(param!(Classify.probabilities)));
        found.extend(value.filter(|v| !found.contains(v)));
    }
    found
}

/// The noise of the worst output, in relation to its signal.
fn noise(expected: &[Vec<Tensor>], found: &[Vec<Tensor>]) -> f64 {
    let outputs = expected.first().map_or(0, Vec::len);
    let of = |output: usize| {
        let (mut signal, mut noise) = (0.0, 0.0);
        for (a, b) in expected.iter().zip(found) {
            let (Some(a), Some(b)) = (a.get(output), b.get(output)) else { continue };
            if !a.dtype().is_float() {
                continue;
            }
            for (x, y) in to_f32(a).into_iter().zip(to_f32(b)) {
                if x.is_finite() {
                    signal += f64::from(x).powi(2);
                    noise += if y.is_finite() { f64::from(x - y).powi(2) } else { f64::INFINITY };
                }
            }
        }
        if noise == 0.0 { 0.0 } else { noise / signal }
    };
    (0..outputs).map(of).fold(0.0, f64::max)
}
