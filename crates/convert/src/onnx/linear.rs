//! Matrix products.

use milwright_mil::{DType, OpKind, Tensor, ValueId, param};

use super::item::{Source, Val};
use super::node::Node;
use super::shape::{Wanted, reshape_wanted, scalar_of};
use crate::Error;
use crate::lower::{In, Result, Size, op, tensor_of};

/// `MatMul`, as NumPy's: a vector on the left is a row, one on the right a column, and the result has no such
/// dimension.
pub(super) fn matmul(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let x = n.value(0)?;
    if n.rank(x)? >= 2
        && let Some((weight, _)) = weight(n, x, 1, true, 1.0)?
    {
        let inputs = vec![In::from(x).named(param!(Linear.x)), weight.named(param!(Linear.weight))];
        return Ok(Val::new(elem, n.op(OpKind::Linear, inputs)?));
    }
    let y = n.value(1)?;
    product(n, x, y).map(|v| Val::new(elem, v))
}

/// The product of two values, as NumPy's `matmul`.
pub(super) fn product(n: &mut Node<'_, '_>, x: ValueId, y: ValueId) -> Result<ValueId> {
    let (left, right) = (n.rank(x)?, n.rank(y)?);
    if left == 0 || right == 0 {
        return Err(Error::malformed("a matrix product with a scalar"));
    }
    let x = if left == 1 { op!(n, ExpandDims, x = x, axes = &[0][..])? } else { x };
    let y = if right == 1 { op!(n, ExpandDims, x = y, axes = &[1][..])? } else { y };
    let mut result = op!(n, Matmul, x = x, y = y)?;
    let rank = n.rank(result)?;
    let mut dropped = Vec::new();
    if left == 1 {
        dropped.push(rank - 2);
    }
    if right == 1 {
        dropped.push(rank - 1);
    }
    if !dropped.is_empty() {
        let axes: Vec<i32> = dropped.iter().map(|&a| a as i32).collect();
        result = op!(n, Squeeze, x = result, axes = &axes[..])?;
    }
    Ok(result)
}

/// A constant matrix times a number as the weight of `linear`, whose rows are columns of the product, and how many rows it
/// has; `None` if the input is none. It is transposed if the input has them as columns.
pub(super) fn weight(
    n: &mut Node<'_, '_>,
    x: ValueId,
    i: usize,
    transpose: bool,
    factor: f32,
) -> Result<Option<(In, usize)>> {
    let dtype = n.ty(x)?.dtype;
    let Source::Value(value) = n.val(i)?.source.clone() else {
        return plain_weight(n, dtype, i, transpose, factor);
    };
    let Some(coded) = n.coded.get(&value).cloned() else {
        return plain_weight(n, dtype, i, transpose, factor);
    };
    if coded.sizes().len() != 2 || n.ty(value)?.dtype != dtype {
        return Ok(None);
    }
    let rows = coded.sizes()[usize::from(transpose)];
    if !transpose && factor == 1.0 {
        return Ok(Some((value.into(), rows)));
    }
    let coded = if transpose { coded.transposed()? } else { (*coded).clone() };
    let coded = if factor == 1.0 { coded } else { coded.scaled(factor.into()) };
    Ok(Some((coded.value(n)?.into(), rows)))
}

fn plain_weight(
    n: &Node<'_, '_>,
    dtype: DType,
    i: usize,
    transpose: bool,
    factor: f32,
) -> Result<Option<(In, usize)>> {
    let Some(tensor) = n.known(i).filter(|t| t.shape().len() == 2 && t.dtype() == dtype && dtype.is_float())
    else {
        return Ok(None);
    };
    let tensor = if transpose { transposed_for(n, &tensor)? } else { tensor };
    let tensor = if factor == 1.0 { tensor } else { scaled(&tensor, factor)? };
    let rows = tensor.shape()[0];
    Ok(Some((tensor.into(), rows)))
}

/// The transpose of a matrix of floats, which is kept outside of memory if it is large.
fn transposed_for(n: &Node<'_, '_>, tensor: &Tensor) -> Result<Tensor> {
    let made = transposed(tensor)?;
    match n.file.spilled(made.bytes()) {
        Some(bytes) => {
            // What was read is not needed soon.
            n.file.release_memory();
            Tensor::from_bytes(made.dtype(), made.shape(), bytes).map_err(|e| Error::malformed(e.to_string()))
        }
        None => Ok(made),
    }
}

