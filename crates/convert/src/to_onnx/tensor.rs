//! Shapes, slices, gathers and scatters.

use milwright_mil::ops::{Axis, Operand};
use milwright_mil::{DType, Dim, Tensor, TensorType};

use super::graph::{FIX, Graph, Node, Result, broken, element, int, text};
use super::{implement, refuse};
use crate::Error;

fn at(axis: Axis, rank: usize) -> Result<i64> {
    Ok(axis.resolve(rank).map_err(broken)? as i64)
}

/// Begins and ends of a slice, with their masks.
struct Slice<'p, 'a> {
    begin: &'p Operand<'a>,
    end: &'p Operand<'a>,
    stride: Option<&'p [i64]>,
    begin_mask: Option<&'p [bool]>,
    end_mask: Option<&'p [bool]>,
    squeeze_mask: Option<&'p [bool]>,
}

impl Slice<'_, '_> {
    /// Slices, and keeps dimensions that are to be dropped.
    fn apply(&self, n: &mut Node<'_, '_>, x: &str, rank: usize) -> Result<String> {
        let strides = self.stride.map_or_else(|| vec![1; rank], <[i64]>::to_vec);
        let is = |mask: Option<&[bool]>, d: usize| mask.is_some_and(|m| m[d]);
        let (begins, ends) = (self.begin.ints().ok(), self.end.ints().ok());
        let squeezed = |d: usize| is(self.squeeze_mask, d);
        let open_begin: Vec<bool> = (0..rank).map(|d| is(self.begin_mask, d) && !squeezed(d)).collect();
        let open_end: Vec<bool> = (0..rank).map(|d| is(self.end_mask, d) && !squeezed(d)).collect();
        let low = |d: usize| if strides[d] > 0 { 0 } else { i64::MAX };
        let high = |d: usize| if strides[d] > 0 { i64::MAX } else { i64::MIN };
        let begin = match &begins {
            Some(begins) => {
                let all: Vec<i64> =
                    (0..rank).map(|d| if open_begin[d] { low(d) } else { begins[d] }).collect();
                n.int64s(&all)
            }
            None => {
                let given = n.of_as(self.begin, DType::Int64)?;
                choose(n, &open_begin, &(0..rank).map(low).collect::<Vec<_>>(), &given)?
            }
        };
        let any_squeezed = (0..rank).any(squeezed);
        let end = match (&begins, &ends) {
            (Some(begins), Some(ends)) => {
                let all: Vec<i64> = (0..rank)
                    .map(|d| match (squeezed(d), open_end[d]) {
                        (true, _) if begins[d] == -1 => i64::MAX,
                        (true, _) => begins[d] + 1,
                        (_, true) => high(d),
                        _ => ends[d],
                    })
                    .collect();
                n.int64s(&all)
            }
            _ => {
                let given = n.of_as(self.end, DType::Int64)?;
                let mut end = choose(n, &open_end, &(0..rank).map(high).collect::<Vec<_>>(), &given)?;
                if any_squeezed {
                    let (one, last, all) = (n.int64(1), n.int64(-1), n.int64(i64::MAX));
                    let next = n.add("Add", &[&begin, &one]);
                    let is_last = n.add("Equal", &[&begin, &last]);
                    let next = n.add("Where", &[&is_last, &all, &next]);
                    let mask: Vec<bool> = (0..rank).map(squeezed).collect();
                    let mask = bools(n, &mask)?;
                    end = n.add("Where", &[&mask, &next, &end]);
                }
                end
            }
        };
        let strides: Vec<i64> = (0..rank).map(|d| if squeezed(d) { 1 } else { strides[d] }).collect();
        let axes = n.int64s(&(0..rank as i64).collect::<Vec<_>>());
        let steps = n.int64s(&strides);
        Ok(n.add("Slice", &[x, &begin, &end, &axes, &steps]))
    }

    fn dropped(&self, rank: usize) -> Vec<i64> {
        (0..rank).filter(|&d| self.squeeze_mask.is_some_and(|m| m[d])).map(|d| d as i64).collect()
    }
}

