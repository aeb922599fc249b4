//! Convolutions, transposed and deformable ones, and what is computed with them.

use milwright_mil::OpKind::*;
use milwright_mil::{Input, OpKind, Opset, Tensor, Value, ValueId, param};

use super::cast;
use super::compose::{V, one};
use super::node::Node;
use crate::Error;
use crate::lower::{In, Lowering, Result, Size, i32_from, op};

/// How a window moves over the spatial dimensions.
pub(super) struct Window {
    pub kernel: Vec<i32>,
    pub strides: Vec<i32>,
    pub dilations: Vec<i32>,
    /// Padding before and after each dimension, or how MIL is to compute it.
    pub pads: Pads,
}

pub(super) enum Pads {
    Amounts(Vec<(i32, i32)>),
    /// `SAME_UPPER` and `SAME_LOWER`: the odd element after or before.
    Same {
        lower: bool,
    },
}

impl Window {
    /// Reads the attributes for a kernel of these sizes.
    pub fn read(n: &mut Node<'_, '_>, kernel: Vec<i32>) -> Result<Window> {
        let rank = kernel.len();
        let pads = match n.text_or("auto_pad", "NOTSET")? {
            "SAME_UPPER" => Pads::Same { lower: false },
            "SAME_LOWER" => Pads::Same { lower: true },
            "VALID" => Pads::Amounts(vec![(0, 0); rank]),
            "NOTSET" | "" => {
                let pads = list(n, "pads", 0, 2 * rank)?;
                Pads::Amounts((0..rank).map(|d| (pads[d], pads[d + rank])).collect())
            }
            other => return Err(Error::malformed(format!("the padding `{other}`"))),
        };
        let window = Window {
            kernel,
            strides: list(n, "strides", 1, rank)?,
            dilations: list(n, "dilations", 1, rank)?,
            pads,
        };
        if window.strides.iter().chain(&window.dilations).any(|&v| v < 1) {
            return Err(Error::malformed("a stride or dilation below 1"));
        }
        Ok(window)
    }

    /// Replaces padding that is heavy before by amounts, where sizes are known: Core ML has it only from iOS 16 on.
    pub fn settle(&mut self, n: &Lowering, x: ValueId) {
        let lower = matches!(self.pads, Pads::Same { lower: true });
        if lower && let Ok(sizes) = n.spatial(x, "padding") {
            self.pads = Pads::Amounts(self.amounts(&sizes));
        }
    }

    /// The extent of the window along a dimension.
    pub fn extent(&self, d: usize) -> i64 {
        (i64::from(self.kernel[d]) - 1) * i64::from(self.dilations[d]) + 1
    }

    /// The padding before and after each dimension of an input of these sizes.
    pub fn amounts(&self, sizes: &[usize]) -> Vec<(i32, i32)> {
        match &self.pads {
            Pads::Amounts(pads) => pads.clone(),
            Pads::Same { lower } => (0..sizes.len())
                .map(|d| {
                    let (size, stride) = (sizes[d] as i64, i64::from(self.strides[d]));
                    let out = (size + stride - 1) / stride;
                    let total = i32_from(((out - 1) * stride + self.extent(d) - size).max(0));
                    let half = total / 2;
                    if *lower { (total - half, half) } else { (half, total - half) }
                })
                .collect(),
        }
    }

    /// `pad_type` and `pad` for MIL.
    pub fn pad_inputs(&self) -> Result<Vec<Input>> {
        Ok(match &self.pads {
            Pads::Same { lower } => {
                vec![Input::constant(
                    param!(Conv.pad_type),
                    Value::string(if *lower { "same_lower" } else { "same" }),
                )]
            }
            Pads::Amounts(pads) if pads.iter().all(|&p| p == (0, 0)) => {
                vec![Input::constant(param!(Conv.pad_type), Value::string("valid"))]
            }
            Pads::Amounts(pads) => custom(pads),
        })
    }
}

/// An attribute of `length` numbers.
fn list(n: &mut Node<'_, '_>, name: &'static str, default: i32, length: usize) -> Result<Vec<i32>> {
    let Some(values) = n.ints(name)? else { return Ok(vec![default; length]) };
    if values.len() != length {
        return Err(Error::malformed(format!("`{name}` has {} numbers, not {length}", values.len())));
    }
    Ok(values.iter().map(|&v| i32_from(v)).collect())
}

