//! Finds the constants that are weights.

use std::collections::HashMap;

use milwright_mil::{Arg, DType, Function, OpId, OpKind, ValueId};

/// Smaller tensors are left alone, as in coremltools: they save nothing, and biases and scales need their precision.
pub const MIN_ELEMENTS: usize = 2048;

/// A constant that may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// The `const` op.
    pub op: OpId,
    /// Its output.
    pub value: ValueId,
    /// The dimension of the output channels, if every op that uses the weight agrees on it.
    pub channel_axis: Option<usize>,
}

/// Returns the weights of a function, in program order: float constants that have two or more dimensions and more than
/// [`MIN_ELEMENTS`] elements, and that no `constexpr_*` op uses.
pub fn weights(function: &Function) -> Vec<Weight> {
    let ops = function.walk();
    let mut users: HashMap<ValueId, Vec<OpId>> = HashMap::new();
    for &op in &ops {
        for value in function[op].values() {
            users.entry(value).or_default().push(op);
        }
    }
    let mut found = Vec::new();
    for &op in &ops {
        let Some(&value) = function[op].outputs.first() else { continue };
        let Some(tensor) = function.const_value(value).and_then(|v| v.as_tensor()) else { continue };
        let users = users.get(&value).map_or(&[][..], |u| u);
        let suits = matches!(tensor.dtype(), DType::Fp16 | DType::Fp32)
            && tensor.shape().len() >= 2
            && tensor.elements() > MIN_ELEMENTS
            && !users.is_empty()
            && users.iter().all(|u| function[*u].kind.family() != "constexpr");
        if suits {
            let rank = tensor.shape().len();
            found.push(Weight { op, value, channel_axis: channel_axis(function, users, value, rank) });
        }
    }
    found
}

fn channel_axis(function: &Function, users: &[OpId], value: ValueId, rank: usize) -> Option<usize> {
    let mut axes = users.iter().map(|&user| output_channels(function, user, value, rank));
    let first = axes.next()?;
    axes.all(|a| a == first).then_some(first)
}

/// Returns the dimension of output channels in an op's weight; 0 for ops that have no channels.
fn output_channels(function: &Function, user: OpId, value: ValueId, rank: usize) -> usize {
    let op = &function[user];
    let transposed = |name| match op.args(name) {
        [Arg::Const(v)] => v.as_tensor().is_some_and(|t| t.bytes() == [1]),
        [Arg::Value(v)] => {
            function.const_value(*v).and_then(|v| v.as_tensor()).is_some_and(|t| t.bytes() == [1])
        }
        _ => false,
    };
    match op.kind {
        OpKind::ConvTranspose => 1,
        OpKind::Matmul if op.value(milwright_mil::param!(Matmul.y)) == Some(value) => {
            rank - if transposed(milwright_mil::param!(Matmul.transpose_y)) { 2 } else { 1 }
        }
        OpKind::Matmul => rank - if transposed(milwright_mil::param!(Matmul.transpose_x)) { 1 } else { 2 },
        _ => 0,
    }
}
