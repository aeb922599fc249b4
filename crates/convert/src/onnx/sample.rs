//! Sampling of images at given places.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use super::cast;
use super::compose::{V, one};
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, Size, op};

/// How a grid names places.
struct Form {
    mode: &'static str,
    padding: &'static str,
    align: bool,
}

pub(super) fn grid_sample(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (x, grid) = (n.need(0)?, n.need(1)?);
    let mode = match n.text_or("mode", if n.opset < 20 { "bilinear" } else { "linear" })? {
        "linear" | "bilinear" => "linear",
        "cubic" | "bicubic" => "cubic",
        "nearest" => "nearest",
        other => return Err(Error::malformed(format!("the mode `{other}`"))),
    };
    let padding = match n.text_or("padding_mode", "zeros")? {
        "zeros" => "zeros",
        "border" => "border",
        "reflection" => "reflection",
        other => return Err(Error::malformed(format!("the padding `{other}`"))),
    };
    let form = Form { mode, padding, align: n.flag("align_corners", false)? };
    let rank = n.rank(x.id)?;
    if !(3..=5).contains(&rank) {
        return Err(Error::malformed(format!("an image of {rank} dimensions")));
    }
    // The op for images rounds halves away from zero, so that nearest is composed.
    if rank == 4 && mode == "linear" && n.dtype(x.id)?.is_float() {
        let padding = match (padding, form.align) {
            ("zeros", _) => "constant",
            ("border", _) => "border",
            (_, true) => "reflection",
            (_, false) => "symmetric",
        };
        let places = n.float_of(grid.id)?;
        let zero = n.number(n.dtype(x.id)?, 0.0)?;
        let y = op!(
            n,
            Resample,
            x = x.id,
            coordinates = places,
            sampling_mode = "bilinear",
            padding_mode = padding,
            padding_value = zero,
            coordinates_mode = "normalized_minus_one_to_one",
            align_corners = form.align
        )?;
        return cast::finish(n, y, x.elem);
    }
    let y = composed(n, x.id, grid.id, &form)?;
    cast::finish(n, y, x.elem)
}

