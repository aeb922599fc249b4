//! Shapes: constants, reshaping, joining, cutting, repeating.

use milwright_formats::proto::flatten_layer_params::FlattenOrder;
use milwright_formats::proto::reshape_layer_params::ReshapeOrder;
use milwright_formats::proto::slice_layer_params::SliceAxis;
use milwright_formats::proto::{
    ConcatLayerParams, ConcatNdLayerParams, ExpandDimsLayerParams, FlattenLayerParams,
    FlattenTo2DLayerParams, LoadConstantLayerParams, LoadConstantNdLayerParams, PermuteLayerParams,
    RangeDynamicLayerParams, RangeStaticLayerParams, RankPreservingReshapeLayerParams, ReshapeLayerParams,
    ReshapeStaticLayerParams, ReverseLayerParams, ReverseSeqLayerParams, SequenceRepeatLayerParams,
    SliceBySizeLayerParams, SliceDynamicLayerParams, SliceLayerParams, SliceStaticLayerParams,
    SlidingWindowsLayerParams, SplitLayerParams, SplitNdLayerParams, SqueezeLayerParams, StackLayerParams,
    TileLayerParams, TransposeLayerParams,
};
use milwright_mil::{DType, Input, OpKind, Value, ValueId, param};

use super::net::Net;
use crate::Error;
use crate::lower::{
    In, Result, Size, first, i32_from, i32_of, normalize, op, sizes, take, too_low, usize_of,
};

pub(super) fn load_constant(n: &mut Net, _: &[ValueId], p: &LoadConstantLayerParams) -> Result<ValueId> {
    let shape: Vec<usize> = [1, 1].into_iter().chain(sizes(&p.shape)?).collect();
    let data = n.weights(p.data.as_deref(), &shape)?;
    Ok(n.constant(data))
}

pub(super) fn load_constant_nd(n: &mut Net, _: &[ValueId], p: &LoadConstantNdLayerParams) -> Result<ValueId> {
    let data = n.weights(p.data.as_deref(), &sizes(&p.shape)?)?;
    Ok(n.constant(data))
}

/// Lowers the older layer. Its target is channel, height and width, with an optional length of the sequence in front.
pub(super) fn reshape(n: &mut Net, x: &[ValueId], p: &ReshapeLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = five(n, x)?;
    let size = |d: i64| {
        let d = usize::try_from(d).map_err(|_| Error::malformed(format!("a target size of {d}")))?;
        Ok(Size::Fixed(d))
    };
    let target = p.target_shape.iter().map(|&d| size(d)).collect::<Result<Vec<Size>>>()?;
    let (sequence, [c, h, w]) = match target.as_slice() {
        [c, h, w] => (Size::Of(x, 0..1), [c, h, w].map(Clone::clone)),
        [s, c, h, w] => (s.clone(), [c, h, w].map(Clone::clone)),
        other => return Err(Error::malformed(format!("a target shape of {} sizes", other.len()))),
    };
    let batch = Size::Of(x, 1..2);
    if p.mode == i32::from(ReshapeOrder::ChannelLast) {
        let x = op!(n, Transpose, x = x, perm = &[0, 1, 3, 4, 2][..])?;
        let y = n.reshape_to(x, &[sequence, batch, h, w, c])?;
        return op!(n, Transpose, x = y, perm = &[0, 1, 4, 2, 3][..]);
    }
    n.reshape_to(x, &[sequence, batch, c, h, w])
}

/// Returns the value with at least five dimensions.
fn five(n: &mut Net, x: ValueId) -> Result<ValueId> {
    let rank = n.rank(x)?;
    if rank >= 5 {
        return Ok(x);
    }
    let axes: Vec<i32> = (0..(5 - rank) as i32).collect();
    op!(n, ExpandDims, x = x, axes = &axes[..])
}

pub(super) fn reshape_static(n: &mut Net, x: &[ValueId], p: &ReshapeStaticLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    n.reshape(x, &p.target_shape)
}

pub(super) fn rank_preserving_reshape(
    n: &mut Net,
    x: &[ValueId],
    p: &RankPreservingReshapeLayerParams,
) -> Result<ValueId> {
    let [x] = take(x)?;
    let rank = n.rank(x)?;
    if p.target_shape.len() != rank {
        return Err(Error::malformed(format!("{} sizes for rank {rank}", p.target_shape.len())));
    }
    n.reshape(x, &p.target_shape)
}

