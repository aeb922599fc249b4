//! Old neural networks, whose tensors have five dimensions: sequence, batch, channel, height and width.
//!
//! Their inputs and outputs declare only the last three, or only the channel.

use crate::Tensor;

const RANK: usize = 5;

/// The index in a declared shape of `declared` sizes that corresponds to dimension `d` of a tensor of `rank`
/// dimensions.
pub(crate) fn declared_axis(rank: usize, declared: usize, d: usize) -> Option<usize> {
    match declared {
        _ if declared == rank => Some(d),
        1 | 3 if rank == RANK => d.checked_sub(2).filter(|&d| d < declared),
        _ => None,
    }
}

/// Expands an input to five dimensions, from the declared shape or from one with sequence and batch in front.
pub(crate) fn five_dimensions(tensor: &Tensor, declared: usize) -> Option<Tensor> {
    let shape = match (declared, tensor.shape()) {
        (1, &[c]) => [1, 1, c, 1, 1],
        (1, &[s, c]) => [s, 1, c, 1, 1],
        (1, &[s, b, c]) => [s, b, c, 1, 1],
        (_, &[c, h, w]) => [1, 1, c, h, w],
        (_, &[b, c, h, w]) => [1, b, c, h, w],
        _ => return None,
    };
    tensor.reshaped(&shape).ok()
}

/// Removes the undeclared dimensions of an output if their sizes are 1.
pub(crate) fn declared_form(tensor: Tensor, declared: usize) -> Tensor {
    let shape = match (declared, tensor.shape()) {
        (0 | 1, &[1, 1, c, 1, 1]) => vec![c],
        (_, &[1, 1, c, h, w]) => vec![c, h, w],
        _ => return tensor,
    };
    tensor.reshaped(&shape).unwrap_or(tensor)
}