/// Samples images of any number of dimensions: the elements around each place are gathered from the flat image.
fn composed(n: &mut Lowering, x: ValueId, grid: ValueId, form: &Form) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let dims = rank - 2;
    let dtype = n.dtype(x)?;
    let last = n.rank(grid)? - 1;
    let grid = n.float_of(grid)?;
    // [batch, places] for each dimension; the grid names the last dimension first.
    let mut places = Vec::with_capacity(dims);
    let mut sizes = Vec::with_capacity(dims);
    for d in 0..dims {
        let g = n.take_one(grid, last, (dims - 1 - d) as i32)?;
        let flat = n.reshape_to(g, &[Size::Of(g, 0..1), Size::Of(g, 1..last)])?;
        let whole = n.size_value(&Size::Of(x, d + 2..d + 3))?;
        let size = n.float_of(whole)?;
        let place = if form.align {
            let up = n.add(flat, 1.0)?;
            let half = n.mul(up, 0.5)?;
            let top = n.sub(size, 1.0)?;
            n.mul(half, top)?
        } else {
            let up = n.add(flat, 1.0)?;
            let product = n.mul(up, size)?;
            let less = n.sub(product, 1.0)?;
            n.mul(less, 0.5)?
        };
        let place = match form.mode {
            "nearest" => n.un(Round, place)?,
            _ => place,
        };
        // Other modes bring the place inside first, cubic its neighbors, too.
        let place = inside(n, place, size, form)?;
        places.push(place);
        sizes.push(size);
    }
    // One row for each element of each image.
    let mut order = vec![0];
    order.extend(2..rank);
    order.push(1);
    let rows = n.transpose(x, &order)?;
    let rows = n.reshape_to(rows, &[Size::Of(rows, 0..rank - 1), Size::Of(x, 1..2)])?;
    let images = n.range_to(&Size::Of(x, 0..1))?;
    let images = n.expand_dims(images, &[1])?;
    let offsets: &[f64] = match form.mode {
        "nearest" => &[0.0],
        "linear" => &[0.0, 1.0],
        _ => &[-1.0, 0.0, 1.0, 2.0],
    };
    let mut bases = Vec::with_capacity(dims);
    for &place in &places {
        bases.push(if form.mode == "nearest" { place } else { n.un(Floor, place)? });
    }
    let taps = offsets.len().pow(dims as u32);
    let mut sum: Option<ValueId> = None;
    for tap in 0..taps {
        let mut rest = tap;
        let mut index = images;
        let mut weight: Option<ValueId> = None;
        for d in 0..dims {
            let offset = offsets[rest % offsets.len()];
            rest /= offsets.len();
            let at = n.add(bases[d], offset)?;
            let mut factor = match form.mode {
                "nearest" => None,
                _ => {
                    let distance = n.sub(places[d], at)?;
                    Some(weight_of(n, distance, form.mode == "cubic")?)
                }
            };
            let top = n.sub(sizes[d], 1.0)?;
            let at = if form.padding == "zeros" {
                let (low, high) = (n.greater_equal(at, 0.0)?, n.less_equal(at, top)?);
                let kept = n.and(low, high)?;
                factor = Some(match factor {
                    Some(factor) => n.select(kept, factor, 0.0)?,
                    None => n.cast(kept, DType::Fp32)?,
                });
                at
            } else {
                inside_exactly(n, at, sizes[d], form)?
            };
            let at = n.max(at, 0.0)?;
            let at = n.min(at, top)?;
            let at = n.cast(at, DType::Int32)?;
            let size = n.cast(sizes[d], DType::Int32)?;
            let scaled = n.mul(index, size)?;
            index = n.add(scaled, at)?;
            weight = match (weight, factor) {
                (Some(a), Some(b)) => Some(n.mul(a, b)?),
                (a, b) => a.or(b),
            };
        }
        let values = n.gather(rows, index, 0)?;
        let part = match weight {
            Some(weight) => {
                let weight = n.cast(weight, dtype)?;
                let weight = n.expand_dims(weight, &[2])?;
                n.mul(values, weight)?
            }
            None => values,
        };
        sum = Some(match sum {
            Some(sum) => n.add(sum, part)?,
            None => part,
        });
    }
    // [batch, places, channels] to [batch, channels, places as the grid has them].
    let sum = sum.ok_or_else(|| Error::malformed("a grid without dimensions"))?;
    let y = n.transpose(sum, &[0, 2, 1])?;
    let mut shape = vec![Size::Of(x, 0..1), Size::Of(x, 1..2)];
    shape.extend((1..last).map(|d| Size::Of(grid, d..d + 1)));
    n.reshape_to(y, &shape)
}

/// Brings a place inside, as the padding says; zeros leave it.
fn inside(n: &mut Lowering, place: ValueId, size: ValueId, form: &Form) -> Result<ValueId> {
    match form.padding {
        "border" if form.mode != "cubic" => {
            let top = n.sub(size, 1.0)?;
            let place = n.max(place, 0.0)?;
            n.min(place, top)
        }
        "reflection" if form.mode != "cubic" => reflected(n, place, size, form.align),
        _ => Ok(place),
    }
}

/// As `inside`, for the index of an element.
fn inside_exactly(n: &mut Lowering, index: ValueId, size: ValueId, form: &Form) -> Result<ValueId> {
    if form.padding == "reflection" {
        let y = reflected(n, index, size, form.align)?;
        // Between the edge elements and the outer edges there is nothing whole.
        return n.un(Round, y);
    }
    Ok(index)
}