pub(super) fn reshape_dynamic(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let [x, shape] = take(x)?;
    let shape = n.int_of(shape)?;
    op!(n, Reshape, x = x, shape = shape)
}

pub(super) fn reshape_like(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let [x, like] = take(x)?;
    let shape = n.shape_of(like)?;
    op!(n, Reshape, x = x, shape = shape)
}

pub(super) fn flatten(n: &mut Net, x: &[ValueId], p: &FlattenLayerParams) -> Result<ValueId> {
    let [mut x] = take(x)?;
    let rank = n.rank(x)?;
    let leading = rank.checked_sub(3).ok_or_else(|| too_low(rank, 3))?;
    if p.mode == i32::from(FlattenOrder::ChannelLast) {
        let channel = leading as i32;
        let perm: Vec<i32> = (0..channel).chain([channel + 1, channel + 2, channel]).collect();
        x = op!(n, Transpose, x = x, perm = &perm[..])?;
    }
    let mut sizes: Vec<Size> = (0..leading).map(|d| Size::Of(x, d..d + 1)).collect();
    sizes.extend([Size::Of(x, leading..rank), Size::Fixed(1), Size::Fixed(1)]);
    n.reshape_to(x, &sizes)
}

pub(super) fn flatten_to_2d(n: &mut Net, x: &[ValueId], p: &FlattenTo2DLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let rank = n.rank(x)?;
    // The axis may be one past the last.
    let axis = if p.axis == rank as i64 { rank } else { normalize(p.axis, rank)? };
    n.reshape_to(x, &[Size::Of(x, 0..axis), Size::Of(x, axis..rank)])
}

/// Lowers the older layer, which keeps the batch in place.
pub(super) fn permute(n: &mut Net, x: &[ValueId], p: &PermuteLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = five(n, x)?;
    let axes: &[u64] = if p.axis.is_empty() { &[0, 1, 2, 3] } else { &p.axis };
    let place = |&a: &u64| [0, 2, 3, 4].get(a as usize).copied();
    let places = axes.iter().map(place).collect::<Option<Vec<i32>>>();
    let Some([a, b, c, d]) = places.as_deref() else {
        return Err(Error::malformed(format!("{axes:?} is not a permutation of 0, 1, 2, 3")));
    };
    op!(n, Transpose, x = x, perm = &[*a, 1, *b, *c, *d][..])
}

pub(super) fn transpose(n: &mut Net, x: &[ValueId], p: &TransposeLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    // An image has a batch dimension in front. Networks that were made for arrays do not count it.
    let leading = n.rank(x)?.saturating_sub(p.axes.len()) as i32;
    let axis = |&a: &u64| Ok(i32_of(a)?.saturating_add(leading));
    let perm = (0..leading).map(Ok).chain(p.axes.iter().map(axis)).collect::<Result<Vec<i32>>>()?;
    op!(n, Transpose, x = x, perm = &perm[..])
}

pub(super) fn squeeze(n: &mut Net, x: &[ValueId], p: &SqueezeLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    if p.squeeze_all {
        return op!(n, Squeeze, x = x);
    }
    let axes: Vec<i32> = p.axes.iter().map(|&a| i32_from(a)).collect();
    op!(n, Squeeze, x = x, axes = &axes[..])
}

pub(super) fn expand_dims(n: &mut Net, x: &[ValueId], p: &ExpandDimsLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let axes: Vec<i32> = p.axes.iter().map(|&a| i32_from(a)).collect();
    op!(n, ExpandDims, x = x, axes = &axes[..])
}

pub(super) fn concat(n: &mut Net, x: &[ValueId], p: &ConcatLayerParams) -> Result<ValueId> {
    let x = alike(n, x)?;
    op!(n, Concat, values = x, axis = if p.sequence_concat { -5 } else { -3 })
}

pub(super) fn concat_nd(n: &mut Net, x: &[ValueId], p: &ConcatNdLayerParams) -> Result<ValueId> {
    let x = alike(n, x)?;
    op!(n, Concat, values = x, axis = i32_from(p.axis), interleave = p.interleave)
}

pub(super) fn stack(n: &mut Net, x: &[ValueId], p: &StackLayerParams) -> Result<ValueId> {
    let x = alike(n, x)?;
    op!(n, Stack, values = x, axis = i32_from(p.axis))
}

