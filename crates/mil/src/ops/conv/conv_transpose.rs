//! `conv_transpose`

use super::{check_bias, groups, pads, positive};
use crate::DType::{Fp16, Fp32};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Param, Version, optional, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// Transposed convolution: the gradient of a convolution with respect to its input.
    ///
    /// `x` is N × C_in × D…, `weight` is C_in × C_out/groups × K…, `bias` has C_out elements. With span =
    /// (K - 1) · dilation + 1, an output dimension is (D - 1) · stride + span without padding (`pad_type` `valid`),
    /// less `pad` on both sides (`custom`), or D · stride (`same`). `output_shape` gives the whole shape of the
    /// result, and decides where several are possible.
    ConvTranspose,
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

const fn params(kind: Kind, constant: bool) -> [Param; 9] {
    let (weight, bias) = (required("weight", kind), optional("bias", kind, Default::Absent));
    [
        required("x", Kind::T),
        if constant { weight.constant() } else { weight },
        if constant { bias.constant() } else { bias },
        optional("pad", Kind::INT32, Default::Absent).constant(),
        optional("output_shape", Kind::INT32, Default::Absent).constant(),
        optional("pad_type", Kind::STRING, Default::Str("valid")).constant(),
        optional("strides", Kind::INT32, Default::Absent).constant(),
        optional("dilations", Kind::INT32, Default::Absent).constant(),
        optional("groups", Kind::INT32, Default::Int(1)).constant(),
    ]
}

/// How one spatial dimension is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Elements of the result.
    pub output: usize,
    /// Taps of the kernel.
    pub kernel: usize,
    /// Result elements from one input element to the next.
    pub stride: usize,
    /// Result elements from one tap to the next.
    pub dilation: usize,
    /// Elements that are cut off in front.
    pub before: usize,
}

/// The spreads of `input` (spatial sizes) with a kernel.
///
/// # Errors
/// A parameter has the wrong length, or nothing is left after padding.
pub fn spreads(op: &OpView<'_>, input: &[usize], kernel: &[usize]) -> Result<Vec<Spread>, InferError> {
    let n = input.len();
    let strides = positive(op, "strides", n)?;
    let dilations = positive(op, "dilations", n)?;
    let pad_type = op.str("pad_type")?;
    let pad = if pad_type == "custom" { pads(op, n)? } else { vec![0; 2 * n] };
    let wanted = op.opt_ints("output_shape")?;
    let spread = |d: usize| {
        let (kernel, stride, dilation) = (kernel[d], strides[d], dilations[d]);
        let wrong = || InferError(format!("dimension {} of the result would be empty or too large", d + 2));
        let full = input[d]
            .checked_sub(1)
            .zip(kernel.checked_sub(1))
            .and_then(|(i, k)| i.checked_mul(stride)?.checked_add(k.checked_mul(dilation)?)?.checked_add(1));
        let full = full.ok_or_else(wrong)?;
        let (mut output, mut before) = match pad_type {
            "valid" => (full, 0),
            "custom" => {
                let cut = pad[2 * d].checked_add(pad[2 * d + 1]);
                let left = cut.and_then(|c| full.checked_sub(c)).filter(|&n| n > 0);
                (left.ok_or_else(wrong)?, pad[2 * d])
            }
            "same" => {
                let output = input[d].checked_mul(stride).ok_or_else(wrong)?;
                (output, full.saturating_sub(output) / 2)
            }
            _ => return Err(InferError(format!("input `pad_type` is `{pad_type}`, which is not known"))),
        };
        if let Some(size) = wanted.as_ref().and_then(|w| w.get(d + 2)) {
            output = usize::try_from(*size).ok().filter(|&n| n > 0).ok_or_else(wrong)?;
            if pad_type == "same" {
                before = full.saturating_sub(output) / 2;
            }
        }
        Ok(Spread { output, kernel, stride, dilation, before })
    };
    (0..n).map(spread).collect()
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, weight) = (op.tensor("x")?, op.tensor("weight")?);
    if !(3..=5).contains(&x.rank()) || weight.rank() != x.rank() {
        return Err(InferError(format!(
            "`x` is a {x} and `weight` a {weight}; both must have rank 3, 4 or 5"
        )));
    }
    if !x.shape[1].agrees(weight.shape[0]) {
        return Err(InferError(format!(
            "`x` has {} channels, `weight` takes {}",
            x.shape[1], weight.shape[0]
        )));
    }
    let groups = groups(op)?;
    if weight.shape[0].fixed().is_some_and(|c| c % groups != 0) {
        return Err(InferError(format!(
            "{} input channels do not divide into {groups} groups",
            weight.shape[0]
        )));
    }
    let channels = weight.shape[1].zip_with(Dim::Fixed(groups), usize::checked_mul);
    check_bias(op, channels)?;
    if let Some(wanted) = op.opt_ints("output_shape")?
        && wanted.len() != x.rank()
    {
        return Err(InferError(format!("input `output_shape` must have {} elements", x.rank())));
    }
    let mut shape = vec![x.shape[0], channels];
    let fixed = |dims: &[Dim]| dims.iter().map(|d| d.fixed()).collect::<Option<Vec<usize>>>();
    match (fixed(&x.shape[2..]), fixed(&weight.shape[2..])) {
        (Some(input), Some(kernel)) => {
            shape.extend(spreads(op, &input, &kernel)?.iter().map(|s| Dim::Fixed(s.output)));
        }
        _ => shape.extend(x.shape[2..].iter().map(|_| Dim::Unknown)),
    }
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
