//! Observes the inputs that weights are multiplied with, in runs of the program on samples.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use milwright_mil::engine::{CompileOptions, ExecuteOptions, RunOptions};
use milwright_mil::{Arg, Checked, Def, Function, OpId, OpKind, Tensor, ValueId, param, verify};
use milwright_optimize::{Moments, ObservedInputs, Product, to_f32};

use super::{Calibration, Optimizer};
use crate::target::reference_engine;
use crate::{Error, ErrorKind, InferenceRequest, LoadOptions, Model, Result, Samples};

/// The most values that one run keeps, and the most bytes of them.
const GROUP: usize = 64;
const GROUP_BYTES: usize = 256 << 20;

/// The most bytes of products of all weights; weights beyond are compressed without.
const MAX_BYTES: usize = 2 << 30;

/// The vectors that are looked at, for each element of a row, and the least and the most of them for a weight.
const VECTORS: usize = 2;
const LEAST_VECTORS: usize = 1024;
const MOST_VECTORS: usize = 8192;

impl Optimizer {
    /// The same with the samples split: every other one observes, the rest proves.
    pub(super) fn split(&self, model: &Model) -> Result<Optimizer> {
        let wrong = |what: &str, hint: &str| Error::invalid(what).with_hint(hint).at(model.path());
        let Some(samples) = &self.samples else {
            return Err(wrong(
                "drawn inputs say nothing about the inputs that weights will meet",
                "give samples of real inputs, with --inputs",
            ));
        };
        if samples.requests.len() < 2 {
            return Err(wrong(
                "one set of inputs cannot both observe and prove",
                "give at least two, and better 16 or more",
            ));
        }
        if !self.config.compresses() && self.activations.is_none() {
            return Err(wrong(
                "no weights are compressed, so there is nothing to calibrate",
                "say how they are stored, with --quantize",
            ));
        }
        if let Some(at) = samples.requests.iter().position(has_nan) {
            return Err(wrong(
                &format!("set {} of the inputs has NaN: nothing can be observed on it", at + 1),
                "leave it out",
            ));
        }
        let half = |odd| {
            let requests = samples.requests.iter().skip(odd).step_by(2).cloned().collect();
            Samples { requests, ..samples.clone() }
        };
        Ok(Optimizer {
            samples: Some(half(1)),
            calibration: Calibration::With(Arc::new(half(0))),
            ..self.clone()
        })
    }
}

/// Whether an input has NaN.
fn has_nan(request: &InferenceRequest) -> bool {
    let is_nan = |tensor: &Tensor| tensor.dtype().is_float() && tensor.to_f64().iter().any(|x| x.is_nan());
    request.inputs().iter().any(|(_, tensor)| is_nan(tensor))
}

/// Adds what is observed of the weights of a function. Weights in nested blocks are not observed.
///
/// # Errors
/// The function cannot be run.
pub(super) fn observe(
    program: &Checked,
    function: &str,
    samples: &Samples,
    options: &LoadOptions,
    observed: &mut ObservedInputs,
) -> Result<()> {
    let Some(f) = program.functions.get(function) else { return Ok(()) };
    let Some(first) = samples.requests.first() else { return Ok(()) };
    let shapes: Vec<(&str, &[usize])> = first.inputs().iter().map(|(n, t)| (n.as_str(), t.shape())).collect();
    let mut by_input: Vec<(ValueId, Vec<Product>)> = Vec::new();
    let mut bytes = 0usize;
    for product in milwright_optimize::products(f) {
        let is_small = product.rows * product.columns <= milwright_optimize::weights::MIN_ELEMENTS;
        let outside = !f[f.body].ops.contains(&product.user);
        let size = product.columns.saturating_mul(product.columns).saturating_mul(4);
        if is_small
            || outside
            || product.columns > Moments::MAX_SIZE
            || bytes.saturating_add(size) > MAX_BYTES
        {
            continue;
        }
        // A weight with several users has the products of all of them.
        let is_known = by_input.iter().any(|(_, all)| all.iter().any(|p| p.weight == product.weight));
        bytes += if is_known { 0 } else { size };
        match by_input.iter_mut().find(|(v, _)| *v == product.input) {
            Some((_, products)) => products.push(product),
            None => by_input.push((product.input, vec![product])),
        }
    }
    for group in groups(f, &by_input) {
        run(program, function, &shapes, group, samples, options, observed)?;
    }
    Ok(())
}