fn bools(g: &mut Graph<'_>, values: &[bool]) -> Result<String> {
    let tensor = Tensor::from_bools(&[values.len()], values).map_err(|e| Error::malformed(e.to_string()))?;
    g.constant(&tensor)
}

/// `known` where the mask says so, else what is given.
fn choose(g: &mut Graph<'_>, mask: &[bool], known: &[i64], given: &str) -> Result<String> {
    if !mask.contains(&true) {
        return Ok(given.to_owned());
    }
    let (mask, known) = (bools(g, mask)?, g.int64s(known));
    Ok(g.add("Where", &[&mask, &known, given]))
}

macro_rules! slice {
    ($p:ident) => {
        Slice {
            begin: &$p.begin,
            end: &$p.end,
            stride: $p.stride.as_deref(),
            begin_mask: $p.begin_mask.as_deref(),
            end_mask: $p.end_mask.as_deref(),
            squeeze_mask: $p.squeeze_mask.as_deref(),
        }
    };
}

/// What a scatter does with an element that is there, and with updates before it does.
fn reduction(
    n: &mut Node<'_, '_>,
    mode: &str,
    updates: String,
    dtype: DType,
) -> Result<(&'static str, String)> {
    Ok(match mode {
        "update" => ("none", updates),
        "add" => ("add", updates),
        "sub" => ("add", n.add("Neg", &[&updates])),
        "mul" => ("mul", updates),
        "div" if dtype.is_float() => ("mul", n.add("Reciprocal", &[&updates])),
        "max" => ("max", updates),
        "min" => ("min", updates),
        other => return Err(Error::unsupported(format!("a scatter with the mode `{other}` of {dtype}"))),
    })
}

/// A number of elements along an axis, as an int64 vector of one.
fn count(n: &mut Node<'_, '_>, x: &str, ty: &TensorType, axis: usize) -> String {
    n.sizes(x, ty, axis..axis + 1)
}

/// 0, 1, … as int64, up to a vector of one element.
fn range(n: &mut Node<'_, '_>, end: &str) -> String {
    let end = n.squeeze(end, &[0]);
    let (zero, one) = (n.int64(0), n.int64(1));
    n.add("Range", &[&zero, &end, &one])
}