/// Converts values to one type: integers if all are, else floats.
fn alike(n: &mut Net, x: &[ValueId]) -> Result<Vec<ValueId>> {
    let mut ints = true;
    for &value in x {
        ints &= n.ty(value)?.dtype == DType::Int32;
    }
    if ints {
        return Ok(x.to_vec());
    }
    // Constants are floats. Next to computed integers, which may be shapes, whole constants become integers, too.
    let whole = x.iter().all(|&v| n.ty(v).is_ok_and(|t| t.dtype == DType::Int32) || is_small_and_whole(n, v));
    let some = x.iter().any(|&v| n.ty(v).is_ok_and(|t| t.dtype == DType::Int32));
    x.iter().map(|&v| if whole && some { n.int_of(v) } else { n.float_of(v) }).collect()
}

fn is_small_and_whole(n: &Net, value: ValueId) -> bool {
    let known = n.builder.known(value).filter(|t| t.elements() <= 64);
    known.is_some_and(|t| t.to_f64().iter().all(|x| x.fract() == 0.0 && x.abs() < 2f64.powi(31)))
}

pub(super) fn split(n: &mut Net, x: &[ValueId], p: &SplitLayerParams) -> Result<Vec<ValueId>> {
    let [x] = take(x)?;
    let count = i32_of(if p.n_outputs == 0 { n.outputs as u64 } else { p.n_outputs })?;
    let inputs = vec![
        Input::value(param!(Split.x), x),
        Input::constant(param!(Split.num_splits), Value::int(count)),
        Input::constant(param!(Split.axis), Value::int(-3)),
    ];
    n.ops(OpKind::Split, inputs)
}

pub(super) fn split_nd(n: &mut Net, x: &[ValueId], p: &SplitNdLayerParams) -> Result<Vec<ValueId>> {
    let [x] = take(x)?;
    let mut inputs = vec![
        Input::value(param!(Split.x), x),
        Input::constant(param!(Split.axis), Value::int(i32_from(p.axis))),
    ];
    inputs.push(if p.split_sizes.is_empty() {
        let count = i32_of(if p.num_splits == 0 { n.outputs as u64 } else { p.num_splits })?.max(1);
        let axis = n.axis(x, p.axis)?;
        match n.dim(x, axis)?.fixed().and_then(|size| i32::try_from(size).ok()) {
            // The first parts get one element more.
            Some(size) if size % count != 0 && count as usize == n.outputs => {
                let part = |i: i32| size / count + i32::from(i < size % count);
                let sizes: Vec<i32> = (0..count).map(part).collect();
                Input::constant(param!(Split.split_sizes), Value::ints(&sizes))
            }
            _ => Input::constant(param!(Split.num_splits), Value::int(count)),
        }
    } else {
        let sizes = p.split_sizes.iter().map(|&s| i32_of(s)).collect::<Result<Vec<i32>>>()?;
        Input::constant(param!(Split.split_sizes), Value::ints(&sizes))
    });
    n.ops(OpKind::Split, inputs)
}

pub(super) fn sequence_repeat(n: &mut Net, x: &[ValueId], p: &SequenceRepeatLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let rank = n.rank(x)?;
    let axis = rank.checked_sub(5).ok_or_else(|| too_low(rank, 5))?;
    let mut reps = vec![1; rank];
    reps[axis] = i32_of(p.n_repetitions.max(1))?;
    op!(n, Tile, x = x, reps = &reps[..])
}

pub(super) fn tile(n: &mut Net, x: &[ValueId], p: &TileLayerParams) -> Result<ValueId> {
    let [value] = first(x)?;
    let reps = match x.get(1) {
        Some(&reps) => {
            let reps = n.int_of(reps)?;
            match (n.rank(value)?).checked_sub(n.size(reps, 0)?) {
                Some(missing @ 1..) => {
                    let ones = n.int_vector(&vec![1; missing]);
                    op!(n, Concat, values = vec![ones, reps], axis = 0)?
                }
                _ => reps,
            }
        }
        None => {
            let rank = n.rank(value)?;
            let given = p.reps.iter().map(|&r| i32_of(r)).collect::<Result<Vec<i32>>>()?;
            let ones = rank.checked_sub(given.len());
            let ones =
                ones.ok_or_else(|| Error::malformed(format!("{} repetitions for rank {rank}", given.len())))?;
            let reps: Vec<i32> = vec![1; ones].into_iter().chain(given).collect();
            n.int_vector(&reps)
        }
    };
    op!(n, Tile, x = value, reps = reps)
}

