//! Random numbers that two models draw alike.

use std::sync::Arc;

use milwright_mil::{Input, OpKind, Value, param, verify};

use crate::{Error, Model, Result};

/// The model with a seed for each op that draws random numbers: the number of the op. Two models that compute the same
/// then draw the same. `None` if the model draws none.
pub(super) fn seeded(model: &Model) -> Result<Option<Arc<Model>>> {
    let Ok(program) = model.program() else { return Ok(None) };
    let draws = |kind| {
        use OpKind::{RandomBernoulli, RandomCategorical, RandomNormal, RandomUniform};
        matches!(kind, RandomBernoulli | RandomCategorical | RandomNormal | RandomUniform)
    };
    if !program
        .functions
        .values()
        .any(|function| function.walk().into_iter().any(|op| draws(function[op].kind)))
    {
        return Ok(None);
    }
    let mut program = program.clone().into_inner();
    for function in program.functions.values_mut() {
        let drawing = function.walk().into_iter().filter(|&op| draws(function[op].kind));
        for (number, op) in drawing.collect::<Vec<_>>().into_iter().enumerate() {
            let seed = i32::try_from(number).unwrap_or(i32::MAX);
            let seed = Input::constant(param!(RandomNormal.seed), Value::int(seed));
            let inputs = &mut function[op].inputs;
            inputs.retain(|input| input.name != seed.name);
            inputs.push(seed);
        }
    }
    let program = verify(program).map_err(|e| Error::invalid(e.to_string()).at(model.path()))?;
    model.with_programs(&mut std::iter::once((None, program))).map(|model| Some(Arc::new(model)))
}