/// `pad_type` and `pad` for these amounts.
pub(super) fn custom(pads: &[(i32, i32)]) -> Vec<Input> {
    let flat: Vec<i32> = pads.iter().flat_map(|&(b, e)| [b, e]).collect();
    vec![
        Input::constant(param!(Conv.pad_type), Value::string("custom")),
        Input::constant(param!(Conv.pad), Value::ints(&flat)),
    ]
}

/// The spatial sizes of a weight, which have to be known.
fn kernel_of(n: &Lowering, weight: ValueId) -> Result<Vec<i32>> {
    Ok(n.spatial(weight, "the weight of a convolution")?.iter().map(|&k| k as i32).collect())
}

pub(super) fn conv(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let y = conv_of(n, v)?;
    cast::finish(n, y, v.elem)
}

/// The convolution of a value with the node's weight and bias.
pub(super) fn conv_of(n: &mut Node<'_, '_>, v: V) -> Result<ValueId> {
    let (weight, bias) = (n.need(1)?, n.opt(2)?);
    let kernel = kernel_of(n, weight.id)?;
    let mut window = Window::read(n, kernel)?;
    window.settle(n, v.id);
    let groups = groups(n)?;
    convolve(n, v.id, weight.id, bias.map(|b| b.id), &window, groups)
}

fn groups(n: &mut Node<'_, '_>) -> Result<i32> {
    match n.int_or("group", 1)? {
        g @ 1.. => Ok(i32_from(g)),
        g => Err(Error::malformed(format!("{g} groups"))),
    }
}

/// A convolution with any number of spatial dimensions that MIL has.
pub(super) fn convolve(
    n: &mut Lowering,
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
    window: &Window,
    groups: i32,
) -> Result<ValueId> {
    let rank = n.rank(x)?;
    if !(3..=5).contains(&rank) {
        return Err(Error::unsupported(format!(
            "a convolution over {} spatial dimensions",
            rank.saturating_sub(2)
        ))
        .with_hint("Core ML convolves over one, two or three dimensions: merge the others into the batch"));
    }
    // Negative amounts crop.
    let mut x = x;
    let mut pads = window.pad_inputs()?;
    if let Pads::Amounts(amounts) = &window.pads
        && amounts.iter().any(|&(b, e)| b < 0 || e < 0)
    {
        for (d, &(b, e)) in amounts.iter().enumerate() {
            if b < 0 || e < 0 {
                x = n.cut(x, d + 2, (-b).max(0), (e < 0).then_some(e))?;
            }
        }
        let rest: Vec<(i32, i32)> = amounts.iter().map(|&(b, e)| (b.max(0), e.max(0))).collect();
        pads = custom(&rest);
    }
    let mut inputs = vec![
        Input::value(param!(Conv.x), x),
        Input::value(param!(Conv.weight), weight),
        In::from(&window.strides[..]).named(param!(Conv.strides)),
        In::from(&window.dilations[..]).named(param!(Conv.dilations)),
        In::from(groups).named(param!(Conv.groups)),
    ];
    inputs.extend(pads);
    finish_conv(n, Conv, inputs, bias, rank)
}

/// Pushes the op with its bias, which older opsets only take as a constant.
fn finish_conv(
    n: &mut Lowering,
    kind: OpKind,
    mut inputs: Vec<Input>,
    bias: Option<ValueId>,
    rank: usize,
) -> Result<ValueId> {
    let inside = bias.filter(|&b| n.builder.known(b).is_some() || n.builder.opset() >= Opset::Ios17);
    if let Some(bias) = inside {
        inputs.push(Input::value(param!(Conv.bias), bias));
    }
    let y = n.op(kind, inputs)?;
    match bias {
        Some(bias) if inside.is_none() => add_channels(n, y, bias, rank),
        _ => Ok(y),
    }
}

/// Adds a vector with an element per channel.
pub(super) fn add_channels(n: &mut Lowering, y: ValueId, bias: ValueId, rank: usize) -> Result<ValueId> {
    let axes: Vec<i32> = (1..=rank as i32 - 2).collect();
    let bias = n.expand_dims(bias, &axes)?;
    n.add(y, bias)
}