/// Lowers the older layer, which slices one of the last three dimensions.
pub(super) fn slice(n: &mut Net, x: &[ValueId], p: &SliceLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let axis = match SliceAxis::try_from(p.axis) {
        Ok(SliceAxis::ChannelAxis) => -3,
        Ok(SliceAxis::HeightAxis) => -2,
        Ok(SliceAxis::WidthAxis) => -1,
        Err(_) => return Err(Error::unsupported("an unknown axis")),
    };
    let axis = n.axis(x, axis)?;
    let rank = n.rank(x)?;
    let mut slice =
        Slice { stride: vec![1; rank], masks: [vec![true; rank], vec![true; rank], vec![false; rank]] };
    let (mut begin, mut end) = (vec![0; rank], vec![0; rank]);
    begin[axis] = i32_from(p.start_index);
    end[axis] = i32_from(p.end_index);
    slice.stride[axis] = i32_of(p.stride.max(1))?;
    slice.masks[0][axis] = false;
    slice.masks[1][axis] = false;
    let (begin, end) = (n.int_vector(&begin), n.int_vector(&end));
    slice.push(n, x, begin, end)
}

pub(super) fn slice_static(n: &mut Net, x: &[ValueId], p: &SliceStaticLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let rank = n.rank(x)?;
    let slice = Slice::new(rank, &p.strides, [&p.begin_masks, &p.end_masks, &p.squeeze_masks]);
    let ints = |values: &[i64]| values.iter().map(|&v| i32_from(v)).collect::<Vec<i32>>();
    let (begin, end) = (n.int_vector(&ints(&p.begin_ids)), n.int_vector(&ints(&p.end_ids)));
    slice.push(n, x, begin, end)
}

pub(super) fn slice_dynamic(n: &mut Net, x: &[ValueId], p: &SliceDynamicLayerParams) -> Result<ValueId> {
    let [value, begin] = first(x)?;
    let rank = n.rank(value)?;
    let known = |i: usize| match x.get(i) {
        Some(&v) => {
            let known =
                n.known_integers(v).ok_or_else(|| Error::unsupported("strides or masks that are computed"));
            known.map(Some)
        }
        None => Ok(None),
    };
    let strides = known(3)?.unwrap_or_else(|| p.strides.clone());
    let mask = |i: usize, default: &[bool]| -> Result<Vec<bool>> {
        Ok(known(i)?.map_or_else(|| default.to_vec(), |v| v.iter().map(|&m| m != 0).collect()))
    };
    let (begin_mask, end_mask) = (mask(4, &p.begin_masks)?, mask(5, &p.end_masks)?);
    let squeeze_mask = mask(6, &p.squeeze_masks)?;
    let slice = Slice::new(rank, &strides, [&begin_mask, &end_mask, &squeeze_mask]);
    let begin = n.int_of(begin)?;
    let end = match x.get(2) {
        Some(&end) => n.int_of(end)?,
        None => {
            let end: Vec<i32> = p.end_ids.iter().map(|&v| i32_from(v)).collect();
            n.int_vector(&end)
        }
    };
    slice.push(n, value, begin, end)
}

/// The parameters of a slice besides its bounds: strides, and masks for begin, end and dropping the dimension.
struct Slice {
    stride: Vec<i32>,
    masks: [Vec<bool>; 3],
}

impl Slice {
    /// Builders that do not know the rank write five of each; those beyond the rank have no meaning.
    fn new(rank: usize, strides: &[i64], masks: [&[bool]; 3]) -> Slice {
        let strides = strides.iter().map(|&s| i32_from(s)).chain(std::iter::repeat(1));
        let filled = |m: &[bool]| m.iter().copied().chain(std::iter::repeat(false)).take(rank).collect();
        Slice { stride: strides.take(rank).collect(), masks: masks.map(filled) }
    }

    fn push(&self, n: &mut Net, x: ValueId, begin: ValueId, end: ValueId) -> Result<ValueId> {
        let [begin_mask, end_mask, squeeze_mask] = &self.masks;
        op!(
            n,
            SliceByIndex,
            x = x,
            begin = begin,
            end = end,
            stride = &self.stride[..],
            begin_mask = &begin_mask[..],
            end_mask = &end_mask[..],
            squeeze_mask = &squeeze_mask[..]
        )
    }
}

pub(super) fn slice_by_size(n: &mut Net, x: &[ValueId], p: &SliceBySizeLayerParams) -> Result<ValueId> {
    let [x, begin] = take(x)?;
    let axis = n.axis(x, p.axis)?;
    let rank = n.rank(x)?;
    let begin = n.int_of(begin)?;
    let begin = n.reshape(begin, &[1])?;
    let parts: Vec<ValueId> = (0..rank).map(|d| if d == axis { begin } else { n.int_vector(&[0]) }).collect();
    let begin = op!(n, Concat, values = parts, axis = 0)?;
    let mut size = vec![-1; rank];
    size[axis] = i32_from(p.size);
    op!(n, SliceBySize, x = x, begin = begin, size = &size[..])
}