/// Mirrors at the edge elements, or at their outer edges, until inside.
fn reflected(n: &mut Lowering, place: ValueId, size: ValueId, align: bool) -> Result<ValueId> {
    let (low, span) = if align { (0.0, n.sub(size, 1.0)?) } else { (-0.5, size) };
    let from = n.sub(place, low)?;
    let a = n.un(Abs, from)?;
    let none = n.less_equal(span, 0.0)?;
    let safe = n.select(none, 1.0, span)?;
    let period = n.mul(safe, 2.0)?;
    let rest = n.modulo(a, period)?;
    let back = n.sub(period, rest)?;
    let y = n.min(rest, back)?;
    let y = n.select(none, 0.0, y)?;
    n.add(y, low)
}

/// The weight of an element at a distance from a place.
fn weight_of(n: &mut Lowering, distance: ValueId, cubic: bool) -> Result<ValueId> {
    let x = n.un(Abs, distance)?;
    if !cubic {
        let y = n.sub(1.0, x)?;
        return n.max(y, 0.0);
    }
    let a = -0.75;
    let near = n.mul(x, a + 2.0)?;
    let near = n.sub(near, a + 3.0)?;
    let near = n.mul(near, x)?;
    let near = n.mul(near, x)?;
    let near = n.add(near, 1.0)?;
    let far = n.mul(x, a)?;
    let far = n.sub(far, 5.0 * a)?;
    let far = n.mul(far, x)?;
    let far = n.add(far, 8.0 * a)?;
    let far = n.mul(far, x)?;
    let far = n.sub(far, 4.0 * a)?;
    let inner = n.less_equal(x, 1.0)?;
    n.select(inner, near, far)
}

/// The places of a grid of the given size, moved by a matrix for each image.
pub(super) fn affine_grid(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let theta = n.need(0)?;
    let align = n.flag("align_corners", false)?;
    let dims = n.size(theta.id, 1)?;
    if !(1..=3).contains(&dims) {
        return Err(Error::malformed(format!("a grid of {dims} dimensions")));
    }
    let dtype = n.dtype(theta.id)?;
    let mut sizes = Vec::with_capacity(dims);
    for d in 0..dims {
        sizes.push(match n.known_ints(1) {
            Some(known) => {
                let size = known.get(d + 2).copied().unwrap_or(0);
                n.constant(milwright_mil::Tensor::scalar(size as i32))
            }
            None => {
                let shape = n.value(1)?;
                n.take_one(shape, 0, d as i32 + 2)?
            }
        });
    }
    let count = n.constant(milwright_mil::Tensor::scalar(1i32));
    let mut total = count;
    for &size in &sizes {
        total = n.mul(total, size)?;
    }
    let all = n.range(total)?;
    // For each place a row (x, y, …, 1): the last dimension comes first.
    let mut columns = Vec::with_capacity(dims + 1);
    let mut rest = all;
    for d in (0..dims).rev() {
        let digit = n.modulo(rest, sizes[d])?;
        rest = n.floor_div(rest, sizes[d])?;
        let digit = n.float_of(digit)?;
        let size = n.float_of(sizes[d])?;
        let place = if align {
            let top = n.sub(size, 1.0)?;
            let none = n.equal(top, 0.0)?;
            let safe = n.select(none, 1.0, top)?;
            let along = n.mul(digit, 2.0)?;
            let along = n.div(along, safe)?;
            let along = n.sub(along, 1.0)?;
            n.select(none, 0.0, along)?
        } else {
            let along = n.mul(digit, 2.0)?;
            let along = n.add(along, 1.0)?;
            let along = n.div(along, size)?;
            n.sub(along, 1.0)?
        };
        let place = n.cast(place, dtype)?;
        columns.push(n.expand_dims(place, &[1])?);
    }
    let one_column = n.mul(columns[0], 0.0)?;
    columns.push(n.add(one_column, 1.0)?);
    let rows = n.concat(columns, 1)?;
    let y = n.matmul(rows, theta.id, false, true)?;
    let batch = n.shape(&[Size::Of(theta.id, 0..1)])?;
    let mut parts = vec![batch];
    for &size in &sizes {
        parts.push(n.expand_dims(size, &[0])?);
    }
    parts.push(n.int_vector(&[dims as i32]));
    let shape = n.concat(parts, 0)?;
    let y = n.reshape_by(y, shape)?;
    cast::finish(n, y, theta.elem)
}