pub(super) fn conv_transpose(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, weight, bias) = (n.need(0)?, n.need(1)?, n.opt(2)?);
    let rank = n.rank(v.id)?;
    if !(3..=5).contains(&rank) {
        return Err(Error::unsupported(format!(
            "a transposed convolution over {} spatial dimensions",
            rank.saturating_sub(2)
        ))
        .with_hint("Core ML has them over one, two or three dimensions: merge the others into the batch"));
    }
    let kernel = kernel_of(n, weight.id)?;
    let window = Window::read(n, kernel)?;
    let dims = window.kernel.len();
    let extra = n.ints("output_padding")?.map_or_else(|| vec![0; dims], <[i64]>::to_vec);
    if extra.len() != dims {
        return Err(Error::malformed(format!("`output_padding` has {} numbers, not {dims}", extra.len())));
    }
    let shape = n.ints("output_shape")?;
    let upper = n.text_or("auto_pad", "NOTSET")? == "SAME_UPPER";
    // What is cut off before and after; less than nothing after adds rows that no input reaches.
    let mut cuts = Vec::with_capacity(dims);
    for d in 0..dims {
        let (stride, extent) = (i64::from(window.strides[d]), window.extent(d));
        let total = match (&shape, &window.pads) {
            (Some(shape), _) => {
                let wanted = *shape
                    .get(shape.len().saturating_sub(dims) + d)
                    .ok_or_else(|| Error::malformed("`output_shape` is too short"))?;
                let size = n.spatial(v.id, "a transposed convolution with `output_shape`")?[d] as i64;
                stride * (size - 1) + extra[d] + extent - wanted
            }
            (None, Pads::Same { .. }) => extra[d] + extent - stride,
            (None, Pads::Amounts(pads)) => {
                cuts.push((i64::from(pads[d].0), i64::from(pads[d].1) - extra[d]));
                continue;
            }
        };
        // A negative total adds rows.
        let half = total.div_euclid(2);
        let (before, after) = if upper { (half, total - half) } else { (total - half, half) };
        cuts.push((before, after - extra[d]));
    }
    let pads: Vec<(i32, i32)> = cuts.iter().map(|&(b, e)| (i32_from(b.max(0)), i32_from(e.max(0)))).collect();
    let added: Vec<i32> =
        cuts.iter().flat_map(|&(b, e)| [i32_from((-b).max(0)), i32_from((-e).max(0))]).collect();
    let grows = added.iter().any(|&a| a > 0);
    let group = groups(n)?;
    let mut inputs = vec![
        Input::value(param!(ConvTranspose.x), v.id),
        Input::value(param!(ConvTranspose.weight), weight.id),
        In::from(&window.strides[..]).named(param!(ConvTranspose.strides)),
        In::from(&window.dilations[..]).named(param!(ConvTranspose.dilations)),
        In::from(group).named(param!(ConvTranspose.groups)),
    ];
    let constant = n.builder.known(weight.id).is_some() || n.coded.contains_key(&weight.id);
    if !constant && n.builder.opset() < Opset::Ios17 {
        return Err(Error::unsupported("a transposed convolution whose weight is computed")
            .with_hint("Core ML takes it from iOS17 on: choose that deployment target"));
    }
    if pads.iter().all(|&p| p == (0, 0)) {
        inputs.push(Input::constant(param!(Conv.pad_type), Value::string("valid")));
    } else {
        inputs.extend(custom(&pads));
    }
    if !grows {
        let y = finish_conv(n, ConvTranspose, inputs, bias.map(|b| b.id), rank)?;
        return cast::finish(n, y, v.elem);
    }
    // The bias reaches the added elements, too.
    let y = n.op(ConvTranspose, inputs)?;
    let zero = n.number(n.dtype(y)?, 0.0)?;
    let mut y = op!(n, Pad, x = y, pad = &added[..], mode = "constant", constant_val = zero)?;
    if let Some(bias) = bias {
        y = add_channels(n, y, bias.id, rank)?;
    }
    cast::finish(n, y, v.elem)
}

