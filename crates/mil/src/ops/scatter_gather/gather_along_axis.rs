//! `gather_along_axis`

use crate::DType::{Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// Takes single elements of `x` along `axis` by index.
    ///
    /// `indices` has the shape of the result, and that of `x` except along `axis`: the element at a place is the one
    /// of `x` at the same place, but at the index found there along `axis`. Indices are as for `gather`.
    GatherAlongAxis,
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
            ],
            types: &[("T", &[Fp16, Fp32, Int32]), ("I", &[Int16, Int32, UInt16])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                required("indices", Kind::Var("I")),
                optional("axis", Kind::INT32, Default::Int(0)).constant(),
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
    same_but_axis("x", x, indices, axis)?;
    Ok(vec![TensorType::new(x.dtype, indices.shape.clone()).into()])
}

/// Checks that `indices` has the shape of a tensor except along `axis`.
pub(super) fn same_but_axis(
    name: &str,
    tensor: &TensorType,
    indices: &TensorType,
    axis: usize,
) -> Result<(), InferError> {
    let (a, b) = (tensor.rank(), indices.rank());
    require!(a == b, "`{name}` has rank {a}, `indices` has {b}");
    for (d, (&a, &b)) in tensor.shape.iter().zip(&indices.shape).enumerate() {
        require!(d == axis || a.agrees(b), "`{name}` is {a} in dimension {d}, `indices` is {b}");
    }
    Ok(())
}