/// Averages (or the largest) of samples in the bins of regions.
pub(super) fn roi_align(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (x, rois, batches) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let positive = |v: i64| usize::try_from(v).ok().filter(|&v| v > 0);
    let (Some(height), Some(width)) =
        (positive(n.int_or("output_height", 1)?), positive(n.int_or("output_width", 1)?))
    else {
        return Err(Error::malformed("a result without elements"));
    };
    let ratio = n.int_or("sampling_ratio", 0)?;
    let scale = f64::from(n.float_or("spatial_scale", 1.0)?);
    let largest = match n.text_or("mode", "avg")? {
        "avg" => false,
        "max" => true,
        other => return Err(Error::malformed(format!("the mode `{other}`"))),
    };
    let default = if n.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let half = n.text_or("coordinate_transformation_mode", default)? == "half_pixel";
    let dtype = n.dtype(x.id)?;
    let rois = n.float_of(rois.id)?;
    let scaled = n.mul(rois, scale)?;
    let scaled = if half { n.sub(scaled, 0.5)? } else { scaled };
    // For rows and columns: where the samples of each region are, [regions, bins, samples], and how many count.
    let side = |n: &mut Lowering, at: i32, bins: usize| -> Result<(ValueId, Option<ValueId>, ValueId)> {
        let (start, end) = (n.take_one(scaled, 1, at)?, n.take_one(scaled, 1, at + 2)?);
        let extent = n.sub(end, start)?;
        let extent = if half { extent } else { n.max(extent, 1.0)? };
        let bin = n.div(extent, bins as f64)?;
        // The number of samples: given, or as many as the bin is wide.
        let (most, count) = if ratio > 0 {
            (n.constant(milwright_mil::Tensor::scalar(ratio as i32)), None)
        } else {
            let count = n.un(Ceil, bin)?;
            let most = n.reduce(ReduceMax, count, &[0], false)?;
            let most = n.max(most, 1.0)?;
            (n.cast(most, DType::Int32)?, Some(count))
        };
        let samples = n.range(most)?;
        let samples = n.float_of(samples)?;
        let bins: Vec<f32> = (0..bins).map(|b| b as f32).collect();
        let bins = n.float_tensor(&[1, bins.len(), 1], bins, DType::Fp32)?;
        let per = match count {
            Some(count) => n.expand_dims(count, &[1, 2])?,
            None => n.float_of(most)?,
        };
        let safe = n.max(per, 1.0)?;
        let middle = n.add(samples, 0.5)?;
        let share = n.div(middle, safe)?;
        let share = n.add(share, bins)?;
        let bin = n.expand_dims(bin, &[1, 2])?;
        let along = n.mul(share, bin)?;
        let start = n.expand_dims(start, &[1, 2])?;
        let place = n.add(along, start)?;
        let counted = match count {
            Some(_) => Some(n.less(samples, per)?),
            None => None,
        };
        Ok((place, counted, safe))
    };
    let (ys, rows_count, per_row) = side(n, 1, height)?;
    let (xs, columns_count, per_column) = side(n, 0, width)?;
    // Bilinear: the elements before and after, and the share of the one after.
    let ends = |n: &mut Lowering, place: ValueId, axis: usize| -> Result<[ValueId; 5]> {
        let size = n.size_value(&Size::Of(x.id, axis..axis + 1))?;
        let real = n.float_of(size)?;
        let top = n.sub(real, 1.0)?;
        let (low, high) = (n.greater_equal(place, -1.0)?, n.less_equal(place, real)?);
        let inside = n.and(low, high)?;
        let place = n.max(place, 0.0)?;
        let place = n.min(place, top)?;
        let before = n.un(Floor, place)?;
        let after = n.add(before, 1.0)?;
        let after = n.min(after, top)?;
        let share = n.sub(place, before)?;
        let rest = n.sub(1.0, share)?;
        Ok([n.cast(before, DType::Int32)?, n.cast(after, DType::Int32)?, rest, share, inside])
    };
    let rows = ends(n, ys, 2)?;
    let columns = ends(n, xs, 3)?;
    // One row for each element of each image; [regions · bin rows · samples, columns · samples] places.
    let flat = n.transpose(x.id, &[0, 2, 3, 1])?;
    let flat = n.reshape_to(flat, &[Size::Of(flat, 0..3), Size::Of(x.id, 1..2)])?;
    let wide = n.size_value(&Size::Of(x.id, 3..4))?;
    let tall = n.size_value(&Size::Of(x.id, 2..3))?;
    let image = n.mul(batches.id, tall)?;
    let image = n.expand_dims(image, &[1, 2])?;
    // [regions, bins, samples] as [regions, bins · samples].
    let lined = |n: &mut Lowering, v: ValueId| n.reshape_to(v, &[Size::Of(v, 0..1), Size::Of(v, 1..3)]);
    let mut sum: Option<ValueId> = None;
    for (row, row_share) in [(rows[0], rows[2]), (rows[1], rows[3])] {
        let row = n.add(row, image)?;
        let row = n.mul(row, wide)?;
        let row = lined(n, row)?;
        let row = n.expand_dims(row, &[2])?;
        let row_share = lined(n, row_share)?;
        let row_share = n.expand_dims(row_share, &[2])?;
        for (column, column_share) in [(columns[0], columns[2]), (columns[1], columns[3])] {
            let column = lined(n, column)?;
            let column = n.expand_dims(column, &[1])?;
            let column_share = lined(n, column_share)?;
            let column_share = n.expand_dims(column_share, &[1])?;
            let index = n.add(row, column)?;
            let values = n.gather(flat, index, 0)?;
            let weight = n.mul(row_share, column_share)?;
            let weight = n.cast(weight, dtype)?;
            let weight = n.expand_dims(weight, &[3])?;
            let part = n.mul(values, weight)?;
            sum = Some(match (sum, largest) {
                (None, _) => part,
                // The largest of the weighted elements, not of the interpolated samples.
                (Some(sum), true) => n.max(sum, part)?,
                (Some(sum), false) => n.add(sum, part)?,
            });
        }
    }
    let samples = sum.ok_or_else(|| Error::malformed("no samples"))?;
    // Samples outside of the image are zero, those beyond a region's count are none.
    let row_inside = lined(n, rows[4])?;
    let row_inside = n.expand_dims(row_inside, &[2, 3])?;
    let column_inside = lined(n, columns[4])?;
    let column_inside = n.expand_dims(column_inside, &[1, 3])?;
    let inside = n.and(row_inside, column_inside)?;
    let mut samples = n.select(inside, samples, 0.0)?;
    if let (Some(r), Some(c)) = (rows_count, columns_count) {
        let spread = |n: &mut Lowering, v: ValueId, bins: usize| {
            let sizes = [Size::Of(v, 0..1), Size::Fixed(bins), Size::Of(v, 2..3)];
            let v = n.broadcast_to(v, &sizes)?;
            lined(n, v)
        };
        let r = spread(n, r, height)?;
        let r = n.expand_dims(r, &[2, 3])?;
        let c = spread(n, c, width)?;
        let c = n.expand_dims(c, &[1, 3])?;
        let counted = n.and(r, c)?;
        samples = n.select(counted, samples, if largest { f64::NEG_INFINITY } else { 0.0 })?;
    }
    // [regions, rows · s, columns · t, channels]: reduce the samples of a bin, first of the columns, then of the rows.
    let mut y = samples;
    for (axis, bins, per) in [(2, width, per_column), (1, height, per_row)] {
        let mut sizes = n.sizes_of(y)?;
        sizes[axis] = Size::Fixed(bins);
        // The samples of a bin become a dimension of their own, in place of one that is merged.
        let all = n.shape(&[Size::Of(y, axis..axis + 1)])?;
        let each = n.floor_div(all, bins as f64)?;
        // The regions, or their rows, of which there may be none.
        let lead = n.int_vector(&[-1]);
        let tail = n.shape(&[Size::Of(y, axis + 1..4)])?;
        let bins_part = n.int_vector(&[bins as i32]);
        let shape = n.concat(vec![lead, bins_part, each, tail], 0)?;
        let split = n.reshape_by(y, shape)?;
        let kind = if largest { ReduceMax } else { ReduceSum };
        let reduced = n.reduce(kind, split, &[2], false)?;
        y = n.reshape_to(reduced, &sizes)?;
        if !largest {
            let per = match n.rank(per)? {
                0 => per,
                _ => {
                    let per = n.reshape(per, &[-1])?;
                    n.expand_dims(per, &[1, 2, 3])?
                }
            };
            let per = n.cast(per, dtype)?;
            y = n.div(y, per)?;
        }
    }
    let y = n.transpose(y, &[0, 3, 1, 2])?;
    one(y, x.elem)
}