pub(super) fn reverse(n: &mut Net, x: &[ValueId], p: &ReverseLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let axes: Vec<i32> = (0..).zip(&p.reverse_dim).filter(|(_, r)| **r).map(|(i, _)| i).collect();
    if axes.is_empty() {
        return Ok(x);
    }
    op!(n, Reverse, x = x, axes = &axes[..])
}

pub(super) fn reverse_sequence(n: &mut Net, x: &[ValueId], p: &ReverseSeqLayerParams) -> Result<ValueId> {
    let [x, lengths] = take(x)?;
    let lengths = n.int_of(lengths)?;
    let (sequence, batch) = (i32_from(p.sequence_axis), i32_from(p.batch_axis));
    op!(n, ReverseSequence, x = x, lengths = lengths, seq_axis = sequence, batch_axis = batch)
}

pub(super) fn sliding_windows(n: &mut Net, x: &[ValueId], p: &SlidingWindowsLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.number(x)?;
    let (size, stride) = (i32_of(p.window_size)?, i32_of(p.step.max(1))?);
    op!(n, SlidingWindows, x = x, axis = i32_from(p.axis), size = size, stride = stride)
}

pub(super) fn get_shape(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let [x] = take(x)?;
    n.shape_of(x)
}

pub(super) fn fill_like(n: &mut Net, x: &[ValueId], value: f32) -> Result<ValueId> {
    let [like] = take(x)?;
    let shape = n.shape_of(like)?;
    op!(n, Fill, shape = shape, value = value)
}

pub(super) fn fill_static(n: &mut Net, shape: &[u64], value: f32) -> Result<ValueId> {
    let shape = constant_shape(n, shape)?;
    op!(n, Fill, shape = shape, value = value)
}

pub(super) fn fill_dynamic(n: &mut Net, x: &[ValueId], value: f32) -> Result<ValueId> {
    let [shape] = take(x)?;
    let shape = n.int_of(shape)?;
    op!(n, Fill, shape = shape, value = value)
}

fn constant_shape(n: &mut Net, shape: &[u64]) -> Result<ValueId> {
    let shape = shape.iter().map(|&d| i32_of(usize_of(d)? as u64)).collect::<Result<Vec<i32>>>()?;
    Ok(n.int_vector(&shape))
}

pub(super) fn broadcast_to_like(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let [x, like] = take(x)?;
    let shape = n.shape_of(like)?;
    broadcast(n, x, shape)
}

pub(super) fn broadcast_to_static(n: &mut Net, x: &[ValueId], shape: &[u64]) -> Result<ValueId> {
    let [x] = take(x)?;
    let shape = constant_shape(n, shape)?;
    broadcast(n, x, shape)
}

pub(super) fn broadcast_to_dynamic(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let [x, shape] = take(x)?;
    let shape = n.int_of(shape)?;
    broadcast(n, x, shape)
}

fn broadcast(n: &mut Net, x: ValueId, shape: ValueId) -> Result<ValueId> {
    let x = n.float_of(x)?;
    let zeros = op!(n, Fill, shape = shape, value = 0.0)?;
    op!(n, Add, x = x, y = zeros)
}

pub(super) fn range_static(n: &mut Net, _: &[ValueId], p: &RangeStaticLayerParams) -> Result<ValueId> {
    op!(n, Range1d, end = p.end_value, start = p.start_value, step = p.step_size_value)
}

pub(super) fn range_dynamic(n: &mut Net, x: &[ValueId], p: &RangeDynamicLayerParams) -> Result<ValueId> {
    let mut number = |i: usize, default: f32| match x.get(i) {
        Some(&value) => {
            let value = n.float_of(value)?;
            Ok(In::from(n.scalar(value)?))
        }
        None => Ok::<In, Error>(In::from(default)),
    };
    let (end, start, step) = (number(0, 0.0)?, number(1, p.start_value)?, number(2, p.step_size_value)?);
    if x.is_empty() {
        return Err(Error::malformed("takes 1 input at least"));
    }
    n.op(
        OpKind::Range1d,
        vec![
            end.named(param!(Range1d.end)),
            start.named(param!(Range1d.start)),
            step.named(param!(Range1d.step)),
        ],
    )
}
