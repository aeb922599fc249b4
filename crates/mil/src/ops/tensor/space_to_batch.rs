//! `space_to_batch`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Pads the two spatial dimensions of `x` (rank 4) with zeros, then moves their blocks into the batch.
    ///
    /// With blocks of b₀ × b₁, `x` of shape [n, c, h, w] becomes [b₀ · b₁ · n, c, (h + padding) / b₀,
    /// (w + padding) / b₁]: batch (i · b₁ + j) · n + k holds the elements at offset (i, j) of each block of image k.
    /// `paddings` is a 2 × 2 matrix: how much to add before and after, for height and width.
    SpaceToBatch since Ios13 {
        x: Operand<T>,
        block_shape: Ints,
        paddings: Ints,
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    require!(x.rank() == 4, "input `x` must have rank 4, not {}", x.rank());
    let (block, paddings) = blocks(&p.block_shape, "paddings", &p.paddings)?;
    let mut shape = x.shape.clone();
    shape[0] = shape[0].map(|n| n.checked_mul(block[0])?.checked_mul(block[1]));
    for (i, d) in shape[2..].iter_mut().enumerate() {
        let [before, after] = paddings[i];
        if let Some(n) = d.fixed().and_then(|n| n.checked_add(before)?.checked_add(after)) {
            require!(
                n % block[i] == 0,
                "the padded size {n} is not a multiple of the block size {}",
                block[i]
            );
            *d = (n / block[i]).into();
        }
    }
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

/// Returns the block's height and width, both positive, and for each how many elements to add or cut before and after.
pub fn blocks(
    block_shape: &[i64],
    edges: &str,
    values: &[i64],
) -> Result<([usize; 2], [[usize; 2]; 2]), InferError> {
    let sizes = |name: &str, sizes: &[i64]| -> Result<Vec<usize>, InferError> {
        let v = sizes.iter().map(|&n| usize::try_from(n)).collect::<Result<_, _>>();
        v.map_err(|_| InferError(format!("input `{name}` has negative elements")))
    };
    let (block, edge) = (sizes("block_shape", block_shape)?, sizes(edges, values)?);
    require!(
        block.len() == 2 && edge.len() == 4,
        "`block_shape` needs 2 elements and `{edges}` 4, not {} and {}",
        block.len(),
        edge.len()
    );
    require!(block[0] > 0 && block[1] > 0, "`block_shape` must be positive, not {block:?}");
    Ok(([block[0], block[1]], [[edge[0], edge[1]], [edge[2], edge[3]]]))
}