/// The largest element of each bin of each region; 0 for bins that have none. Regions are an image's number and two corners,
/// which are rounded to elements and included.
pub(super) fn max_roi_pool(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (x, rois) = (n.need(0)?, n.need(1)?);
    let bins = n.ints("pooled_shape")?.unwrap_or_default().to_vec();
    let bins: Vec<i32> = bins.into_iter().filter_map(|b| i32::try_from(b).ok()).filter(|&b| b > 0).collect();
    if bins.len() != 2 || n.rank(x.id)? != 4 || n.rank(rois.id)? != 2 {
        return Err(Error::malformed("regions of other things than images"));
    }
    let scale = f64::from(n.float_or("spatial_scale", 1.0)?);
    let rois = n.float_of(rois.id)?;
    let image = n.take_one(rois, 1, 0)?;
    let image = n.cast(image, DType::Int32)?;
    let mut y = n.gather(x.id, image, 0)?;
    for (axis, bins) in [(2, bins[0]), (3, bins[1])] {
        let corner = |n: &mut Lowering, at: i32| -> Result<ValueId> {
            let scaled = n.take_one(rois, 1, at)?;
            let scaled = n.mul(scaled, scale)?;
            // Halves go away from zero.
            let (sign, size) = (n.un(Sign, scaled)?, n.un(Abs, scaled)?);
            let size = n.add(size, 0.5)?;
            let size = n.un(Floor, size)?;
            n.mul(size, sign)
        };
        let at = 4 - axis as i32;
        let (start, end) = (corner(n, at)?, corner(n, at + 2)?);
        let extent = n.sub(end, start)?;
        let extent = n.add(extent, 1.0)?;
        let extent = n.max(extent, 1.0)?;
        let bin = n.div(extent, f64::from(bins))?;
        let places = n.range_to(&Size::Of(x.id, axis..axis + 1))?;
        let places = n.float_of(places)?;
        let around: Vec<i32> = (1..4).filter(|&d| d != axis as i32).collect();
        let mut parts = Vec::with_capacity(bins as usize);
        for b in 0..bins {
            let edge = |n: &mut Lowering, b: i32, kind| -> Result<ValueId> {
                let edge = n.mul(bin, f64::from(b))?;
                let edge = n.un(kind, edge)?;
                let edge = n.add(edge, start)?;
                n.expand_dims(edge, &[1])
            };
            let (low, high) = (edge(n, b, Floor)?, edge(n, b + 1, Ceil)?);
            let (after, before) = (n.greater_equal(places, low)?, n.less(places, high)?);
            let inside = n.and(after, before)?;
            let inside = n.expand_dims(inside, &around)?;
            let part = n.select(inside, y, f64::NEG_INFINITY)?;
            parts.push(n.reduce(ReduceMax, part, &[axis], true)?);
        }
        y = n.concat(parts, axis)?;
    }
    let empty = n.equal(y, f64::NEG_INFINITY)?;
    let y = n.select(empty, 0.0, y)?;
    cast::finish(n, y, x.elem)
}
