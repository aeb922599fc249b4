//! `batch_to_space`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Moves blocks of the batch of `x` (rank 4) into its two spatial dimensions, then crops these.
    ///
    /// With blocks of b₀ × b₁, `x` of shape [b₀ · b₁ · n, c, h, w] becomes [n, c, h · b₀ - crops, w · b₁ - crops]:
    /// batch (i · b₁ + j) · n + k holds the elements at offset (i, j) of each block of image k. `crops` is a 2 × 2
    /// matrix: how much to cut before and after, for height and width.
    BatchToSpace since Ios13 {
        x: Operand<T>,
        block_shape: Ints,
        crops: Ints,
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    require!(x.rank() == 4, "input `x` must have rank 4, not {}", x.rank());
    let (block, crops) = super::space_to_batch::blocks(&p.block_shape, "crops", &p.crops)?;
    let blocks = block[0].saturating_mul(block[1]);
    if let Some(n) = x.shape[0].fixed() {
        require!(
            n % blocks == 0,
            "the batch of `x` is {n}, not a multiple of the {blocks} elements of a block"
        );
    }
    let mut shape = x.shape.clone();
    shape[0] = shape[0].map(|n| n.checked_div(blocks));
    for (i, d) in shape[2..].iter_mut().enumerate() {
        let [before, after] = crops[i];
        if let Some(n) = d.fixed().and_then(|n| n.checked_mul(block[i])) {
            let left = n.checked_sub(before).and_then(|n| n.checked_sub(after));
            require!(left.is_some(), "crops of {before} and {after} are more than the size {n}");
            *d = left.unwrap_or(0).into();
        }
    }
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