/// Samples the input where each tap of the kernel points, shifted by an offset, and multiplies with the weight.
pub(super) fn deform_conv(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, weight, offset) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let (bias, mask) = (n.opt(3)?, n.opt(4)?);
    let what = "a deformable convolution";
    if n.rank(v.id)? != 4 {
        return Err(Error::unsupported("a deformable convolution that is not two-dimensional")
            .with_hint("Core ML samples images only"));
    }
    let (xs, ws, os) =
        (n.need_shape(v.id, what)?, n.need_shape(weight.id, what)?, n.need_shape(offset.id, what)?);
    let window = Window::read(n, vec![ws[2] as i32, ws[3] as i32])?;
    let group = groups(n)? as usize;
    let parts = n.int_or("offset_group", 1)?.max(1) as usize;
    let (batch, channels, taps) = (xs[0], xs[1], ws[2] * ws[3]);
    let (out, height, width) = (ws[0], os[2], os[3]);
    if channels % parts != 0 || channels % group != 0 || out % group != 0 || os[1] != parts * taps * 2 {
        return Err(Error::malformed("the channels do not fit the groups"));
    }
    let pads = window.amounts(&xs[2..]);
    let dtype = n.dtype(v.id)?;
    // Where each tap looks without an offset, as (x, y).
    let mut base = Vec::with_capacity(taps * height * width * 2);
    for tap in 0..taps {
        let (ky, kx) = ((tap / ws[3]) as i32, (tap % ws[3]) as i32);
        for row in 0..height as i32 {
            for column in 0..width as i32 {
                base.push((column * window.strides[1] - pads[1].0 + kx * window.dilations[1]) as f32);
                base.push((row * window.strides[0] - pads[0].0 + ky * window.dilations[0]) as f32);
            }
        }
    }
    let dims = |d: &[usize]| -> Vec<i64> { d.iter().map(|&d| d as i64).collect() };
    let base = n.float_tensor(&[1, taps, height * width, 2], base, milwright_mil::DType::Fp32)?;
    // Offsets are (y, x) for each tap.
    let offset = n.cast(offset.id, milwright_mil::DType::Fp32)?;
    let offset = n.reshape(offset, &dims(&[batch * parts, taps, 2, height * width]))?;
    let offset = n.transpose(offset, &[0, 1, 3, 2])?;
    let offset = n.reverse(offset, 3)?;
    let places = n.add(offset, base)?;
    let places = n.reshape(places, &dims(&[batch * parts, taps * height, width, 2]))?;
    let image = n.reshape(v.id, &dims(&[batch * parts, channels / parts, xs[2], xs[3]]))?;
    let zero = n.number(dtype, 0.0)?;
    let sampled = op!(
        n,
        Resample,
        x = image,
        coordinates = places,
        sampling_mode = "bilinear",
        padding_mode = "constant",
        padding_value = zero,
        coordinates_mode = "unnormalized",
        align_corners = true
    )?;
    let mut sampled = n.reshape(sampled, &dims(&[batch * parts, channels / parts, taps, height * width]))?;
    if let Some(mask) = mask {
        let mask = n.reshape(mask.id, &dims(&[batch * parts, 1, taps, height * width]))?;
        sampled = n.mul(sampled, mask)?;
    }
    let columns = n.reshape(sampled, &dims(&[batch, group, channels / group * taps, height * width]))?;
    let weight = n.reshape(weight.id, &dims(&[1, group, out / group, channels / group * taps]))?;
    let y = n.matmul(weight, columns, false, false)?;
    let mut y = n.reshape(y, &dims(&[batch, out, height, width]))?;
    if let Some(bias) = bias {
        y = add_channels(n, y, bias.id, 4)?;
    }
    cast::finish(n, y, v.elem)
}