implement! {
    Argsort: |n, p| {
        let axis = at(p.axis, p.x.rank())?;
        let x = n.of(&p.x)?;
        let k = count(n, &x, p.x.ty, axis as usize);
        let more = vec![int("axis", axis), int("largest", (!p.ascending).into())];
        let made = n.add_many("TopK", &[&x, &k], more, 2);
        let to = n.out(0)?.dtype;
        Ok(vec![n.cast(&made[1], DType::Int64, to)?])
    };
    BandPart: |n, p| {
        let mut x = n.of(&p.x)?;
        let dtype = p.x.dtype;
        // There is no triangle of int32.
        let inner = if dtype == DType::Int32 { DType::Int64 } else { dtype };
        x = n.cast(&x, dtype, inner)?;
        if p.upper >= 0 {
            let k = n.int64(p.upper);
            x = n.add_with("Trilu", &[&x, &k], vec![int("upper", 0)]);
        }
        if p.lower >= 0 {
            let k = n.int64(-p.lower);
            x = n.add_with("Trilu", &[&x, &k], vec![int("upper", 1)]);
        }
        Ok(vec![n.cast(&x, inner, dtype)?])
    };
    BatchToSpace: |n, p| {
        let ([b, c, h, w], [r, s]) = (four(&p.x)?, two(&p.block_shape)?);
        let x = n.of(&p.x)?;
        let x = n.reshape(&x, &[r, s, b / (r * s), c, h, w]);
        let x = n.transpose(&x, &[2, 3, 4, 0, 5, 1]);
        let mut x = n.reshape(&x, &[b / (r * s), c, h * r, w * s]);
        for (axis, cut) in [(2, &p.crops[..2]), (3, &p.crops[2..])] {
            let end = if cut[1] == 0 { i64::MAX } else { -cut[1] };
            x = n.slice(&x, axis, cut[0], end);
        }
        Ok(vec![x])
    };
    SpaceToBatch: |n, p| {
        let ([b, c, h, w], [r, s]) = (four(&p.x)?, two(&p.block_shape)?);
        let x = n.of(&p.x)?;
        let pad = &p.paddings;
        let pads = n.int64s(&[0, 0, pad[0], pad[2], 0, 0, pad[1], pad[3]]);
        let x = n.add("Pad", &[&x, &pads]);
        let (h, w) = (h + pad[0] + pad[1], w + pad[2] + pad[3]);
        let x = n.reshape(&x, &[b, c, h / r, r, w / s, s]);
        let x = n.transpose(&x, &[3, 5, 0, 1, 2, 4]);
        Ok(vec![n.reshape(&x, &[b * r * s, c, h / r, w / s])])
    };
    Concat: |n, p| {
        let mut values: Vec<String> = p.values.iter().map(|v| n.of(v)).collect::<Result<_>>()?;
        let rank = p.values[0].rank();
        let axis = at(p.axis, rank.max(1))?;
        if rank == 0 || p.interleave {
            let place = if rank == 0 { 0 } else { axis + 1 };
            for value in &mut values {
                *value = n.unsqueeze(value, &[place]);
            }
        }
        let axis = if p.interleave && rank > 0 { axis + 1 } else { axis };
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let y = n.add_with("Concat", &values, vec![int("axis", axis)]);
        let ty = n.out(0)?;
        Ok(vec![if p.interleave && rank > 0 { n.reshape_to(&y, ty)? } else { y }])
    };
    Cumsum: |n, p| {
        let (x, axis) = (n.of(&p.x)?, n.int64(p.axis.value));
        let more = vec![int("exclusive", p.exclusive.into()), int("reverse", p.reverse.into())];
        Ok(vec![n.add_with("CumSum", &[&x, &axis], more)])
    };
    DepthToSpace: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![n.add_with("DepthToSpace", &[&x], vec![int("blocksize", p.block_size)])])
    };
    PixelShuffle: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![n.add_with("DepthToSpace", &[&x], vec![int("blocksize", p.upscale_factor), text("mode", "CRD")])])
    };
    SpaceToDepth: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![n.add_with("SpaceToDepth", &[&x], vec![int("blocksize", p.block_size)])])
    };
    PixelUnshuffle: |n, p| {
        let x = n.of(&p.x)?;
        let wide = n.add_with("SpaceToDepth", &[&x], vec![int("blocksize", p.downscale_factor)]);
        // The offset in a block is innermost in the channels.
        let channels = p.x.shape[1].fixed().ok_or_else(|| Error::unsupported("an open number of channels").with_hint(FIX))?;
        let (channels, block) = (channels as i64, p.downscale_factor * p.downscale_factor);
        let order: Vec<i64> = (0..channels * block).map(|i| (i % block) * channels + i / block).collect();
        let order = n.int64s(&order);
        Ok(vec![n.add_with("Gather", &[&wide, &order], vec![int("axis", 1)])])
    };
    ExpandDims: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![n.unsqueeze(&x, &p.axes.values)])
    };
    Fill: |n, p| {
        let shape = n.of_as(&p.shape, DType::Int64)?;
        let value = p.value.as_ref().and_then(Operand::value).cloned().unwrap_or(Tensor::scalar(0f32));
        Ok(vec![n.add_with("ConstantOfShape", &[&shape], vec![element("value", &value)?])])
    };
    FillLike: |n, p| {
        let x = n.of(&p.ref_tensor)?;
        let shape = n.sizes(&x, p.ref_tensor.ty, 0..p.ref_tensor.rank());
        let value = p.value.as_ref().and_then(Operand::value).cloned().unwrap_or(Tensor::scalar(0f32));
        Ok(vec![n.add_with("ConstantOfShape", &[&shape], vec![element("value", &value)?])])
    };
    Flatten2d: |n, p| {
        let x = n.of(&p.x)?;
        Ok(vec![n.add_with("Flatten", &[&x], vec![int("axis", p.axis)])])
    };
    Identity: |n, p| {
        let x = n.bound(&p.x)?;
        Ok(vec![n.add("Identity", &[&x])])
    };
    NonZero: |n, p| {
        let x = n.of(&p.x)?;
        let places = n.add("NonZero", &[&x]);
        let rows = n.transpose(&places, &[1, 0]);
        Ok(vec![n.cast(&rows, DType::Int64, DType::Int32)?])
    };
    OneHot: |n, p| {
        let (indices, depth) = (n.of(&p.indices)?, n.of(&p.one_hot_vector_size)?);
        let axis = at(p.axis, p.indices.rank() + 1)?;
        let indices = n.unsqueeze(&indices, &[axis]);
        let zero = n.constant(&Tensor::scalar(0i32))?;
        let one = n.constant(&Tensor::scalar(1i32))?;
        let depth = n.reshape(&depth, &[]);
        let classes = n.add("Range", &[&zero, &depth, &one]);
        let mut sizes = vec![1; p.indices.rank() + 1];
        sizes[axis as usize] = -1;
        let classes = n.reshape(&classes, &sizes[axis as usize..]);
        let hit = n.add("Equal", &[&indices, &classes]);
        let dtype = n.out(0)?.dtype;
        let value = |n: &mut Node<'_, '_>, v: &Option<Operand<'_>>, default: f64| match v {
            Some(v) => n.of_as(v, dtype),
            None => n.scalar(dtype, default),
        };
        let (on, off) = (value(n, &p.on_value, 1.0)?, value(n, &p.off_value, 0.0)?);
        Ok(vec![n.add("Where", &[&hit, &on, &off])])
    };
    Pad: |n, p| {
        let (x, rank) = (n.of(&p.x)?, p.x.rank());
        let pads = match p.pad.ints() {
            Ok(pad) => {
                let first = rank - pad.len() / 2;
                let side = |side: usize| (0..rank).map(move |d| (d, side)).map(|(d, side)| if d < first { 0 } else { pad[2 * (d - first) + side] });
                let all: Vec<i64> = side(0).chain(side(1)).collect();
                n.int64s(&all)
            }
            Err(_) => {
                let pad = n.of_as(&p.pad, DType::Int64)?;
                let pairs = n.reshape(&pad, &[-1, 2]);
                let sides = n.transpose(&pairs, &[1, 0]);
                n.reshape(&sides, &[-1])
            }
        };
        let value = match &p.constant_val {
            Some(v) => n.of_as(v, p.x.dtype)?,
            None => n.scalar(p.x.dtype, 0.0)?,
        };
        let mode = match p.mode {
            "replicate" => "edge",
            other => other,
        };
        Ok(vec![if mode == "constant" {
            n.add_with("Pad", &[&x, &pads, &value], vec![text("mode", mode)])
        } else {
            n.add_with("Pad", &[&x, &pads], vec![text("mode", mode)])
        }])
    };
    Range1d: |n, p| {
        let parts = [&p.start, &p.end, &p.step];
        let mut names = Vec::new();
        for part in parts {
            let name = n.of(part)?;
            names.push(n.reshape(&name, &[]));
        }
        Ok(vec![n.add("Range", &[&names[0], &names[1], &names[2]])])
    };
    Reshape: |n, p| {
        let (x, ty) = (n.of(&p.x)?, n.out(0)?);
        if ty.shape.iter().filter(|d| d.fixed().is_none()).count() <= 1 {
            return Ok(vec![n.reshape_to(&x, ty)?]);
        }
        let given = n.of_as(&p.shape, DType::Int64)?;
        // A 0 copies the dimension at the same place, in ONNX from the front.
        let copies = p.shape.partial().is_some_and(|sizes| sizes.contains(&Some(0)));
        if copies && p.x.rank() != ty.rank() {
            return Err(Error::unsupported("a shape that copies dimensions from another place").with_hint(FIX));
        }
        Ok(vec![n.add("Reshape", &[&x, &given])])
    };
    ReshapeLike: |n, p| {
        let mut parts = Vec::new();
        for (i, reference) in p.ref_tensors.iter().enumerate() {
            let ty = reference.tensor().map_err(broken)?;
            let rank = ty.rank() as i64;
            let number = |v: &Operand<'_>| v.ints().map_err(broken).map(|v| v[0]);
            let begin = number(&p.begins[i])?.rem_euclid(rank.max(1));
            let end = match p.end_masks[i].bool().map_err(broken)? {
                true => rank,
                false => match number(&p.ends[i])? { e if e < 0 => e + rank, e => e },
            };
            let name = n.bound(reference)?;
            parts.push(n.sizes(&name, ty, begin as usize..end.max(begin) as usize));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let shape = n.add_with("Concat", &parts, vec![int("axis", 0)]);
        let x = n.of(&p.x)?;
        Ok(vec![n.add("Reshape", &[&x, &shape])])
    };
    Reverse: |n, p| {
        let rank = p.x.rank();
        let axes = milwright_mil::ops::Axes::or_all(p.axes.as_ref(), rank).map_err(broken)?;
        let x = n.of(&p.x)?;
        Ok(vec![if axes.is_empty() { x } else { n.flip(&x, &axes.iter().map(|&a| a as i64).collect::<Vec<_>>()) }])
    };
    ReverseSequence: |n, p| {
        let rank = p.x.rank();
        let (time, batch) = (at(p.seq_axis, rank)? as usize, at(p.batch_axis, rank)? as usize);
        let mut order = vec![batch, time];
        order.extend((0..rank).filter(|d| ![batch, time].contains(d)));
        let back: Vec<usize> = (0..rank).map(|d| order.iter().position(|&o| o == d).unwrap_or(d)).collect();
        let (x, lengths) = (n.of(&p.x)?, n.of_as(&p.lengths, DType::Int64)?);
        let x = n.transpose(&x, &order);
        let y = n.add_with("ReverseSequence", &[&x, &lengths], vec![int("batch_axis", 0), int("time_axis", 1)]);
        Ok(vec![n.transpose(&y, &back)])
    };
    Shape: |n, p| {
        let x = n.of(&p.x)?;
        let sizes = n.add("Shape", &[&x]);
        let to = n.out(0)?.dtype;
        Ok(vec![n.cast(&sizes, DType::Int64, to)?])
    };
    SliceByIndex: |n, p| {
        let (x, rank) = (n.of(&p.x)?, p.x.rank());
        let slice = slice!(p);
        let y = slice.apply(n, &x, rank)?;
        let dropped = slice.dropped(rank);
        Ok(vec![if dropped.is_empty() { y } else { n.squeeze(&y, &dropped) }])
    };
    SliceBySize: |n, p| {
        let (x, rank) = (n.of(&p.x)?, p.x.rank());
        let axes = n.int64s(&(0..rank as i64).collect::<Vec<_>>());
        let (begin, end) = match (p.begin.ints(), p.size.ints()) {
            (Ok(begin), Ok(size)) => {
                let end: Vec<i64> = begin.iter().zip(&size).map(|(&b, &s)| if s == -1 || (b < 0 && b + s >= 0) { i64::MAX } else { b + s }).collect();
                (n.int64s(&begin), n.int64s(&end))
            }
            _ => {
                let (begin, size) = (n.of_as(&p.begin, DType::Int64)?, n.of_as(&p.size, DType::Int64)?);
                let (zero, rest, all) = (n.int64(0), n.int64(-1), n.int64(i64::MAX));
                let whole = n.sizes(&x, p.x.ty, 0..rank);
                let back = n.add("Add", &[&begin, &whole]);
                let negative = n.add("Less", &[&begin, &zero]);
                let begin = n.add("Where", &[&negative, &back, &begin]);
                let end = n.add("Add", &[&begin, &size]);
                let open = n.add("Equal", &[&size, &rest]);
                (begin, n.add("Where", &[&open, &all, &end]))
            }
        };
        Ok(vec![n.add("Slice", &[&x, &begin, &end, &axes])])
    };
    SliceUpdate: |n, p| {
        // The places of the slice, as numbers of elements, say where the updates go.
        let (x, update, rank) = (n.of(&p.x)?, n.of(&p.update)?, p.x.rank());
        let shape = n.add("Shape", &[&x]);
        let size = n.add("Size", &[&x]);
        let (zero, one) = (n.int64(0), n.int64(1));
        let numbers = n.add("Range", &[&zero, &size, &one]);
        let numbers = n.add("Reshape", &[&numbers, &shape]);
        let places = slice!(p).apply(n, &numbers, rank)?;
        let [flat, places, update] = [&x, &places, &update].map(|v| n.reshape(v, &[-1]));
        let y = n.add_with("ScatterElements", &[&flat, &places, &update], vec![int("axis", 0)]);
        Ok(vec![n.add("Reshape", &[&y, &shape])])
    };
    SlidingWindows: |n, p| {
        let axis = at(p.axis, p.x.rank())? as usize;
        let x = n.of(&p.x)?;
        let length = count(n, &x, p.x.ty, axis);
        let [size, stride] = [p.size, p.stride].map(|v| n.int64s(&[v]));
        let rest = n.add("Sub", &[&length, &size]);
        let windows = n.add("Div", &[&rest, &stride]);
        let one = n.int64s(&[1]);
        let windows = n.add("Add", &[&windows, &one]);
        let starts = range(n, &windows);
        let starts = n.add("Mul", &[&starts, &stride]);
        let starts = n.unsqueeze(&starts, &[1]);
        let inside = n.int64s(&(0..p.size).collect::<Vec<_>>());
        let places = n.add("Add", &[&starts, &inside]);
        Ok(vec![n.add_with("Gather", &[&x, &places], vec![int("axis", axis as i64)])])
    };
    Split: |n, p| {
        let (x, axis) = (n.of(&p.x)?, at(p.axis, p.x.rank())?);
        let outputs = n.op().outputs.len();
        match &p.split_sizes {
            Some(sizes) => {
                let sizes = n.int64s(sizes);
                Ok(n.add_many("Split", &[&x, &sizes], vec![int("axis", axis)], outputs))
            }
            None => Ok(n.add_many("Split", &[&x], vec![int("axis", axis), int("num_outputs", outputs as i64)], outputs)),
        }
    };
    Squeeze: |n, p| {
        let x = n.of(&p.x)?;
        let rank = p.x.rank();
        let axes = milwright_mil::ops::Axes::or_all(p.axes.as_ref(), rank).map_err(broken)?;
        if axes.iter().any(|&a| p.x.shape[a] == Dim::Unknown) && p.axes.is_none() {
            return Err(Error::unsupported("dropping dimensions of open size").with_hint(FIX));
        }
        let ones: Vec<i64> = axes.iter().filter(|&&a| p.x.shape[a].agrees(Dim::Fixed(1))).map(|&a| a as i64).collect();
        Ok(vec![if ones.is_empty() { x } else { n.squeeze(&x, &ones) }])
    };
    Stack: |n, p| {
        let axis = at(p.axis, p.values[0].rank() + 1)?;
        let mut values = Vec::new();
        for value in &p.values {
            let name = n.of(value)?;
            values.push(n.unsqueeze(&name, &[axis]));
        }
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        Ok(vec![n.add_with("Concat", &values, vec![int("axis", axis)])])
    };
    Tile: |n, p| {
        let (x, reps) = (n.of(&p.x)?, n.of_as(&p.reps, DType::Int64)?);
        Ok(vec![n.add("Tile", &[&x, &reps])])
    };
    Topk: |n, p| {
        let (x, axis) = (n.of(&p.x)?, at(p.axis, p.x.rank())?);
        let k = if p.k == -1 { count(n, &x, p.x.ty, axis as usize) } else { n.int64s(&[p.k]) };
        let more = vec![int("axis", axis), int("largest", (!p.ascending).into())];
        let mut made = n.add_many("TopK", &[&x, &k], more, 2);
        if p.return_indices {
            let to = n.out(1)?.dtype;
            made[1] = n.cast(&made[1], DType::Int64, to)?;
        }
        made.truncate(n.op().outputs.len());
        Ok(made)
    };
    Transpose: |n, p| {
        let order = p.perm.resolve(p.x.rank()).map_err(broken)?;
        let x = n.of(&p.x)?;
        Ok(vec![n.transpose(&x, &order)])
    };
    Gather: |n, p| {
        let (x, indices) = (n.of(&p.x)?, n.of_as(&p.indices, DType::Int64)?);
        let axis = at(p.axis, p.x.rank())? as usize;
        let batch = p.batch_dims as usize;
        if batch == 0 {
            return Ok(vec![n.add_with("Gather", &[&x, &indices], vec![int("axis", axis as i64)])]);
        }
        // As vectors of one index, in one batch dimension, with the axis in front.
        let sizes = p.x.fixed_shape().ok_or_else(|| Error::unsupported("batches of open size").with_hint(FIX))?;
        let part = |r: std::ops::Range<usize>| sizes[r].iter().product::<usize>() as i64;
        let (b, before, after) = (part(0..batch), part(batch..axis), part(axis + 1..sizes.len()));
        let x = n.reshape(&x, &[b, before, sizes[axis] as i64, after]);
        let x = n.transpose(&x, &[0, 2, 1, 3]);
        let indices = n.reshape(&indices, &[b, -1, 1]);
        let y = n.add_with("GatherND", &[&x, &indices], vec![int("batch_dims", 1)]);
        let y = n.transpose(&y, &[0, 2, 1, 3]);
        let ty = n.out(0)?;
        Ok(vec![n.reshape_to(&y, ty)?])
    };
    GatherAlongAxis: |n, p| {
        let (x, indices) = (n.of(&p.x)?, n.of_as(&p.indices, DType::Int64)?);
        let axis = at(p.axis, p.x.rank())?;
        Ok(vec![n.add_with("GatherElements", &[&x, &indices], vec![int("axis", axis)])])
    };
    GatherNd: |n, p| {
        let (x, indices) = (n.of(&p.x)?, n.of_as(&p.indices, DType::Int64)?);
        Ok(vec![n.add_with("GatherND", &[&x, &indices], vec![int("batch_dims", p.batch_dims)])])
    };
    Scatter: |n, p| {
        let (data, updates) = (n.of(&p.data)?, n.of(&p.updates)?);
        let axis = at(p.axis, p.data.rank())? as usize;
        let (reduction, updates) = reduction(n, p.mode, updates, p.data.dtype)?;
        let indices = n.of_as(&p.indices, DType::Int64)?;
        let mut sizes = vec![1; p.data.rank()];
        sizes[axis] = -1;
        let indices = n.reshape(&indices, &sizes);
        let shape = n.sizes(&updates, p.updates.ty, 0..p.updates.rank());
        let indices = n.add("Expand", &[&indices, &shape]);
        let more = vec![int("axis", axis as i64), text("reduction", reduction)];
        Ok(vec![n.add_with("ScatterElements", &[&data, &indices, &updates], more)])
    };
    ScatterAlongAxis: |n, p| {
        let (data, updates) = (n.of(&p.data)?, n.of(&p.updates)?);
        let axis = at(p.axis, p.data.rank())?;
        let (reduction, updates) = reduction(n, p.mode, updates, p.data.dtype)?;
        let indices = n.of_as(&p.indices, DType::Int64)?;
        let more = vec![int("axis", axis), text("reduction", reduction)];
        Ok(vec![n.add_with("ScatterElements", &[&data, &indices, &updates], more)])
    };
    ScatterNd: |n, p| {
        let (data, updates) = (n.of(&p.data)?, n.of(&p.updates)?);
        let (reduction, updates) = reduction(n, p.mode, updates, p.data.dtype)?;
        let indices = n.of_as(&p.indices, DType::Int64)?;
        Ok(vec![n.add_with("ScatterND", &[&data, &indices, &updates], vec![text("reduction", reduction)])])
    };
}

refuse! {
    NonMaximumSuppression: "its results have room for a fixed number of boxes";
}

/// The sizes of an image batch, which must be known.
fn four(x: &Operand<'_>) -> Result<[i64; 4]> {
    let sizes = x.fixed_shape().ok_or_else(|| Error::unsupported("images of open size").with_hint(FIX))?;
    let sizes: Vec<i64> = sizes.iter().map(|&s| s as i64).collect();
    sizes.try_into().map_err(|_| Error::malformed("images that are not of rank 4"))
}

fn two(v: &[i64]) -> Result<[i64; 2]> {
    v.try_into().map_err(|_| Error::malformed("not two numbers"))
}
