//! Convolutions, and transposed ones.

use milwright_formats::proto::convolution_layer_params::ConvolutionPaddingType as Padding;
use milwright_formats::proto::convolution3_d_layer_params::PaddingType;
use milwright_formats::proto::same_padding::SamePaddingMode;
use milwright_formats::proto::{
    BorderAmounts, Convolution3DLayerParams, ConvolutionLayerParams, SamePadding, WeightParams,
};
use milwright_mil::{Dim, Input, OpKind, Tensor, Value, ValueId, param};

use super::net::Net;
use super::weights;
use crate::Error;
use crate::lower::{In, Result, i32_of, take, tensor_of, usize_of, with_rank};

/// The padding of an op that slides a window.
pub(super) struct Pad {
    pub kind: &'static str,
    /// Padding before and after, for each spatial dimension.
    pub amounts: Vec<i32>,
}

/// The parameters that two-dimensional and three-dimensional convolutions share.
struct Form {
    strides: Vec<i32>,
    dilations: Vec<i32>,
    pad: Pad,
    groups: u64,
    channels: u64,
    /// The spatial shape of the result, if a transposed convolution specifies it.
    output: Vec<i32>,
}

pub(super) fn convolution(n: &mut Net, x: &[ValueId], p: &ConvolutionLayerParams) -> Result<ValueId> {
    let form = Form {
        strides: two(&p.stride, 1)?,
        dilations: two(&p.dilation_factor, 1)?,
        pad: match &p.convolution_padding_type {
            Some(Padding::Same(same)) => same_pad(same),
            Some(Padding::Valid(valid)) => custom_pad(valid.padding_amounts.as_ref())?,
            None => custom_pad(None)?,
        },
        groups: p.n_groups.max(1),
        channels: p.output_channels,
        output: p.output_shape.iter().map(|&n| i32_of(n)).collect::<Result<_>>()?,
    };
    let (x, kernel) = match x {
        [x] => (*x, None),
        [x, kernel] if !p.is_deconvolution => (*x, Some(n.float_of(*kernel)?)),
        _ => return Err(Error::malformed(format!("takes 1 or 2 inputs, not {}", x.len()))),
    };
    let weight = match kernel {
        Some(kernel) => In::from(kernel),
        None => {
            let (out, inner) = (usize_of(p.output_channels)?, usize_of(p.kernel_channels)?);
            let size = two(&p.kernel_size, 3)?;
            let (h, w) = (size[0] as usize, size[1] as usize);
            let groups = usize_of(form.groups)?;
            let weights = p.weights.as_deref();
            let weight = if p.is_deconvolution {
                weights::read(weights, &[inner, out / groups, h, w], 1)?
            } else {
                weights::read(weights, &[out, inner, h, w], 0)?
            };
            In::from(n.constant(weight))
        }
    };
    let bias = p.has_bias.then_some(p.bias.as_deref());
    let x = n.float_of(x)?;
    with_rank(n, x, 4, |n, x| slide(n, x, weight, bias, form, p.is_deconvolution))
}

pub(super) fn convolution_3d(n: &mut Net, x: &[ValueId], p: &Convolution3DLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let positive = |values: [i32; 3]| values.map(|v| v.max(1)).to_vec();
    let custom = vec![
        p.custom_padding_front,
        p.custom_padding_back,
        p.custom_padding_top,
        p.custom_padding_bottom,
        p.custom_padding_left,
        p.custom_padding_right,
    ];
    let channels = u64::try_from(p.output_channels).unwrap_or(0);
    let form = Form {
        strides: positive([p.stride_depth, p.stride_height, p.stride_width]),
        dilations: positive([p.dilation_depth, p.dilation_height, p.dilation_width]),
        pad: pad_3d(PaddingType::try_from(p.padding_type).map_or("custom", |t| t.as_str_name()), custom),
        groups: p.n_groups.max(1) as u64,
        channels,
        output: p.output_shape.iter().map(|&n| i32_of(n)).collect::<Result<_>>()?,
    };
    let size = |n: i32| usize::try_from(n).map_err(|_| Error::malformed(format!("a size of {n}")));
    let (groups, out, inner) = (usize_of(form.groups)?, size(p.output_channels)?, size(p.input_channels)?);
    let kernel = [size(p.kernel_depth)?, size(p.kernel_height)?, size(p.kernel_width)?];
    let [d, h, w] = kernel;
    let weights = p.weights.as_deref();
    let weight = if p.is_deconvolution {
        // This layer has the output channels first; MIL has them second.
        let (rows, columns) = (out / groups, inner);
        let tensor = weights::read(weights, &[rows, columns, d, h, w], 0)?;
        exchange(&tensor, rows, columns)?
    } else {
        weights::read(weights, &[out, inner / groups, d, h, w], 0)?
    };
    let weight = In::from(n.constant(weight));
    let bias = p.has_bias.then_some(p.bias.as_deref());
    let x = n.float_of(x)?;
    with_rank(n, x, 5, |n, x| slide(n, x, weight, bias, form, p.is_deconvolution))
}

