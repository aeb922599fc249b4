//! Proof that two models compute the same: both run on the same inputs, and every output is compared.

use std::sync::Arc;

use milwright_mil::{Function, OpKind, ValueId};
use serde::Serialize;

use crate::compare::Differences;
use crate::{Backend, Cpu, Error, LoadOptions, Model, OutputDifference, Result, Samples};

/// The differences between an original and another model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proof {
    /// For each function that was run, its name and its outputs.
    #[serde(serialize_with = "map")]
    pub functions: Vec<(String, Vec<OutputDifference>)>,
    /// Sets of inputs that each function ran on.
    pub samples: usize,
}

fn map<S: serde::Serializer>(
    functions: &[(String, Vec<OutputDifference>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(functions.iter().map(|(name, outputs)| (name, outputs)))
}

impl Proof {
    /// The outputs that are not within `snr_db`, as `function.output`, with the figure that failed.
    pub fn failures(&self, snr_db: f64) -> Vec<String> {
        let outputs = self.functions.iter().flat_map(|(f, outputs)| outputs.iter().map(move |o| (f, o)));
        let describe = |(f, o): (&String, &OutputDifference)| {
            let name = if self.functions.len() > 1 { format!("{f}.{}", o.name) } else { o.name.clone() };
            if o.non_finite > o.elements {
                format!("{name}: it has another shape")
            } else if o.non_finite > 0 {
                format!("{name}: {} of {} elements are NaN or infinite", o.non_finite, o.elements)
            } else {
                format!("{name}: {:.1} dB", o.snr_db.unwrap_or(f64::INFINITY))
            }
        };
        outputs.filter(|(_, o)| !o.within(snr_db)).map(describe).collect()
    }
}

/// Runs one function of two models on the same inputs and compares the outputs that both have. `progress` is called
/// after each set.
///
/// # Errors
/// A model cannot be run, or the two have no output in common.
pub fn compare(
    a: &Arc<Model>,
    b: &Arc<Model>,
    function: Option<&str>,
    samples: &Samples,
    options: &LoadOptions,
    progress: &mut dyn FnMut(),
) -> Result<Vec<OutputDifference>> {
    let options = LoadOptions { function: function.map(str::to_owned), ..options.clone() };
    let program = a.function(function)?;
    // One after the other: both at once would take twice the memory.
    let mut expected = Vec::with_capacity(samples.requests.len());
    let mut session = Cpu.load(a, &options)?;
    for request in &samples.requests {
        expected.push(session.predict(request)?);
    }
    drop(session);
    let mut session = Cpu.load(b, &options)?;
    let mut sums: Vec<(String, Differences)> = Vec::new();
    for (request, x) in samples.requests.iter().zip(expected) {
        let y = session.predict(request)?;
        for (name, expected) in x.outputs() {
            let Some(found) = y.output(name) else { continue };
            let at = sums.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
                sums.push((name.clone(), Differences::default()));
                sums.len() - 1
            });
            sums[at].1.add(expected, found, is_scores(a, program, function, name));
        }
        progress();
    }
    if sums.is_empty() {
        return Err(Error::invalid("the two models have no output of the same name").at(b.path()));
    }
    Ok(sums.iter().map(|(name, d)| d.finish(name)).collect())
}

/// Whether an output is class scores: a classifier's probabilities, or the result of a softmax.
fn is_scores(model: &Model, program: &Function, function: Option<&str>, output: &str) -> bool {
    let info = model.info().function(function);
    if info.and_then(|f| f.predicted_probabilities.as_deref()) == Some(output) {
        return true;
    }
    let from_softmax = |mut value: ValueId| {
        // Through the casts that a conversion to fp16 adds.
        while let Some(op) = program.defining_op(value).map(|op| &program[op]) {
            match op.kind {
                OpKind::Cast => match op.value("x") {
                    Some(x) => value = x,
                    None => return false,
                },
                kind => return kind == OpKind::Softmax,
            }
        }
        false
    };
    program[program.body].outputs.iter().any(|&v| program[v].name == output && from_softmax(v))
}
