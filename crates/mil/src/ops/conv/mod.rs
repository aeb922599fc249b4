//! Convolutions, and the geometry of sliding windows, which pools use as well.

#[expect(clippy::module_inception, reason = "the op has its family's name")]
pub mod conv;
pub mod conv_quantized;
pub mod conv_transpose;

use super::{InferError, Operand};
use crate::Dim;

/// The geometry of a sliding window along one spatial dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// The number of positions of the window; unknown if the input's size is.
    pub output: Dim,
    /// The number of kernel offsets (taps).
    pub kernel: usize,
    /// Input elements from one position to the next.
    pub stride: usize,
    /// Input elements from one kernel offset to the next.
    pub dilation: usize,
    /// Elements of padding before the input.
    pub before: usize,
    /// Elements of padding after the input. With `ceil_mode`, the last window may reach beyond them.
    pub after: usize,
}

impl Sweep {
    /// The number of input elements from the window's first kernel offset to its last.
    pub fn span(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }
}

/// The parameters of a sliding window, as the op has them.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// `strides`
    pub strides: Option<&'a [i64]>,
    /// `dilations`
    pub dilations: Option<&'a [i64]>,
    /// `pad_type`
    pub pad_type: &'a str,
    /// `pad`
    pub pad: Option<&'a [i64]>,
    /// `ceil_mode`
    pub ceil_mode: bool,
}

impl Window<'_> {
    /// Returns the geometry of the window over each dimension of `input`, whose sizes are the spatial ones.
    ///
    /// # Errors
    /// A parameter has the wrong length or is not positive, or the window is larger than the padded input.
    pub fn sweeps(&self, input: &[Dim], kernel: &[usize]) -> Result<Vec<Sweep>, InferError> {
        let n = input.len();
        if kernel.len() != n {
            return Err(InferError(format!("a window of {} dimensions over {n}", kernel.len())));
        }
        let strides = positive("strides", self.strides, n)?;
        let dilations = positive("dilations", self.dilations, n)?;
        let pad_type = self.pad_type;
        let pad = if pad_type == "custom" { pads(self.pad, n)? } else { vec![0; 2 * n] };
        let ceil = self.ceil_mode;
        let sweep = |d: usize| {
            let (kernel, stride, dilation) = (kernel[d], strides[d], dilations[d]);
            let too_large = || InferError(format!("the window does not fit in dimension {}", d + 2));
            let span = kernel.checked_sub(1).and_then(|k| k.checked_mul(dilation)?.checked_add(1));
            let span = span.ok_or_else(too_large)?;
            let (before, after) = match (pad_type, input[d]) {
                ("valid", _) => (0, 0),
                ("custom", _) => (pad[2 * d], pad[2 * d + 1]),
                ("same" | "same_lower", Dim::Fixed(size)) => {
                    // The output has ⌈size / stride⌉ positions. The padding is split evenly; an odd element goes to the
                    // end (`same`) or to the start (`same_lower`).
                    let covered = size.div_ceil(stride).checked_mul(stride).and_then(|n| n.checked_add(span));
                    let total = covered.ok_or_else(too_large)?.saturating_sub(size).saturating_sub(stride);
                    let small = total / 2;
                    if pad_type == "same" { (small, total - small) } else { (total - small, small) }
                }
                ("same" | "same_lower", Dim::Unknown) => (0, 0),
                _ => return Err(InferError(format!("input `pad_type` is `{pad_type}`, which is not known"))),
            };
            let output = match input[d] {
                Dim::Unknown => Dim::Unknown,
                Dim::Fixed(size) => {
                    let padded = size.checked_add(before).and_then(|n| n.checked_add(after));
                    let room = padded.and_then(|n| n.checked_sub(span)).ok_or_else(too_large)?;
                    let mut positions = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
                    // Drops a last window that starts beyond the input and its padding in front: it sees no input.
                    let pad = before + after;
                    if ceil && pad > 0 && 2 * (positions - 1) * stride >= 2 * size + pad {
                        positions -= 1;
                    }
                    Dim::Fixed(positions)
                }
            };
            Ok(Sweep { output, kernel, stride, dilation, before, after })
        };
        (0..n).map(sweep).collect()
    }
}

/// Returns a vector parameter of `n` positive integers; ones if it is not bound.
pub(crate) fn positive(name: &str, values: Option<&[i64]>, n: usize) -> Result<Vec<usize>, InferError> {
    let Some(values) = values else { return Ok(vec![1; n]) };
    let values: Option<Vec<usize>> =
        values.iter().map(|&v| usize::try_from(v).ok().filter(|&v| v > 0)).collect();
    values
        .filter(|v| v.len() == n)
        .ok_or_else(|| InferError(format!("input `{name}` must be {n} positive integers")))
}

/// Returns the parameter `pad` as padding before and after each of `n` dimensions; zeros if it is not bound.
pub(crate) fn pads(pad: Option<&[i64]>, n: usize) -> Result<Vec<usize>, InferError> {
    let Some(values) = pad else { return Ok(vec![0; 2 * n]) };
    let values: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
    values
        .filter(|v| v.len() == 2 * n)
        .ok_or_else(|| InferError(format!("input `pad` must be {} non-negative integers", 2 * n)))
}

/// Returns the parameter `groups`.
pub(crate) fn groups(groups: i64) -> Result<usize, InferError> {
    usize::try_from(groups)
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| InferError(format!("input `groups` is {groups}; it must be positive")))
}

/// Checks that a bias, if there is one, is a vector of `channels` elements.
pub(crate) fn check_bias(bias: Option<Operand<'_>>, channels: Dim) -> Result<(), InferError> {
    if let Some(bias) = bias
        && (bias.rank() != 1 || !bias.shape[0].agrees(channels))
    {
        return Err(InferError(format!("input `bias` is a {bias}; it must be a vector of {channels}")));
    }
    Ok(())
}
