//! `depth_to_space`

use crate::op;
use crate::ops::{InferError, Inferred, Operand};
use crate::{Dim, TensorType};

op! {
    /// Moves channels of `x` into its two spatial dimensions, block offsets outermost in the channels.
    ///
    /// With b = `block_size`, `x` of shape [n, b · b · c, h, w] becomes [n, c, h · b, w · b]: channel
    /// (i · b + j) · c + k goes to offset (i, j) of the blocks of channel k.
    DepthToSpace since Ios13 {
        x: Operand<T>,
        block_size: i64,
    }
    where T: [Fp16, Fp32]
    => |p| channels_to_space(p.x, "block_size", p.block_size)
}

/// Infers [n, c, b · h, b · w] from [n, b² · c, h, w].
pub(super) fn channels_to_space(
    x: Operand<'_>,
    name: &str,
    factor: i64,
) -> Result<Vec<Inferred>, InferError> {
    require!(x.rank() == 4, "input `x` must have rank 4, not {}", x.rank());
    let b = block(name, factor)?;
    if let Dim::Fixed(c) = x.shape[1] {
        require!(c % (b * b) == 0, "`x` has {c} channels, not a multiple of {b} · {b}");
    }
    let grown = |d: Dim| d.map(|n| n.checked_mul(b));
    let channels = x.shape[1].map(|c| Some(c / (b * b)));
    let shape = [x.shape[0], channels, grown(x.shape[2]), grown(x.shape[3])];
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

/// Infers [n, b² · c, h, w] from [n, c, b · h, b · w].
pub(super) fn space_to_channels(
    x: Operand<'_>,
    name: &str,
    factor: i64,
) -> Result<Vec<Inferred>, InferError> {
    require!(x.rank() == 4, "input `x` must have rank 4, not {}", x.rank());
    let b = block(name, factor)?;
    for &d in &x.shape[2..] {
        require!(d.fixed().is_none_or(|n| n % b == 0), "the size {d} of `x` is not a multiple of {b}");
    }
    let shrunk = |d: Dim| d.map(|n| Some(n / b));
    let channels = x.shape[1].map(|c| c.checked_mul(b * b));
    let shape = [x.shape[0], channels, shrunk(x.shape[2]), shrunk(x.shape[3])];
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

/// Returns the size of a block, which must be so small that its square does not overflow.
fn block(name: &str, b: i64) -> Result<usize, InferError> {
    require!((1..=1 << 16).contains(&b), "input `{name}` must be from 1 to 65536, not {b}");
    Ok(b as usize)
}