/// Groups whose values fit in memory together.
fn groups<'a>(f: &Function, by_input: &'a [(ValueId, Vec<Product>)]) -> Vec<&'a [(ValueId, Vec<Product>)]> {
    let size = |v: ValueId| {
        let elements = f[v].ty.as_tensor().and_then(|t| t.elements());
        elements.map_or(GROUP_BYTES / 16, |n| n.saturating_mul(4))
    };
    let (mut groups, mut start, mut bytes) = (Vec::new(), 0, 0usize);
    for (i, (value, _)) in by_input.iter().enumerate() {
        let more = size(*value);
        if i > start && (i - start >= GROUP || bytes.saturating_add(more) > GROUP_BYTES) {
            groups.push(&by_input[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes = bytes.saturating_add(more);
    }
    if start < by_input.len() {
        groups.push(&by_input[start..]);
    }
    groups
}

fn run(
    program: &Checked,
    function: &str,
    shapes: &[(&str, &[usize])],
    group: &[(ValueId, Vec<Product>)],
    samples: &Samples,
    options: &LoadOptions,
    observed: &mut ObservedInputs,
) -> Result<()> {
    let f = &program.functions[function];
    // The inputs of a function are in the samples; everything else becomes an output.
    let computed: Vec<ValueId> =
        group.iter().map(|(v, _)| *v).filter(|&v| !matches!(f[v].def, Def::Function(_))).collect();
    let mut tapped = program.clone().into_inner();
    tapped.functions.retain(|name, _| name == function);
    let body = f.body;
    if !computed.is_empty() {
        tapped.functions[function][body].outputs.clone_from(&computed);
    }
    let stop = || options.cancel.is_cancelled();
    let limits = CompileOptions { memory: options.limits.memory, cancel: Some(&stop) };
    let plan =
        reference_engine().compile(&verify(tapped)?, function, shapes, limits).map_err(|e| unusable(&e))?;
    let execute = ExecuteOptions { threads: options.threads, memory: options.limits.memory };
    let executable = plan.load(execute).map_err(|e| unusable(&e))?;
    let fits: Vec<_> = samples
        .requests
        .iter()
        .filter(|r| r.inputs().iter().map(|(n, t)| (n.as_str(), t.shape())).eq(shapes.iter().copied()))
        .collect();
    for request in &fits {
        options.cancel.check()?;
        let inputs: Vec<(&str, Tensor)> =
            request.inputs().iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        let until = options.limits.prediction.and_then(|limit| Instant::now().checked_add(limit));
        let stop = || options.cancel.is_cancelled() || until.is_some_and(|until| Instant::now() >= until);
        // Each sample starts with new states, as in the proof.
        let mut state = executable.new_state();
        let run = RunOptions { state: Some(&mut state), cancel: Some(&stop), ..RunOptions::default() };
        let outputs = executable.run(&inputs, run).map_err(|e| match options.cancel.check() {
            Err(stopped) => stopped,
            Ok(()) => unusable(&e),
        })?;
        let made: HashMap<ValueId, &Tensor> =
            computed.iter().copied().zip(outputs.iter().map(|(_, tensor)| tensor)).collect();
        for (value, products) in group {
            let given = || request.inputs().named(&f[*value].name).map(|(_, t)| t);
            let Some(tensor) = made.get(value).copied().or_else(given) else { continue };
            for product in products {
                let wanted = (VECTORS * product.columns).clamp(LEAST_VECTORS, MOST_VECTORS);
                let vectors = vectors(f, product, tensor, wanted.div_ceil(fits.len()));
                let key = (function.to_owned(), product.weight.clone());
                let moments = observed.entry(key).or_insert_with(|| Moments::new(product.columns));
                moments.add(&vectors);
            }
        }
    }
    observed.retain(|_, moments| moments.count() > 0.0);
    Ok(())
}

fn unusable(e: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Runtime, format!("the inputs of weights cannot be observed: {e}"))
}

/// The vectors that the weight is multiplied with, at most `most`, spread evenly. None if the op is of another form.
fn vectors(f: &Function, product: &Product, tensor: &Tensor, most: usize) -> Vec<f32> {
    let values = to_f32(tensor);
    let op = product.user;
    let transposes = |name| ints(f, op, name).first().is_some_and(|&b| b != 0);
    match f[op].kind {
        OpKind::Conv => patches(f, product, &values, tensor.shape(), most).unwrap_or_default(),
        OpKind::Matmul if transposes(param!(Matmul.transpose_x)) => Vec::new(),
        _ if tensor.shape().last() != Some(&product.columns) => Vec::new(),
        _ => {
            let rows = values.len() / product.columns;
            let picked = picked(rows, most);
            picked.flat_map(|i| values[i * product.columns..][..product.columns].iter().copied()).collect()
        }
    }
}

/// At most `most` of `count` positions, spread evenly.
fn picked(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(most.max(1));
    (0..taken).map(move |i| i * count / taken)
}

/// The patches that a convolution looks at, in the order of its weight's elements.
fn patches(f: &Function, product: &Product, x: &[f32], shape: &[usize], most: usize) -> Option<Vec<f32>> {
    let op = product.user;
    let weight =
        f[op].value(param!(Conv.weight)).and_then(|v| f.const_value(v))?.as_tensor()?.shape().to_vec();
    let (&[batch, channels], sizes) = shape.split_at_checked(2)? else { return None };
    let kernel = weight.get(2..)?;
    if kernel.len() != sizes.len() || weight[1] != channels {
        return None;
    }
    let numbers = |name: &str, missing: i64| {
        let found = ints(f, op, name);
        (0..sizes.len()).map(|d| found.get(d).copied().unwrap_or(missing)).collect::<Vec<i64>>()
    };
    let (strides, dilations) = (numbers(param!(Conv.strides), 1), numbers(param!(Conv.dilations), 1));
    let pad = ints(f, op, param!(Conv.pad));
    let pad_type = text(f, op, param!(Conv.pad_type)).unwrap_or_else(|| "valid".to_owned());
    let (mut starts, mut outs) = (Vec::new(), Vec::new());
    for d in 0..sizes.len() {
        let (size, reach) = (sizes[d] as i64, (kernel[d] as i64 - 1) * dilations[d] + 1);
        let same = || ((size + strides[d] - 1) / strides[d] - 1) * strides[d] + reach - size;
        let (before, after) = match pad_type.as_str() {
            "custom" => (pad.get(2 * d).copied().unwrap_or(0), pad.get(2 * d + 1).copied().unwrap_or(0)),
            "same" => (same().max(0) / 2, same().max(0) - same().max(0) / 2),
            "same_lower" => (same().max(0) - same().max(0) / 2, same().max(0) / 2),
            _ => (0, 0),
        };
        starts.push(before);
        outs.push(usize::try_from((size + before + after - reach) / strides[d] + 1).ok()?);
    }
    let places: usize = outs.iter().product();
    let (inside, taps): (usize, usize) = (sizes.iter().product(), kernel.iter().product());
    let mut found = Vec::new();
    for at in picked(batch * places, most) {
        let (n, mut place) = (at / places, at % places);
        let mut corner = vec![0i64; sizes.len()];
        for d in (0..sizes.len()).rev() {
            corner[d] = (place % outs[d]) as i64 * strides[d] - starts[d];
            place /= outs[d];
        }
        // Where each tap reads, the same for every channel.
        let offsets: Vec<Option<usize>> = (0..taps)
            .map(|mut tap| {
                let (mut offset, mut stride) = (0usize, 1usize);
                for d in (0..sizes.len()).rev() {
                    let i = corner[d] + (tap % kernel[d]) as i64 * dilations[d];
                    tap /= kernel[d];
                    offset += usize::try_from(i).ok().filter(|&i| i < sizes[d])? * stride;
                    stride *= sizes[d];
                }
                Some(offset)
            })
            .collect();
        for c in 0..channels {
            let plane = x.get((n * channels + c) * inside..(n * channels + c + 1) * inside)?;
            found.extend(offsets.iter().map(|o| o.map_or(0.0, |o| plane[o])));
        }
    }
    Some(found)
}

fn constant<'a>(f: &'a Function, op: OpId, name: &str) -> Option<&'a Tensor> {
    match f[op].args(name) {
        [Arg::Const(value)] => value.as_tensor(),
        [Arg::Value(value)] => f.const_value(*value).and_then(|v| v.as_tensor()),
        _ => None,
    }
}

