//! `conv_transpose`

use super::{check_bias, groups, pads, positive};
use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// Transposed convolution: the gradient of a convolution with respect to its input.
    ///
    /// `x` is N × C_in × D…, `weight` is C_in × C_out/groups × K…, `bias` has C_out elements. With span =
    /// (K - 1) · dilation + 1, an output dimension is (D - 1) · stride + span without padding (`pad_type` `valid`),
    /// less `pad` on both sides (`custom`), or D · stride (`same`). `output_shape` gives the whole shape of the
    /// result, and decides where several are possible.
    ConvTranspose since Ios13, Ios17 {
        x: Operand<T>,
        weight: EarlyConst<T until Ios17, U>,
        bias: Option<EarlyConst<T until Ios17, U>>,
        pad: Option<Ints>,
        output_shape: Option<Ints>,
        pad_type: Str = "valid",
        strides: Option<Ints>,
        dilations: Option<Ints>,
        groups: i64 = 1,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32]
    => infer
}

/// The geometry of a transposed convolution along one spatial dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The size of the result.
    pub output: usize,
    /// The number of kernel offsets (taps).
    pub kernel: usize,
    /// Result elements from one input element to the next.
    pub stride: usize,
    /// Result elements from one kernel offset to the next.
    pub dilation: usize,
    /// Elements that are cut off at the start.
    pub before: usize,
}

/// Returns the geometry of each dimension, for an input and a kernel of these spatial sizes.
///
/// # Errors
/// A parameter has the wrong length, or nothing is left after padding.
pub fn spreads(p: &Params<'_>, input: &[usize], kernel: &[usize]) -> Result<Vec<Spread>, InferError> {
    let n = input.len();
    let strides = positive("strides", p.strides.as_deref(), n)?;
    let dilations = positive("dilations", p.dilations.as_deref(), n)?;
    let pad_type = p.pad_type;
    let pad = if pad_type == "custom" { pads(p.pad.as_deref(), n)? } else { vec![0; 2 * n] };
    let wanted = p.output_shape.as_deref();
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
        if let Some(size) = wanted.and_then(|w| w.get(d + 2)) {
            output = usize::try_from(*size).ok().filter(|&n| n > 0).ok_or_else(wrong)?;
            if pad_type == "same" {
                before = full.saturating_sub(output) / 2;
            }
        }
        Ok(Spread { output, kernel, stride, dilation, before })
    };
    (0..n).map(spread).collect()
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, weight) = (p.x, p.weight);
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
    let groups = groups(p.groups)?;
    if weight.shape[0].fixed().is_some_and(|c| c % groups != 0) {
        return Err(InferError(format!(
            "{} input channels do not divide into {groups} groups",
            weight.shape[0]
        )));
    }
    let channels = weight.shape[1].zip_with(Dim::Fixed(groups), usize::checked_mul);
    check_bias(p.bias, channels)?;
    if let Some(wanted) = &p.output_shape
        && wanted.len() != x.rank()
    {
        return Err(InferError(format!("input `output_shape` must have {} elements", x.rank())));
    }
    let mut shape = vec![x.shape[0], channels];
    let fixed = |dims: &[Dim]| dims.iter().map(|d| d.fixed()).collect::<Option<Vec<usize>>>();
    match (fixed(&x.shape[2..]), fixed(&weight.shape[2..])) {
        (Some(input), Some(kernel)) => {
            shape.extend(spreads(p, &input, &kernel)?.iter().map(|s| Dim::Fixed(s.output)));
        }
        _ => shape.extend(x.shape[2..].iter().map(|_| Dim::Unknown)),
    }
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
