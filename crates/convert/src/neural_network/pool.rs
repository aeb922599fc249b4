//! Pools.

use milwright_formats::proto::global_pooling3_d_layer_params::GlobalPoolingType3D;
use milwright_formats::proto::pooling_layer_params::{PoolingPaddingType as Padding, PoolingType};
use milwright_formats::proto::pooling3_d_layer_params::{Pooling3DPaddingType, PoolingType3D};
use milwright_formats::proto::{GlobalPooling3DLayerParams, Pooling3DLayerParams, PoolingLayerParams};
use milwright_mil::{Input, OpKind, Value, ValueId, param};

use super::convolution::{Pad, custom_pad, pad_3d, same_pad, two};
use super::net::Net;
use crate::lower::{In, Result, op, take, too_low, with_rank};

struct Window {
    kind: OpKind,
    sizes: Vec<i32>,
    strides: Vec<i32>,
    pad: Pad,
    /// Whether the last window may reach beyond the end.
    ceil: bool,
    exclude_padding: bool,
}

pub(super) fn pooling(n: &mut Net, x: &[ValueId], p: &PoolingLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let kind = match PoolingType::try_from(p.r#type) {
        Ok(PoolingType::Average) => OpKind::AvgPool,
        Ok(PoolingType::L2) => OpKind::L2Pool,
        _ => OpKind::MaxPool,
    };
    if p.global_pooling {
        return over_last(n, x, kind, 2);
    }
    let (pad, ceil) = match &p.pooling_padding_type {
        Some(Padding::Same(same)) => (same_pad(same), false),
        Some(Padding::Valid(valid)) => (custom_pad(valid.padding_amounts.as_ref())?, false),
        Some(Padding::IncludeLastPixel(complete)) => {
            let [h, w] = two(&complete.padding_amounts, 0)?[..] else { unreachable!("there are two") };
            (Pad { kind: "custom", amounts: vec![h, h, w, w] }, true)
        }
        None => (custom_pad(None)?, false),
    };
    let (sizes, strides) = (two(&p.kernel_size, 3)?, two(&p.stride, 1)?);
    let exclude_padding = p.avg_pool_exclude_padding;
    let window = Window { kind, sizes, strides, pad, ceil, exclude_padding };
    with_rank(n, x, 4, |n, x| slide(n, x, window))
}

pub(super) fn pooling_3d(n: &mut Net, x: &[ValueId], p: &Pooling3DLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let average = p.r#type == i32::from(PoolingType3D::Average);
    let custom = vec![
        p.custom_padding_front,
        p.custom_padding_back,
        p.custom_padding_top,
        p.custom_padding_bottom,
        p.custom_padding_left,
        p.custom_padding_right,
    ];
    let padding = Pooling3DPaddingType::try_from(p.padding_type);
    let window = Window {
        kind: if average { OpKind::AvgPool } else { OpKind::MaxPool },
        sizes: vec![p.kernel_depth, p.kernel_height, p.kernel_width],
        strides: [p.stride_depth, p.stride_height, p.stride_width].map(|s| s.max(1)).to_vec(),
        pad: pad_3d(padding.map_or("CUSTOM", |t| t.as_str_name()), custom),
        ceil: false,
        exclude_padding: p.count_exclude_padding,
    };
    with_rank(n, x, 5, |n, x| slide(n, x, window))
}

pub(super) fn global_pooling_3d(
    n: &mut Net,
    x: &[ValueId],
    p: &GlobalPooling3DLayerParams,
) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let average = p.r#type == i32::from(GlobalPoolingType3D::Average);
    over_last(n, x, if average { OpKind::AvgPool } else { OpKind::MaxPool }, 3)
}

fn slide(n: &mut Net, x: ValueId, window: Window) -> Result<ValueId> {
    let mut inputs = vec![
        In::from(x).named(param!(AvgPool.x)),
        In::from(&window.sizes[..]).named(param!(AvgPool.kernel_sizes)),
        In::from(&window.strides[..]).named(param!(AvgPool.strides)),
        In::from(window.pad.kind).named(param!(AvgPool.pad_type)),
        In::from(window.ceil).named(param!(AvgPool.ceil_mode)),
    ];
    if window.pad.kind == "custom" {
        inputs.push(Input::constant(param!(AvgPool.pad), Value::ints(&window.pad.amounts)));
    }
    if window.kind == OpKind::AvgPool {
        inputs.push(In::from(window.exclude_padding).named(param!(AvgPool.exclude_padding_from_average)));
    }
    n.op(window.kind, inputs)
}

/// Pools the last dimensions as a whole.
fn over_last(n: &mut Net, x: ValueId, kind: OpKind, dimensions: usize) -> Result<ValueId> {
    let rank = n.rank(x)?;
    if rank < dimensions {
        return Err(too_low(rank, dimensions));
    }
    let axes: Vec<i32> = (-(dimensions as i32)..0).collect();
    match kind {
        OpKind::AvgPool => op!(n, ReduceMean, x = x, axes = &axes[..], keep_dims = true),
        OpKind::L2Pool => op!(n, ReduceL2Norm, x = x, axes = &axes[..], keep_dims = true),
        _ => op!(n, ReduceMax, x = x, axes = &axes[..], keep_dims = true),
    }
}
