//! How large the values inside a function become, for the conversion to fp16.

use milwright_cpu::{Executable, Pool, RunOptions, compile};
use milwright_mil::{Checked, DType, OpKind, Tensor, Type, ValueId, verify};
use milwright_optimize::float16::Magnitudes;

use crate::{Error, ErrorKind, LoadOptions, Result, Samples};

/// Values that are looked at in one run: all of them stay in memory until its end.
const GROUP: usize = 64;

/// The largest magnitude of every fp32 value in a function's body (blocks inside it are not looked into), over sets of
/// inputs of one shape.
///
/// # Errors
/// The function cannot be run.
pub(crate) fn magnitudes(
    program: &Checked,
    function: &str,
    samples: &Samples,
    options: &LoadOptions,
) -> Result<Magnitudes> {
    let unusable = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Runtime, e.to_string());
    let mut found = Magnitudes::new();
    let (Some(f), Some(first)) = (program.functions.get(function), samples.requests.first()) else {
        return Ok(found);
    };
    let single = |v: &ValueId| matches!(&f[*v].ty, Type::Tensor(t) if t.dtype == DType::Fp32);
    for &input in f.inputs.iter().filter(|v| single(v)) {
        let given = samples.requests.iter().flat_map(|r| r.inputs()).filter(|(n, _)| *n == f[input].name);
        found.insert(input, given.map(|(_, t)| largest(t)).fold(0.0, f64::max));
    }
    let ops = f[f.body].ops.iter().filter(|op| f[**op].kind != OpKind::Const);
    let values: Vec<ValueId> = ops.flat_map(|op| f[*op].outputs.iter().copied()).filter(single).collect();
    let shapes: Vec<(&str, &[usize])> = first.inputs().iter().map(|(n, t)| (n.as_str(), t.shape())).collect();
    for group in values.chunks(GROUP) {
        let mut probe = program.clone().into_inner();
        probe.functions.retain(|name, _| name == function);
        let f = &mut probe.functions[function];
        let body = f.body;
        f[body].outputs = group.to_vec();
        let plan = compile(&verify(probe)?, function, &shapes).map_err(|e| unusable(&e))?;
        let pool = Pool::new(options.threads).map_err(|e| unusable(&e))?;
        let executable = Executable::new(&plan, pool).map_err(|e| unusable(&e))?;
        let mut state = executable.new_state();
        for request in &samples.requests {
            let inputs: Vec<(&str, Tensor)> =
                request.inputs().iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
            if inputs.iter().map(|(n, t)| (*n, t.shape())).ne(shapes.iter().copied()) {
                continue;
            }
            let options = RunOptions { state: Some(&mut state), ..RunOptions::default() };
            let outputs = executable.run_with(&inputs, options).map_err(|e| unusable(&e))?;
            for (&value, (_, tensor)) in group.iter().zip(&outputs) {
                let m = found.entry(value).or_default();
                *m = m.max(largest(tensor));
            }
        }
    }
    Ok(found)
}

/// The largest finite magnitude.
fn largest(tensor: &Tensor) -> f64 {
    tensor.to_f64().into_iter().filter(|x| x.is_finite()).fold(0.0, |m, x| m.max(x.abs()))
}
