//! Matrix products and embeddings.

use milwright_formats::proto::{
    BatchedMatMulLayerParams, DotProductLayerParams, EmbeddingLayerParams, EmbeddingNdLayerParams,
    InnerProductLayerParams, WeightParams,
};
use milwright_mil::{Input, OpKind, Tensor, ValueId, param};

use super::convolution::exchange;
use super::net::Net;
use crate::Error;
use crate::lower::{Result, Size, op, take, too_low, usize_of};

pub(super) fn inner_product(n: &mut Net, x: &[ValueId], p: &InnerProductLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let (inner, out) = (usize_of(p.input_channels)?, usize_of(p.output_channels)?);
    let weight = n.weights(p.weights.as_deref(), &[out, inner])?;
    let bias = if p.has_bias { Some(n.weights(p.bias.as_deref(), &[out])?) } else { None };
    let rank = n.rank(x)?;
    if rank <= 3 {
        return linear(n, x, weight, bias);
    }
    // Channel, height and width form one vector.
    let mut sizes: Vec<Size> = (0..rank - 3).map(|d| Size::Of(x, d..d + 1)).collect();
    sizes.push(Size::Fixed(inner));
    let flat = n.reshape_to(x, &sizes)?;
    let y = linear(n, flat, weight, bias)?;
    op!(n, ExpandDims, x = y, axes = &[-2, -1][..])
}

fn linear(n: &mut Net, x: ValueId, weight: Tensor, bias: Option<Tensor>) -> Result<ValueId> {
    let weight = n.constant(weight);
    let mut inputs = vec![Input::value(param!(Linear.x), x), Input::value(param!(Linear.weight), weight)];
    if let Some(bias) = bias {
        let bias = n.constant(bias);
        inputs.push(Input::value(param!(Linear.bias), bias));
    }
    n.op(OpKind::Linear, inputs)
}

pub(super) fn embedding(n: &mut Net, x: &[ValueId], p: &EmbeddingLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let rank = n.rank(x)?;
    let leading = rank.checked_sub(3).filter(|&r| r > 0).ok_or_else(|| too_low(rank, 4))?;
    let sizes: Vec<Size> = (0..leading).map(|d| Size::Of(x, d..d + 1)).collect();
    let indices = n.reshape_to(x, &sizes)?;
    let bias = p.has_bias.then_some(p.bias.as_deref());
    let rows = look_up(n, indices, p.input_dim, p.output_channels, p.weights.as_deref(), bias)?;
    op!(n, ExpandDims, x = rows, axes = &[-2, -1][..])
}

pub(super) fn embedding_nd(n: &mut Net, x: &[ValueId], p: &EmbeddingNdLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let rank = n.rank(x)?;
    if rank < 1 {
        return Err(too_low(rank, 2));
    }
    let indices = op!(n, Squeeze, x = x, axes = &[-1][..])?;
    let bias = p.has_bias.then_some(p.bias.as_deref());
    look_up(n, indices, p.vocab_size, p.embedding_size, p.weights.as_deref(), bias)
}

fn look_up(
    n: &mut Net,
    indices: ValueId,
    count: u64,
    size: u64,
    weights: Option<&WeightParams>,
    bias: Option<Option<&WeightParams>>,
) -> Result<ValueId> {
    let (count, size) = (usize_of(count)?, usize_of(size)?);
    let columns = n.weights(weights, &[size, count])?;
    let rows = exchange(&columns, size, count)?;
    let table = n.constant(rows);
    let indices = n.int_of(indices)?;
    let found = op!(n, Gather, x = table, indices = indices, axis = 0)?;
    match bias {
        Some(bias) => {
            let bias = n.weights(bias, &[size])?;
            op!(n, Add, x = found, y = bias)
        }
        None => Ok(found),
    }
}

pub(super) fn batched_matmul(n: &mut Net, x: &[ValueId], p: &BatchedMatMulLayerParams) -> Result<ValueId> {
    match x {
        [x] => {
            let x = n.float_of(*x)?;
            let inner = usize_of(p.weight_matrix_first_dimension)?;
            let out = usize_of(p.weight_matrix_second_dimension)?;
            // A matrix stored column by column is the transposed matrix stored row by row.
            let weight = n.weights(p.weights.as_deref(), &[out, inner])?;
            let bias = if p.has_bias { Some(n.weights(p.bias.as_deref(), &[out])?) } else { None };
            linear(n, x, weight, bias)
        }
        [x, y] => {
            let (x, y) = (n.float_of(*x)?, n.float_of(*y)?);
            let x = if n.rank(x)? == 1 { op!(n, ExpandDims, x = x, axes = &[0][..])? } else { x };
            let y = if n.rank(y)? == 1 { op!(n, ExpandDims, x = y, axes = &[1][..])? } else { y };
            op!(n, Matmul, x = x, y = y, transpose_x = p.transpose_a, transpose_y = p.transpose_b)
        }
        _ => Err(Error::malformed(format!("takes 1 or 2 inputs, not {}", x.len()))),
    }
}

pub(super) fn dot(n: &mut Net, x: &[ValueId], p: &DotProductLayerParams) -> Result<ValueId> {
    let [x, y] = take(x)?;
    let (mut x, mut y) = (n.float_of(x)?, n.float_of(y)?);
    let rank = n.rank(x)?;
    if rank < 3 {
        return Err(too_low(rank, 3));
    }
    if p.cosine_similarity {
        for v in [&mut x, &mut y] {
            let norm = op!(n, ReduceL2Norm, x = *v, axes = &[-3][..], keep_dims = true)?;
            *v = op!(n, RealDiv, x = *v, y = norm)?;
        }
    }
    let product = op!(n, Mul, x = x, y = y)?;
    op!(n, ReduceSum, x = product, axes = &[-3][..], keep_dims = true)
}
