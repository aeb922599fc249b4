//! Convolutions, pools, norms, products.

use milwright_formats::onnx::proto::AttributeProto;
use milwright_mil::ops::conv::conv::Params;
use milwright_mil::ops::{Axes, Operand};
use milwright_mil::{DType, Dim, Tensor};

use super::graph::{FIX, Node, Result, broken, float, int, ints, text};
use super::{implement, refuse};
use crate::Error;

type Made = Result<Vec<String>>;

/// MIL says before and after for each dimension, ONNX all before and then all after.
fn pads(pad: &[i64]) -> AttributeProto {
    let (before, after) = (pad.iter().step_by(2), pad.iter().skip(1).step_by(2));
    ints("pads", before.chain(after).copied())
}

/// How a window moves.
struct Window<'a> {
    kernel: Option<&'a [i64]>,
    strides: Option<&'a [i64]>,
    dilations: Option<&'a [i64]>,
    pad_type: &'a str,
    pad: Option<&'a [i64]>,
}

impl Window<'_> {
    fn attributes(&self) -> Vec<AttributeProto> {
        let list = |name: &str, values: Option<&[i64]>| values.map(|v| ints(name, v.iter().copied()));
        let padding = match self.pad_type {
            "same" => Some(text("auto_pad", "SAME_UPPER")),
            "same_lower" => Some(text("auto_pad", "SAME_LOWER")),
            "custom" => self.pad.map(pads),
            _ => None,
        };
        [
            list("kernel_shape", self.kernel),
            list("strides", self.strides),
            list("dilations", self.dilations),
            padding,
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// ONNX drops a last window that would begin behind the input and the padding before it.
fn check_ceil(x: &Operand<'_>, window: &Window<'_>) -> Result<()> {
    let kernel = window.kernel.unwrap_or_default();
    for (d, &k) in kernel.iter().enumerate() {
        let stride = window.strides.map_or(1, |s| s[d]);
        let custom = window.pad.filter(|_| window.pad_type == "custom");
        let (before, after) = custom.map_or((0, 0), |p| (p[2 * d], p[2 * d + 1]));
        let drops = match x.shape[d + 2] {
            _ if k + 1 > stride + after => false,
            Dim::Fixed(size) => {
                let size = size as i64;
                let last = (size + before + after - k + stride - 1).div_euclid(stride);
                last * stride >= size + before
            }
            Dim::Unknown => true,
        };
        if drops {
            return Err(Error::unsupported("a last window of a pool that begins behind the input"));
        }
    }
    Ok(())
}

fn pool(
    n: &mut Node<'_, '_>,
    x: &Operand<'_>,
    op: &str,
    window: &Window<'_>,
    ceil: bool,
    more: Option<AttributeProto>,
) -> Made {
    if ceil {
        check_ceil(x, window)?;
    }
    let name = n.of(x)?;
    let mut attributes = window.attributes();
    attributes.extend(ceil.then(|| int("ceil_mode", 1)));
    attributes.extend(more);
    Ok(vec![n.add_with(op, &[&name], attributes)])
}

macro_rules! window {
    ($p:ident) => {
        Window {
            kernel: Some(&$p.kernel_sizes),
            strides: $p.strides.as_deref(),
            dilations: None,
            pad_type: $p.pad_type,
            pad: $p.pad.as_deref(),
        }
    };
}

/// The padding that `same` means for a dilated kernel, for which ONNX Runtime does not compute it.
fn spread(p: &Params<'_>) -> Result<Option<Vec<i64>>> {
    let Some(dilations) = p.dilations.as_ref().filter(|d| d.iter().any(|&d| d > 1)) else { return Ok(None) };
    if !p.pad_type.starts_with("same") {
        return Ok(None);
    }
    let mut pad = Vec::new();
    for (d, &dilation) in dilations.iter().enumerate() {
        let stride = p.strides.as_ref().map_or(1, |s| s[d]);
        let kernel = p.weight.shape[d + 2].fixed();
        let kernel = kernel.ok_or_else(|| Error::unsupported("a kernel of open size"))? as i64;
        let span = (kernel - 1) * dilation + 1;
        let total = match p.x.shape[d + 2] {
            _ if stride == 1 => span - 1,
            Dim::Fixed(size) => {
                let size = size as i64;
                ((size + stride - 1) / stride - 1) * stride + span - size
            }
            Dim::Unknown => return Err(Error::unsupported("`same` padding of an open size").with_hint(FIX)),
        };
        let (half, rest) = (total.max(0) / 2, total.max(0) - total.max(0) / 2);
        pad.extend(if p.pad_type == "same" { [half, rest] } else { [rest, half] });
    }
    Ok(Some(pad))
}

fn ones(n: &mut Node<'_, '_>, dtype: DType, count: usize, value: f32) -> Result<String> {
    let tensor = Tensor::from_vec(&[count], vec![value; count]).ok().and_then(|t| t.converted(dtype));
    let tensor = tensor.ok_or_else(|| Error::unsupported(format!("parameters of type {dtype}")))?;
    n.constant(&tensor)
}

/// A parameter for each channel, or as many equal ones.
fn channels(
    n: &mut Node<'_, '_>,
    v: Option<&Operand<'_>>,
    dtype: DType,
    count: Dim,
    value: f32,
) -> Result<String> {
    match (v, count) {
        (Some(v), _) => n.of_as(v, dtype),
        (None, Dim::Fixed(count)) => ones(n, dtype, count, value),
        (None, Dim::Unknown) => Err(Error::unsupported("an open number of channels").with_hint(FIX)),
    }
}

implement! {
    Conv: |n, p| {
        let dtype = n.out(0)?.dtype;
        let (x, weight) = (n.of_as(&p.x, dtype)?, n.of_as(&p.weight, dtype)?);
        let mut inputs = vec![x, weight];
        if let Some(bias) = &p.bias {
            inputs.push(n.of_as(bias, dtype)?);
        }
        let same = spread(p)?;
        let pad_type = if same.is_some() { "custom" } else { p.pad_type };
        let pad = same.as_deref().or(p.pad.as_deref());
        let window = Window { kernel: None, strides: p.strides.as_deref(), dilations: p.dilations.as_deref(), pad_type, pad };
        let mut attributes = window.attributes();
        attributes.push(int("group", p.groups));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Ok(vec![n.add_with("Conv", &inputs, attributes)])
    };
    ConvTranspose: |n, p| {
        let dtype = n.out(0)?.dtype;
        let (x, weight) = (n.of_as(&p.x, dtype)?, n.of_as(&p.weight, dtype)?);
        let mut inputs = vec![x, weight];
        if let Some(bias) = &p.bias {
            inputs.push(n.of_as(bias, dtype)?);
        }
        let kernel = p.weight.fixed_shape().ok_or_else(|| Error::unsupported("a kernel of open size"))?;
        let count = kernel.len() - 2;
        let (mut before, mut after, mut extra) = (vec![0; count], vec![0; count], vec![0; count]);
        for d in 0..count {
            let stride = p.strides.as_ref().map_or(1, |s| s[d]);
            let dilation = p.dilations.as_ref().map_or(1, |s| s[d]);
            let span = (kernel[d + 2] as i64 - 1) * dilation + 1;
            match p.pad_type {
                "custom" => if let Some(pad) = &p.pad {
                    (before[d], after[d]) = (pad[2 * d], pad[2 * d + 1]);
                },
                "same" | "same_lower" => {
                    // stride elements for each of the input
                    let total = span - stride;
                    let half = total.max(0) / 2;
                    let rest = total.max(0) - half;
                    (before[d], after[d]) = if p.pad_type == "same" { (half, rest) } else { (rest, half) };
                    extra[d] = (-total).max(0);
                }
                _ => {}
            }
            if let Some(shape) = &p.output_shape {
                let size = p.x.shape[d + 2].fixed().ok_or_else(|| Error::unsupported("an output shape for an open input").with_hint(FIX))?;
                let natural = (size as i64 - 1) * stride + span - before[d] - after[d];
                let more = shape[d + 2] - natural;
                (after[d], extra[d]) = if more < 0 { (after[d] - more, 0) } else { (after[d], more) };
                // What is added behind has to be less than a stride.
                let shift = extra[d].min(after[d]);
                (after[d], extra[d]) = (after[d] - shift, extra[d] - shift);
            }
        }
        let mut attributes = vec![int("group", p.groups), ints("pads", before.into_iter().chain(after)), ints("output_padding", extra)];
        attributes.extend(p.strides.as_ref().map(|s| ints("strides", s.iter().copied())));
        attributes.extend(p.dilations.as_ref().map(|s| ints("dilations", s.iter().copied())));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Ok(vec![n.add_with("ConvTranspose", &inputs, attributes)])
    };
    AvgPool: |n, p| {
        let counts = int("count_include_pad", (!p.exclude_padding_from_average).into());
        pool(n, &p.x, "AveragePool", &window!(p), p.ceil_mode, Some(counts))
    };
    L2Pool: |n, p| pool(n, &p.x, "LpPool", &window!(p), p.ceil_mode, Some(int("p", 2)));
    MaxPool: |n, p| pool(n, &p.x, "MaxPool", &window!(p), p.ceil_mode, None);
    BatchNorm: |n, p| {
        let (dtype, count) = (p.x.dtype, p.mean.shape[0]);
        let x = n.of(&p.x)?;
        let gamma = channels(n, p.gamma.as_ref(), dtype, count, 1.0)?;
        let beta = channels(n, p.beta.as_ref(), dtype, count, 0.0)?;
        let (mean, variance) = (n.of_as(&p.mean, dtype)?, n.of_as(&p.variance, dtype)?);
        Ok(vec![n.add_with("BatchNormalization", &[&x, &gamma, &beta, &mean, &variance], vec![float("epsilon", p.epsilon)])])
    };
    InstanceNorm: |n, p| {
        let (dtype, count) = (p.x.dtype, p.x.shape[1]);
        let x = n.of(&p.x)?;
        let gamma = channels(n, p.gamma.as_ref(), dtype, count, 1.0)?;
        let beta = channels(n, p.beta.as_ref(), dtype, count, 0.0)?;
        Ok(vec![n.add_with("InstanceNormalization", &[&x, &gamma, &beta], vec![float("epsilon", p.epsilon)])])
    };
    L2Norm: |n, p| {
        let x = n.of(&p.x)?;
        let axes = n.int64s(&[-3, -2, -1]);
        let sum = n.add("ReduceSumSquare", &[&x, &axes]);
        let epsilon = n.scalar(p.x.dtype, p.epsilon.into())?;
        let sum = n.add("Add", &[&sum, &epsilon]);
        let root = n.add("Sqrt", &[&sum]);
        Ok(vec![n.add("Div", &[&x, &root])])
    };
    LayerNorm: |n, p| {
        let rank = p.x.rank();
        let mut axes = Axes::or_all(p.axes.as_ref(), rank).map_err(broken)?;
        axes.sort_unstable();
        let (x, dtype) = (n.of(&p.x)?, p.x.dtype);
        let sizes: Option<Vec<usize>> = axes.iter().map(|&a| p.x.shape[a].fixed()).collect();
        let last = axes.iter().rev().enumerate().all(|(i, &a)| a == rank - 1 - i);
        if let (true, Some(sizes)) = (last, &sizes) {
            let gamma = match &p.gamma {
                Some(gamma) => n.of_as(gamma, dtype)?,
                None => {
                    let flat = ones(n, dtype, sizes.iter().product(), 1.0)?;
                    n.reshape(&flat, &sizes.iter().map(|&s| s as i64).collect::<Vec<_>>())
                }
            };
            let mut inputs = vec![x, gamma];
            if let Some(beta) = &p.beta {
                inputs.push(n.of_as(beta, dtype)?);
            }
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let more = vec![int("axis", axes[0] as i64), float("epsilon", p.epsilon)];
            return Ok(vec![n.add_with("LayerNormalization", &inputs, more)]);
        }
        // In fp32, as the op does.
        let wide = n.cast(&x, dtype, DType::Fp32)?;
        let list = n.int64s(&axes.iter().map(|&a| a as i64).collect::<Vec<_>>());
        let mean = n.add("ReduceMean", &[&wide, &list]);
        let centered = n.add("Sub", &[&wide, &mean]);
        let square = n.add("Mul", &[&centered, &centered]);
        let variance = n.add("ReduceMean", &[&square, &list]);
        let epsilon = n.scalar(DType::Fp32, p.epsilon.into())?;
        let variance = n.add("Add", &[&variance, &epsilon]);
        let root = n.add("Sqrt", &[&variance]);
        let mut y = n.add("Div", &[&centered, &root]);
        for (op, parameter) in [("Mul", &p.gamma), ("Add", &p.beta)] {
            let Some(parameter) = parameter else { continue };
            let given = n.of_as(parameter, DType::Fp32)?;
            let wide: Vec<i64> = (0..rank)
                .map(|d| axes.iter().position(|&a| a == d).map_or(1, |i| parameter.shape[i].fixed().map_or(1, |s| s as i64)))
                .collect();
            let given = n.reshape(&given, &wide);
            y = n.add(op, &[&y, &given]);
        }
        Ok(vec![n.cast(&y, DType::Fp32, dtype)?])
    };
    LocalResponseNorm: |n, p| {
        if p.size % 2 == 0 {
            return Err(Error::unsupported("a neighborhood of an even number of channels: ONNX and MIL place it differently"));
        }
        let x = n.of(&p.x)?;
        let more = vec![int("size", p.size), float("alpha", p.alpha), float("beta", p.beta), float("bias", p.k)];
        Ok(vec![n.add_with("LRN", &[&x], more)])
    };
    Einsum: |n, p| {
        let values: Vec<String> = p.values.iter().map(|v| n.bound(v)).collect::<Result<_>>()?;
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        Ok(vec![n.add_with("Einsum", &values, vec![text("equation", p.equation)])])
    };
    Linear: |n, p| {
        let dtype = n.out(0)?.dtype;
        let (x, weight) = (n.of_as(&p.x, dtype)?, n.of_as(&p.weight, dtype)?);
        let weight = n.transpose(&weight, &[1, 0]);
        let mut y = n.add("MatMul", &[&x, &weight]);
        if let Some(bias) = &p.bias {
            let bias = n.of_as(bias, dtype)?;
            y = n.add("Add", &[&y, &bias]);
        }
        Ok(vec![y])
    };
    Matmul: |n, p| {
        let dtype = n.out(0)?.dtype;
        let side = |n: &mut Node<'_, '_>, v: &Operand<'_>, swap: bool| -> Result<String> {
            let name = n.of_as(v, dtype)?;
            let rank = v.rank();
            if !swap || rank < 2 {
                return Ok(name);
            }
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(rank - 1, rank - 2);
            Ok(n.transpose(&name, &order))
        };
        let (x, y) = (side(n, &p.x, p.transpose_x)?, side(n, &p.y, p.transpose_y)?);
        Ok(vec![n.add("MatMul", &[&x, &y])])
    };
    ScaledDotProductAttention: |n, p| {
        let (q, k, v) = (n.of(&p.query)?, n.of(&p.key)?, n.of(&p.value)?);
        let (rank, dtype) = (p.key.rank(), p.query.dtype);
        let width = p.query.shape[p.query.rank() - 1].fixed();
        let width = width.ok_or_else(|| Error::unsupported("an open width of the heads").with_hint(FIX))?;
        let scale = n.scalar(dtype, 1.0 / (width as f64).sqrt())?;
        let q = n.add("Mul", &[&q, &scale]);
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(rank - 1, rank - 2);
        let k = n.transpose(&k, &order);
        let mut scores = n.add("MatMul", &[&q, &k]);
        if let Some(mask) = &p.attn_mask {
            let name = n.of(mask)?;
            scores = if mask.dtype == DType::Bool {
                let none = n.scalar(dtype, f64::NEG_INFINITY)?;
                n.add("Where", &[&name, &scores, &none])
            } else {
                let name = n.cast(&name, mask.dtype, dtype)?;
                n.add("Add", &[&scores, &name])
            };
        }
        let weights = n.add("Softmax", &[&scores]);
        Ok(vec![n.add("MatMul", &[&weights, &v])])
    };
}

refuse! {
    ConvQuantized: "no converter writes this op";
}
