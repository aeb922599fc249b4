//! `gather`

use crate::DType::{Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, Known, OpView, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// Takes slices of `x` along `axis` by index.
    ///
    /// The dimension `axis` of `x` is replaced by the dimensions of `indices`. From iOS16 on, the first `batch_dims`
    /// dimensions of `x` and `indices` are batches: each batch of `indices` takes from its batch of `x`.
    ///
    /// Indices from -size to size - 1 are in range, negative ones counting from the end; from iOS17 on only 0 to
    /// size - 1 are promised, and `validate_indices` makes negative ones an error. Others always are one here.
    Gather,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                required("indices", Kind::INT32),
                optional("axis", Kind::INT32, Default::Int(0)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32, Int32])],
        },
        Version {
            opset: Opset::Ios16,
            params: &[
                required("x", Kind::T),
                required("indices", Kind::Var("I")),
                optional("axis", Kind::INT32, Default::Int(0)).constant(),
                optional("batch_dims", Kind::INT32, Default::Int(0)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32, Int32]), ("I", &[Int16, Int32, UInt16])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                required("indices", Kind::Var("I")),
                optional("axis", Kind::INT32, Default::Int(0)).constant(),
                optional("batch_dims", Kind::INT32, Default::Int(0)).constant(),
                optional("validate_indices", Kind::BOOL, Default::Bool(false)).constant(),
            ],
            types: &[
                ("T", &[Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16]),
                ("I", &[Int8, Int16, Int32, UInt8, UInt16]),
            ],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, indices) = (op.tensor("x")?, op.tensor("indices")?);
    let axis = op.axis("axis", x.rank())?;
    let batch = if op.version.opset < Opset::Ios16 { 0 } else { op.int("batch_dims")? };
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
    Ok(vec![Inferred { ty: TensorType::new(x.dtype, shape).into(), known: partial(op, x, indices) }])
}

/// Picks known elements of a small vector, such as a shape.
fn partial(op: &OpView<'_>, x: &TensorType, indices: &TensorType) -> Option<Known> {
    if x.rank() != 1 || indices.rank() > 1 {
        return None;
    }
    let elements = op.partial("x")?;
    let n = elements.len() as i64;
    let element = |i: i64| elements.get(usize::try_from(if i < 0 { i + n } else { i }).ok()?).copied();
    let taken: Option<Vec<_>> = op.partial("indices")?.into_iter().map(|i| element(i?)).collect();
    taken.map(Known::Partial)
}