/// Adds up blocks where they overlap: a transposed convolution whose kernel has a one for each place in the block.
pub(super) fn col2im(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    if n.known_ints(1).is_none() || n.known_ints(2).is_none() {
        return col2im_anywhere(n, v);
    }
    let image = n.ints_of(1, "the sizes of the image")?;
    let block = n.ints_of(2, "the sizes of the block")?;
    let window = Window::read(n, block.iter().map(|&b| i32_from(b)).collect())?;
    let shape = n.need_shape(v.id, "Col2Im")?;
    if shape.len() != 3 || image.len() != block.len() || block.is_empty() || block.iter().any(|&b| b < 1) {
        return Err(Error::malformed("the shapes of image, block and input do not fit"));
    }
    let taps: i64 = block.iter().product();
    let Pads::Amounts(pads) = &window.pads else { return Err(Error::malformed("automatic padding")) };
    let mut sizes = vec![-1, taps];
    let mut added = Vec::new();
    for d in 0..image.len() {
        let reach = image[d] + i64::from(pads[d].0) + i64::from(pads[d].1) - window.extent(d);
        if reach < 0 {
            return Err(Error::malformed("a block is larger than the image"));
        }
        let count = reach / i64::from(window.strides[d]) + 1;
        sizes.push(count);
        // Rows at the end that no block reaches.
        added.push(i32_from(reach - (count - 1) * i64::from(window.strides[d])));
    }
    let dtype = n.dtype(v.id)?;
    let columns = n.reshape(v.id, &sizes)?;
    let mut ones = vec![0.0; (taps * taps) as usize];
    (0..taps as usize).for_each(|t| ones[t * taps as usize + t] = 1.0);
    let mut kernel = vec![taps as usize, 1];
    kernel.extend(block.iter().map(|&b| b as usize));
    let weight = n.float_tensor(&kernel, ones, dtype)?;
    let mut y = op!(
        n,
        ConvTranspose,
        x = columns,
        weight = weight,
        pad_type = "valid",
        strides = &window.strides[..],
        dilations = &window.dilations[..]
    )?;
    if added.iter().any(|&a| a > 0) {
        let amounts: Vec<i32> = added.iter().flat_map(|&a| [0, a]).collect();
        let zero = n.number(dtype, 0.0)?;
        y = op!(n, Pad, x = y, pad = &amounts[..], mode = "constant", constant_val = zero)?;
    }
    for (d, &(before, after)) in pads.iter().enumerate() {
        if before > 0 || after > 0 {
            y = n.cut(y, d + 2, before, (after > 0).then_some(-after))?;
        }
    }
    let mut sizes = vec![shape[0] as i64, shape[1] as i64 / taps];
    sizes.extend(&image);
    let y = n.reshape(y, &sizes)?;
    cast::finish(n, y, v.elem)
}