fn ints(f: &Function, op: OpId, name: &str) -> Vec<i64> {
    constant(f, op, name).and_then(Tensor::to_i64).unwrap_or_default()
}

fn text(f: &Function, op: OpId, name: &str) -> Option<String> {
    constant(f, op, name)?.strings().first().cloned()
}

#[cfg(test)]
mod tests {
    use milwright_mil::text::parse;

    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32).map(|i| (((i + seed) * 7919 % 1009) as f32 / 1009.0 - 0.4) * 2.0).collect()
    }

    fn list(values: &[f32]) -> String {
        values.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(", ")
    }

    /// What a convolution makes of the mean of its patches is the mean of its outputs, if all patches are looked at.
    #[test]
    fn patches_are_those_of_the_engine() {
        let weight = numbers(8 * 32 * 3 * 3, 1);
        for (params, out) in [
            ("pad_type = string(\"valid\")", [4, 6]),
            ("pad_type = string(\"same\"), strides = tensor<int32, [2]>([2, 3])", [3, 3]),
            ("pad_type = string(\"same_lower\"), strides = tensor<int32, [2]>([3, 2])", [2, 4]),
            (
                "pad_type = string(\"custom\"), pad = tensor<int32, [4]>([2, 1, 0, 3]), dilations = tensor<int32, [2]>([2, 1])",
                [5, 9],
            ),
        ] {
            let [h, w] = out;
            let text = format!(
                "program(1.3)\n{{\n    func main<ios15>(tensor<fp32, [2, 32, 6, 8]> x) {{\n\
                 tensor<fp32, [8, 32, 3, 3]> w = const()[name = string(\"w\"), val = tensor<fp32, [8, 32, 3, 3]>([{}])];\n\
                 tensor<fp32, [2, 8, {h}, {w}]> y = conv(x = x, weight = w, {params})[name = string(\"y\")];\n\
                 }} -> (y);\n}}",
                list(&weight)
            );
            let program = verify(parse(&text).unwrap()).unwrap_or_else(|e| panic!("{params}: {e}"));
            let x = Tensor::from_vec(&[2, 32, 6, 8], numbers(2 * 32 * 6 * 8, 5)).unwrap();
            let samples = Samples::given(vec![InferenceRequest::new().input("x", x.clone())]);
            let mut observed = ObservedInputs::new();
            observe(&program, "main", &samples, &LoadOptions::default(), &mut observed).unwrap();
            let moments = &observed[&("main".to_owned(), "w".to_owned())];
            assert_eq!(moments.count(), (2 * h * w) as f64, "{params}");

            let options = CompileOptions::default();
            let plan =
                reference_engine().compile(&program, "main", &[("x", &[2, 32, 6, 8])], options).unwrap();
            let executable = plan.load(ExecuteOptions::default()).unwrap();
            let outputs = executable.run(&[("x", x)], RunOptions::default()).unwrap();
            let y = outputs[0].1.to_vec::<f32>().unwrap();
            let means = moments.means();
            for channel in 0..8 {
                let of = |n: usize| &y[(n * 8 + channel) * h * w..][..h * w];
                let expected = of(0).iter().chain(of(1)).sum::<f32>() / (2 * h * w) as f32;
                let row = weight[channel * 288..][..288].iter();
                let found: f64 = row.zip(&means).map(|(w, m)| f64::from(*w) * m).sum();
                assert!((found - f64::from(expected)).abs() < 1e-4, "{params}: {found} {expected}");
            }
        }
    }
}
