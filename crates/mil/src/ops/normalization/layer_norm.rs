//! `layer_norm`

use crate::DType::{Fp16, Fp32};
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// (x - mean) / √(variance + epsilon) · gamma + beta, with the statistics of `x` over the dimensions
    /// `axes`.
    ///
    /// `axes` (default: all) may be negative (from the end). `gamma` (default: ones) and `beta` (default:
    /// zeros) have the shape of those dimensions of `x`, in the order of `x`. From iOS17 on the parameters
    /// may have another float type than `x`; `epsilon` may in any opset: coremltools writes its default in
    /// fp32. The result has the type of `x`.
    LayerNorm,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                optional("axes", Kind::INT32, Default::Absent).constant(),
                optional("gamma", Kind::T, Default::Absent).constant(),
                optional("beta", Kind::T, Default::Absent).constant(),
                optional("epsilon", Kind::Var("E"), Default::Float(1e-5)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32]), ("E", &[Fp16, Fp32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                optional("axes", Kind::INT32, Default::Absent).constant(),
                optional("gamma", Kind::Var("U"), Default::Absent).constant(),
                optional("beta", Kind::Var("U"), Default::Absent).constant(),
                optional("epsilon", Kind::Var("E"), Default::Float(1e-5)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32]), ("U", &[Fp16, Fp32]), ("E", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let axes = op.opt_axes("axes", x.rank())?;
    let normalized = |d: &usize| axes.as_ref().is_none_or(|a| a.contains(d));
    let expected: Vec<_> = (0..x.rank()).filter(normalized).map(|d| x.shape[d]).collect();
    for name in ["gamma", "beta"].into_iter().filter(|n| op.has(n)) {
        let t = op.tensor(name)?;
        if !t.agrees(&TensorType::new(t.dtype, expected.clone())) {
            let expected = TensorType::new(t.dtype, expected);
            return Err(InferError(format!("input `{name}` is {t}, but the axes of `x` make {expected}")));
        }
    }
    op.float("epsilon")?;
    same_as_x(op)
}
