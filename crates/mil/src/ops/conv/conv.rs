//! `conv`

use super::{Window, check_bias, groups};
use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// Convolution over one, two or three spatial dimensions.
    ///
    /// `x` is N × C_in × D…, `weight` is C_out × C_in/groups × K…, `bias` has C_out elements; the result is
    /// N × C_out × O…. As in machine learning generally, the kernel is not flipped.
    ///
    /// `pad_type` is `valid` (no padding), `custom` (`pad` has before and after for each dimension), `same` or
    /// `same_lower` (O = ⌈D / stride⌉, the odd element of padding after or before). Padding is zeros.
    Conv since Ios13, Ios17 {
        x: Operand<T>,
        weight: Operand<T until Ios17, U>,
        bias: Option<EarlyConst<T until Ios17, U>>,
        strides: Option<Ints>,
        pad_type: Str = "valid",
        pad: Option<Ints>,
        dilations: Option<Ints>,
        groups: i64 = 1,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32]
    => infer
}

impl Params<'_> {
    /// How the window moves.
    pub fn window(&self) -> Window<'_> {
        Window {
            strides: self.strides.as_deref(),
            dilations: self.dilations.as_deref(),
            pad_type: self.pad_type,
            pad: self.pad.as_deref(),
            ceil_mode: false,
        }
    }
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, weight) = (p.x, p.weight);
    if !(3..=5).contains(&x.rank()) || weight.rank() != x.rank() {
        return Err(InferError(format!(
            "`x` is a {x} and `weight` a {weight}; both must have rank 3, 4 or 5"
        )));
    }
    let groups = groups(p.groups)?;
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
    check_bias(p.bias, weight.shape[0])?;
    let mut shape = vec![x.shape[0], weight.shape[0]];
    match weight.shape[2..].iter().map(|d| d.fixed()).collect::<Option<Vec<usize>>>() {
        Some(kernel) => shape.extend(p.window().sweeps(&x.shape[2..], &kernel)?.iter().map(|s| s.output)),
        None => shape.extend(x.shape[2..].iter().map(|_| Dim::Unknown)),
    }
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
