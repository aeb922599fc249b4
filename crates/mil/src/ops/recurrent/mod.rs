//! Recurrent networks.

pub mod gru;
pub mod lstm;
pub mod rnn;

use super::{InferError, Inferred, OpView};
use crate::{Dim, TensorType};

/// Checks `direction` and returns it.
fn check_direction<'a>(op: &'a OpView<'_>, allowed: &[&str]) -> Result<&'a str, InferError> {
    let direction = op.str("direction")?;
    if !allowed.contains(&direction) {
        return Err(InferError(format!("`direction` is \"{direction}\", not one of {allowed:?}")));
    }
    Ok(direction)
}

fn check_activations(op: &OpView<'_>, parameters: &[&str]) -> Result<(), InferError> {
    const KNOWN: &[&str] =
        &["linear", "relu", "sigmoid", "hard_sigmoid", "sigmoid_hard", "tanh", "scaled_tanh"];
    for name in parameters {
        let activation = op.str(name)?;
        if !KNOWN.contains(&activation) {
            return Err(InferError(format!("`{name}` is \"{activation}\", not one of {KNOWN:?}")));
        }
    }
    Ok(())
}

/// Checks the weights of `gates` gates, and vectors of so many times the size of the state; returns that size.
fn check_weights(
    op: &OpView<'_>,
    gates: usize,
    weight_ih: &str,
    weight_hh: &str,
    vectors: &[(&str, usize)],
) -> Result<usize, InferError> {
    let (x, hh) = (op.tensor("x")?, op.tensor(weight_hh)?);
    let [_, _, input] = x.shape[..] else {
        return Err(InferError(format!("input `x` is {x}, rank 3 is needed")));
    };
    let [_, Dim::Fixed(hidden)] = hh.shape[..] else {
        return Err(InferError(format!("input `{weight_hh}` is {hh}, a matrix of fixed shape is needed")));
    };
    let times = |n: usize| hidden.checked_mul(n).map_or(Dim::Unknown, Dim::Fixed);
    let check = |name: &str, shape: &[Dim]| {
        let (t, expected) = (op.tensor(name)?, TensorType::new(hh.dtype, shape));
        if t.agrees(&expected) {
            return Ok(());
        }
        Err(InferError(format!("input `{name}` is {t}, but {expected} is needed")))
    };
    check(weight_ih, &[times(gates), input])?;
    check(weight_hh, &[times(gates), Dim::Fixed(hidden)])?;
    for &(name, n) in vectors.iter().filter(|(n, _)| op.has(n)) {
        check(name, &[times(n)])?;
    }
    Ok(hidden)
}

/// Checks the initial states, and makes the types of the results: all states, then the last of each kind.
///
/// An initial state may have more rows than there are instances; only the first are used. coremltools makes such states
/// for packed sequences from PyTorch, and its tests run them.
fn outputs(
    op: &OpView<'_>,
    hidden: usize,
    directions: usize,
    initial: &[&str],
) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let width = hidden.checked_mul(directions).map_or(Dim::Unknown, Dim::Fixed);
    let last = TensorType::new(x.dtype, vec![x.shape[1], width]);
    for name in initial {
        let t = op.tensor(name)?;
        let rows = match (t.shape.first(), last.shape[0]) {
            (Some(&Dim::Fixed(given)), Dim::Fixed(needed)) if given > needed => Dim::Fixed(given),
            _ => last.shape[0],
        };
        if !t.agrees(&TensorType::new(x.dtype, vec![rows, width])) {
            return Err(InferError(format!("input `{name}` is {t}, but {last} is needed")));
        }
    }
    if !op.bool("output_sequence")? && x.shape[0] == Dim::Fixed(0) {
        return Err(InferError("input `x` has no steps, so there is no last one".into()));
    }
    let steps = if op.bool("output_sequence")? { x.shape[0] } else { Dim::Fixed(1) };
    let all = TensorType::new(x.dtype, vec![steps, x.shape[1], width]);
    Ok([all].into_iter().chain(initial.iter().map(|_| last.clone())).map(Inferred::from).collect())
}
