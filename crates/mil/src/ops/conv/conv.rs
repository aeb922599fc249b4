//! `conv`

use super::{check_bias, groups, sweeps};
use crate::DType::{Fp16, Fp32};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Param, Version, optional, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// Convolution over one, two or three spatial dimensions.
    ///
    /// `x` is N × C_in × D…, `weight` is C_out × C_in/groups × K…, `bias` has C_out elements; the result is
    /// N × C_out × O…. As in machine learning generally, the kernel is not flipped.
    ///
    /// `pad_type` is `valid` (no padding), `custom` (`pad` has before and after for each dimension), `same` or
    /// `same_lower` (O = ⌈D / stride⌉, the odd element of padding after or before). Padding is zeros.
    Conv,
    &[
        Version { opset: Opset::Ios13, params: &params(Kind::T, true), types: &[("T", &[Fp16, Fp32])] },
        Version {
            opset: Opset::Ios17,
            params: &params(Kind::Var("U"), false),
            types: &[("T", &[Fp16, Fp32]), ("U", &[Fp16, Fp32])],
        },
    ],
    infer,
}

const fn params(weight: Kind, constant_bias: bool) -> [Param; 8] {
    let bias = optional("bias", weight, Default::Absent);
    [
        required("x", Kind::T),
        required("weight", weight),
        if constant_bias { bias.constant() } else { bias },
        optional("strides", Kind::INT32, Default::Absent).constant(),
        optional("pad_type", Kind::STRING, Default::Str("valid")).constant(),
        optional("pad", Kind::INT32, Default::Absent).constant(),
        optional("dilations", Kind::INT32, Default::Absent).constant(),
        optional("groups", Kind::INT32, Default::Int(1)).constant(),
    ]
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, weight) = (op.tensor("x")?, op.tensor("weight")?);
    if !(3..=5).contains(&x.rank()) || weight.rank() != x.rank() {
        return Err(InferError(format!(
            "`x` is a {x} and `weight` a {weight}; both must have rank 3, 4 or 5"
        )));
    }
    let groups = groups(op)?;
    if let (Dim::Fixed(c), Dim::Fixed(w)) = (x.shape[1], weight.shape[1])
        && w.checked_mul(groups) != Some(c)
    {
        return Err(InferError(format!(
            "`x` has {c} channels, `weight` takes {w} in each of {groups} groups"
        )));
    }
    if weight.shape[0].fixed().is_some_and(|c| c % groups != 0) {
        return Err(InferError(format!(
            "{} output channels do not divide into {groups} groups",
            weight.shape[0]
        )));
    }
    check_bias(op, weight.shape[0])?;
    let mut shape = vec![x.shape[0], weight.shape[0]];
    match weight.shape[2..].iter().map(|d| d.fixed()).collect::<Option<Vec<usize>>>() {
        Some(kernel) => shape.extend(sweeps(op, &x.shape[2..], &kernel)?.iter().map(|s| s.output)),
        None => shape.extend(x.shape[2..].iter().map(|_| Dim::Unknown)),
    }
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