/// The transpose of a matrix of floats.
fn transposed(tensor: &Tensor) -> Result<Tensor> {
    /// In tiles, so that both sides are read by cache lines.
    fn turn<T: milwright_mil::Element>(tensor: &Tensor) -> Result<Tensor> {
        const TILE: usize = 16;
        let &[rows, columns] = tensor.shape() else { return Err(Error::malformed("not a matrix")) };
        let old = tensor.as_slice::<T>().ok_or_else(|| Error::malformed("not a matrix of floats"))?;
        let mut new = vec![T::zeroed(); old.len()];
        for row in (0..rows).step_by(TILE) {
            for column in (0..columns).step_by(TILE) {
                for r in row..rows.min(row + TILE) {
                    for c in column..columns.min(column + TILE) {
                        new[c * rows + r] = old[r * columns + c];
                    }
                }
            }
        }
        tensor_of(&[columns, rows], new)
    }
    match tensor.dtype() {
        DType::Fp16 => turn::<half::f16>(tensor),
        _ => turn::<f32>(tensor),
    }
}

/// `Gemm`: alpha · A · B + beta · C.
pub(super) fn gemm(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let (alpha, beta) = (n.float_or("alpha", 1.0)?, n.float_or("beta", 1.0)?);
    let (trans_a, trans_b) = (n.flag("transA", false)?, n.flag("transB", false)?);
    // Until 6, C is broadcast only on request; what fits is the same.
    let _ = n.int("broadcast")?;
    let a = n.value(0)?;
    let dtype = n.ty(a)?.dtype;
    let bias = n.has(2) && beta != 0.0;
    let flattened = if n.rank(a)? != 2 && !trans_a { as_matrix(n, a)? } else { a };
    let weight = if trans_a { None } else { weight(n, a, 1, !trans_b, alpha)? };
    let mut result = match weight {
        Some((weight, rows)) => {
            let known = if bias { n.known(2) } else { None };
            let mut inputs =
                vec![In::from(flattened).named(param!(Linear.x)), weight.named(param!(Linear.weight))];
            match known.filter(|t| t.elements() == rows && t.shape().iter().filter(|&&d| d != 1).count() <= 1)
            {
                // A vector of one element for each column.
                Some(c) if c.shape().last() == Some(&rows) && c.dtype() == dtype => {
                    let c = c.reshaped(&[rows]).map_err(|e| Error::malformed(e.to_string()))?;
                    let c = if beta == 1.0 { c } else { scaled(&c, beta)? };
                    inputs.push(In::from(c).named(param!(Linear.bias)));
                    return Ok(Val::new(elem, n.op(OpKind::Linear, inputs)?));
                }
                _ => n.op(OpKind::Linear, inputs)?,
            }
        }
        None => {
            let b = n.value(1)?;
            let product = op!(n, Matmul, x = flattened, y = b, transpose_x = trans_a, transpose_y = trans_b)?;
            times(n, product, alpha)?
        }
    };
    if bias {
        let c = n.value(2)?;
        let c = times(n, c, beta)?;
        result = op!(n, Add, x = result, y = c)?;
    }
    Ok(Val::new(elem, result))
}

/// Old versions take tensors of more dimensions, of which the first is the rows.
fn as_matrix(n: &mut Node<'_, '_>, a: ValueId) -> Result<ValueId> {
    let rank = n.rank(a)?;
    if rank < 2 {
        return Err(Error::malformed("its first input must be a matrix"));
    }
    let sizes = [Wanted::Size(Size::Of(a, 0..1)), Wanted::Size(Size::Of(a, 1..rank))];
    reshape_wanted(n, a, &sizes)
}

/// A value times a number.
fn times(n: &mut Node<'_, '_>, x: ValueId, factor: f32) -> Result<ValueId> {
    if factor == 1.0 {
        return Ok(x);
    }
    let factor = scalar_of(n.ty(x)?.dtype, f64::from(factor));
    op!(n, Mul, x = x, y = factor)
}

fn scaled(tensor: &Tensor, factor: f32) -> Result<Tensor> {
    match tensor.dtype() {
        DType::Fp16 => {
            let values =
                tensor.to_f64().iter().map(|&x| half::f16::from_f64(x * f64::from(factor))).collect();
            tensor_of(tensor.shape(), values)
        }
        _ => tensor_of(tensor.shape(), tensor.to_f64().iter().map(|&x| x as f32 * factor).collect()),
    }
}
