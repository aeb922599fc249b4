//! Recurrent networks.

pub mod gru;
pub mod lstm;
pub mod rnn;

use super::{InferError, Inferred, Operand};
use crate::{Dim, TensorType};

/// Checks `direction` and returns it.
fn check_direction(direction: &str, allowed: &[&str]) -> Result<(), InferError> {
    if !allowed.contains(&direction) {
        return Err(InferError(format!("`direction` is \"{direction}\", not one of {allowed:?}")));
    }
    Ok(())
}

fn check_activations(parameters: &[(&str, &str)]) -> Result<(), InferError> {
    const KNOWN: &[&str] =
        &["linear", "relu", "sigmoid", "hard_sigmoid", "sigmoid_hard", "tanh", "scaled_tanh"];
    for (name, activation) in parameters {
        if !KNOWN.contains(activation) {
            return Err(InferError(format!("`{name}` is \"{activation}\", not one of {KNOWN:?}")));
        }
    }
    Ok(())
}

/// Checks the weights of `gates` gates, and vectors whose sizes are multiples of the state's. Returns the state's size.
fn check_weights(
    x: Operand<'_>,
    gates: usize,
    [ih, hh]: [Operand<'_>; 2],
    vectors: &[(Option<Operand<'_>>, usize)],
) -> Result<usize, InferError> {
    let [_, _, input] = x.shape[..] else {
        return Err(InferError(format!("input `x` is {x}, rank 3 is needed")));
    };
    let [_, Dim::Fixed(hidden)] = hh.shape[..] else {
        return Err(InferError(format!("input `{}` is {hh}, a matrix of fixed shape is needed", hh.name)));
    };
    let times = |n: usize| hidden.checked_mul(n).map_or(Dim::Unknown, Dim::Fixed);
    let check = |t: Operand<'_>, shape: &[Dim]| {
        let expected = TensorType::new(hh.dtype, shape);
        if t.agrees(&expected) {
            return Ok(());
        }
        Err(InferError(format!("input `{}` is {t}, but {expected} is needed", t.name)))
    };
    check(ih, &[times(gates), input])?;
    check(hh, &[times(gates), Dim::Fixed(hidden)])?;
    for (vector, n) in vectors.iter().filter_map(|&(v, n)| Some((v?, n))) {
        check(vector, &[times(n)])?;
    }
    Ok(hidden)
}

/// Checks the initial states, and returns the types of the results: all states, then the last state of each kind.
///
/// An initial state may have more rows than the batch; only the first rows are used. coremltools makes such states
/// for packed sequences from PyTorch, and its tests run them.
fn outputs(
    x: Operand<'_>,
    output_sequence: bool,
    hidden: usize,
    directions: usize,
    initial: &[Operand<'_>],
) -> Result<Vec<Inferred>, InferError> {
    let width = hidden.checked_mul(directions).map_or(Dim::Unknown, Dim::Fixed);
    let last = TensorType::new(x.dtype, vec![x.shape[1], width]);
    for t in initial {
        let rows = match (t.shape.first(), last.shape[0]) {
            (Some(&Dim::Fixed(given)), Dim::Fixed(needed)) if given > needed => Dim::Fixed(given),
            _ => last.shape[0],
        };
        if !t.agrees(&TensorType::new(x.dtype, vec![rows, width])) {
            return Err(InferError(format!("input `{}` is {t}, but {last} is needed", t.name)));
        }
    }
    if !output_sequence && x.shape[0] == Dim::Fixed(0) {
        return Err(InferError("input `x` has no steps, so there is no last one".into()));
    }
    let steps = if output_sequence { x.shape[0] } else { Dim::Fixed(1) };
    let all = TensorType::new(x.dtype, vec![steps, x.shape[1], width]);
    Ok([all].into_iter().chain(initial.iter().map(|_| last.clone())).map(Inferred::from).collect())
}
