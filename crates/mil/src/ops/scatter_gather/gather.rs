//! `gather`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred, Known, Operand};

op! {
    /// Takes slices of `x` along `axis` by index.
    ///
    /// The dimension `axis` of `x` is replaced by the dimensions of `indices`. From iOS16 on, the first `batch_dims`
    /// dimensions of `x` and `indices` are batches: each batch of `indices` takes from its batch of `x`.
    ///
    /// Indices from -size to size - 1 are in range, negative ones counting from the end; from iOS17 on only 0 to
    /// size - 1 are promised, and `validate_indices` makes negative ones an error. Others always are one here.
    Gather since Ios13, Ios16, Ios17 {
        x: Operand<T>,
        indices: Operand<[Int32] until Ios16, I>,
        axis: Axis = 0,
        batch_dims: i64 since Ios16 = 0,
        validate_indices: bool since Ios17 = false,
    }
    where
        T: [Fp16, Fp32, Int32] since Ios17 [Int8, Int16, UInt8, UInt16],
        I: since Ios16 [Int16, Int32, UInt16] since Ios17 [Int8, UInt8]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, indices) = (p.x, p.indices);
    let axis = p.axis.resolve(x.rank())?;
    let batch = p.batch_dims;
    let most = axis.min(indices.rank());
    require!(
        (0..=most as i64).contains(&batch),
        "input `batch_dims` is {batch}; it must be from 0 to {most}, the smaller of `axis` and the rank of `indices`"
    );
    let batch = batch as usize;
    for (d, (&a, &b)) in x.shape.iter().zip(&indices.shape[..batch]).enumerate() {
        require!(a.agrees(b), "`x` is {a} in batch dimension {d}, `indices` is {b}");
    }
    let shape = [&x.shape[..axis], &indices.shape[batch..], &x.shape[axis + 1..]].concat();
    Ok(vec![Inferred { ty: TensorType::new(x.dtype, shape).into(), known: partial(x, indices) }])
}

/// Picks known elements of a small vector, such as a shape.
fn partial(x: Operand<'_>, indices: Operand<'_>) -> Option<Known> {
    if x.rank() != 1 || indices.rank() > 1 {
        return None;
    }
    let elements = x.partial()?;
    let n = elements.len() as i64;
    let element = |i: i64| elements.get(usize::try_from(if i < 0 { i + n } else { i }).ok()?).copied();
    let taken: Option<Vec<_>> = indices.partial()?.into_iter().map(|i| element(i?)).collect();
    taken.map(Known::Partial)
}