fn slide(
    n: &mut Net,
    x: ValueId,
    weight: In,
    bias: Option<Option<&WeightParams>>,
    form: Form,
    transposed: bool,
) -> Result<ValueId> {
    let mut inputs = vec![
        In::from(x).named(param!(Conv.x)),
        weight.named(param!(Conv.weight)),
        In::from(&form.strides[..]).named(param!(Conv.strides)),
        In::from(&form.dilations[..]).named(param!(Conv.dilations)),
        In::from(i32_of(form.groups)?).named(param!(Conv.groups)),
    ];
    if let Some(bias) = bias {
        let bias = weights::read(bias, &[usize_of(form.channels)?], 0)?;
        let bias = n.constant(bias);
        inputs.push(Input::value(param!(Conv.bias), bias));
    }
    let mut pad = form.pad;
    let mut kind = OpKind::Conv;
    if transposed {
        kind = OpKind::ConvTranspose;
        if !form.output.is_empty() {
            let batch = n.dim(x, 0)?.fixed().unwrap_or(1);
            let mut shape = vec![i32_of(batch as u64)?, i32_of(form.channels)?];
            shape.extend(&form.output);
            inputs.push(Input::constant(param!(ConvTranspose.output_shape), Value::ints(&shape)));
            // If there is no padding, an excess is cut off evenly on both sides.
            if pad.amounts.iter().all(|&n| n == 0) {
                pad.kind = "same";
            }
        }
        if pad.kind == "same_lower" {
            return Err(Error::unsupported("a deconvolution with padding that is heavy at the top left"));
        }
    }
    inputs.push(Input::constant(param!(Conv.pad_type), Value::string(pad.kind)));
    if pad.kind == "custom" {
        inputs.push(Input::constant(param!(Conv.pad), Value::ints(&pad.amounts)));
    }
    if matches!(n.dim(x, 1)?, Dim::Fixed(0)) {
        return Err(Error::malformed("an input without channels"));
    }
    n.op(kind, inputs)
}

/// Height and width, or a default if they are not given.
pub(super) fn two(values: &[u64], default: i32) -> Result<Vec<i32>> {
    match values {
        [] => Ok(vec![default; 2]),
        [h, w] => Ok(vec![i32_of(*h)?, i32_of(*w)?]),
        _ => Err(Error::malformed(format!("{} sizes, where height and width are needed", values.len()))),
    }
}

pub(super) fn same_pad(same: &SamePadding) -> Pad {
    let top_left = same.asymmetry_mode == i32::from(SamePaddingMode::TopLeftHeavy);
    Pad { kind: if top_left { "same_lower" } else { "same" }, amounts: Vec::new() }
}

pub(super) fn custom_pad(amounts: Option<&BorderAmounts>) -> Result<Pad> {
    Ok(Pad { kind: "custom", amounts: borders(amounts)?.to_vec() })
}

pub(super) fn pad_3d(kind: &str, custom: Vec<i32>) -> Pad {
    match kind {
        "SAME" => Pad { kind: "same", amounts: Vec::new() },
        "VALID" => Pad { kind: "valid", amounts: Vec::new() },
        _ => Pad { kind: "custom", amounts: custom },
    }
}

/// Returns the padding at top, bottom, left and right.
pub(super) fn borders(amounts: Option<&BorderAmounts>) -> Result<[i32; 4]> {
    match amounts.map_or(&[][..], |a| &a.border_amounts) {
        [] => Ok([0; 4]),
        [h, w] => Ok([
            i32_of(h.start_edge_size)?,
            i32_of(h.end_edge_size)?,
            i32_of(w.start_edge_size)?,
            i32_of(w.end_edge_size)?,
        ]),
        other => Err(Error::malformed(format!("{} border amounts, where 2 are needed", other.len()))),
    }
}

/// Swaps the first two dimensions, whose sizes are `rows` and `columns`.
pub(super) fn exchange(tensor: &Tensor, rows: usize, columns: usize) -> Result<Tensor> {
    let values = tensor.to_vec::<f32>().map_err(|e| Error::malformed(e.to_string()))?;
    let block: usize = tensor.shape().iter().skip(2).product();
    let mut exchanged = Vec::with_capacity(values.len());
    for column in 0..columns {
        for row in 0..rows {
            exchanged.extend_from_slice(&values[(row * columns + column) * block..][..block]);
        }
    }
    let mut shape = tensor.shape().to_vec();
    shape.swap(0, 1);
    tensor_of(&shape, exchanged)
}