/// The same for sizes that only a run knows: each element of a block is added at its place in the image.
fn col2im_anywhere(n: &mut Node<'_, '_>, v: V) -> Result<Vec<V>> {
    let (image, block) = (n.value(1)?, n.value(2)?);
    let dims = n.size(image, 0)?;
    let window = Window::read(n, vec![1; dims])?;
    let Pads::Amounts(pads) = &window.pads else { return Err(Error::malformed("automatic padding")) };
    let dtype = n.dtype(v.id)?;
    let of = |n: &mut Lowering, vector: ValueId, d: usize| n.take_one(vector, 0, d as i32);
    let mut taps = n.constant(Tensor::scalar(1i32));
    let mut total = taps;
    let mut counts = Vec::with_capacity(dims);
    for (d, &(before, after)) in pads.iter().enumerate() {
        let (size, extent) = (of(n, image, d)?, of(n, block, d)?);
        taps = n.mul(taps, extent)?;
        total = n.mul(total, size)?;
        // ⌊(size + pads - extent of the block) / stride⌋ + 1 blocks along this dimension.
        let reach = n.sub(extent, 1.0)?;
        let reach = n.mul(reach, f64::from(window.dilations[d]))?;
        let room = n.add(size, f64::from(before + after - 1))?;
        let room = n.sub(room, reach)?;
        let steps = n.floor_div(room, f64::from(window.strides[d]))?;
        counts.push(n.add(steps, 1.0)?);
    }
    let blocks = n.range_to(&Size::Of(v.id, 2..3))?;
    let inside = n.range(taps)?;
    let inside = n.expand_dims(inside, &[1])?;
    let (mut rest_block, mut rest_tap) = (blocks, inside);
    let mut stride = n.constant(Tensor::scalar(1i32));
    let mut place: Option<ValueId> = None;
    let mut kept: Option<ValueId> = None;
    for d in (0..dims).rev() {
        let (size, extent) = (of(n, image, d)?, of(n, block, d)?);
        let at = n.modulo(rest_block, counts[d])?;
        rest_block = n.floor_div(rest_block, counts[d])?;
        let tap = n.modulo(rest_tap, extent)?;
        rest_tap = n.floor_div(rest_tap, extent)?;
        let at = n.mul(at, f64::from(window.strides[d]))?;
        let tap = n.mul(tap, f64::from(window.dilations[d]))?;
        let along = n.add(at, tap)?;
        let along = n.sub(along, f64::from(pads[d].0))?;
        let (low, high) = (n.greater_equal(along, 0.0)?, n.less(along, size)?);
        let hit = n.and(low, high)?;
        kept = Some(match kept {
            Some(kept) => n.and(kept, hit)?,
            None => hit,
        });
        let part = n.mul(along, stride)?;
        place = Some(match place {
            Some(place) => n.add(place, part)?,
            None => part,
        });
        stride = n.mul(stride, size)?;
    }
    let (Some(place), Some(kept)) = (place, kept) else {
        return Err(Error::malformed("an image without dimensions"));
    };
    // Padding goes to one more place, which is cut off.
    let place = n.select(kept, place, total)?;
    let place = n.reshape(place, &[-1])?;
    let batch = n.shape(&[Size::Of(v.id, 0..1)])?;
    let rest = n.int_vector(&[-1]);
    let tap_count = n.expand_dims(taps, &[0])?;
    let columns = n.shape(&[Size::Of(v.id, 2..3)])?;
    let flat_size = n.mul(tap_count, columns)?;
    // [batch, channels, taps · blocks], the last dimension first, so that rows are scattered.
    let shape = n.concat(vec![batch, rest, flat_size], 0)?;
    let split = n.reshape_by(v.id, shape)?;
    let rows = n.transpose(split, &[2, 0, 1])?;
    let end = n.add(total, 1.0)?;
    let end = n.expand_dims(end, &[0])?;
    let outer = n.shape(&[Size::Of(rows, 1..2)])?;
    let channels = n.shape(&[Size::Of(rows, 2..3)])?;
    let room = n.concat(vec![end, outer, channels], 0)?;
    let zeros = n.fill(room, 0.0, dtype)?;
    let sums = op!(n, Scatter, data = zeros, indices = place, updates = rows, axis = 0, mode = "add")?;
    let sums = n.cut(sums, 0, 0, Some(-1))?;
    let y = n.transpose(sums, &[1, 2, 0])?;
    let (outer, channels) = (n.shape(&[Size::Of(y, 0..1)])?, n.shape(&[Size::Of(y, 1..2)])?);
    let shape = n.concat(vec![outer, channels, image], 0)?;
    let y = n.reshape_by(y, shape)?;
    cast::finish(n, y, v.elem)
}

/// A convolution that looks back only, over the steps of a state and of the input; returns the last steps as the next state.
pub(super) fn causal_conv_with_state(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, weight, bias, past) = (n.need(0)?, n.need(1)?, n.opt(2)?, n.opt(3)?);
    let rank = n.rank(v.id)?;
    let kernel = kernel_of(n, weight.id)?;
    if kernel.len() != rank - 2 || rank != 3 {
        return Err(Error::unsupported("a causal convolution over more than one dimension")
            .with_hint("Core ML model inputs of images have to be convolved one dimension at a time"));
    }
    let k = kernel[0];
    let dtype = n.dtype(v.id)?;
    let past = match past {
        Some(past) => past.id,
        None => {
            n.full(&[Size::Of(v.id, 0..1), Size::Of(v.id, 1..2), Size::Fixed((k - 1) as usize)], 0.0, dtype)?
        }
    };
    let whole = if k > 1 { n.concat(vec![past, v.id], 2)? } else { v.id };
    let channels = n.size(weight.id, 0)?;
    let window = Window { kernel, strides: vec![1], dilations: vec![1], pads: Pads::Amounts(vec![(0, 0)]) };
    let y = convolve(n, whole, weight.id, bias.map(|b| b.id), &window, channels as i32)?;
    let y = match n.text_or("activation", "none")? {
        "none" | "" => y,
        "silu" | "swish" => n.un(Silu, y)?,
        other => return Err(Error::malformed(format!("the activation `{other}`"))),
    };
    let mut results = cast::finish(n, y, v.elem)?;
    if n.wants(1) {
        let next = if k > 1 { n.cut(whole, 2, -(k - 1), None)? } else { n.cut(whole, 2, 0, Some(0))? };
        results.extend(one(next, v.elem)?);
    }
    Ok(results)
}
