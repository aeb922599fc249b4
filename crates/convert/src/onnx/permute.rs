//! Axes that only a run knows.
//!
//! MIL wants axes as constants. Where a model computes them, the elements are brought into an order that a constant axis
//! can serve: kept dimensions first, the named ones last, by gathering from the flat tensor.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use crate::lower::{Lowering, Result, op};

/// Axes of a value, which the model computes.
pub(super) struct RunAxes {
    /// For each dimension whether it is named, as int32.
    pub named: ValueId,
    /// The shape of the value.
    pub shape: ValueId,
    /// The dimensions, those that are not named first.
    pub order: ValueId,
    pub rank: usize,
}

impl RunAxes {
    /// `axes` is a vector or scalar; negative axes count from the end.
    pub fn new(n: &mut Lowering, x: ValueId, axes: ValueId) -> Result<RunAxes> {
        let rank = n.rank(x)?;
        let sizes = n.sizes_of(x)?;
        let shape = n.shape(&sizes)?;
        let named = named(n, axes, rank)?;
        // Sorting is stable: within both groups the order stays.
        let order = op!(n, Argsort, x = named, axis = 0, ascending = true)?;
        Ok(RunAxes { named, shape, order, rank })
    }

    /// The elements as a matrix: a row for each place in the dimensions that are not named.
    pub fn rows(&self, n: &mut Lowering, x: ValueId) -> Result<ValueId> {
        let places = self.places(n)?;
        let flat = n.reshape(x, &[-1])?;
        let flat = n.gather(flat, places, 0)?;
        let columns = self.count(n, true)?;
        let rows = self.count(n, false)?;
        let shape = n.concat(vec![rows, columns], 0)?;
        n.reshape_by(flat, shape)
    }

    /// Brings a matrix of rows back to the order and shape of the value.
    pub fn restore(&self, n: &mut Lowering, rows: ValueId) -> Result<ValueId> {
        let places = self.places(n)?;
        let back = op!(n, Argsort, x = places, axis = 0, ascending = true)?;
        let flat = n.reshape(rows, &[-1])?;
        let flat = n.gather(flat, back, 0)?;
        n.reshape_by(flat, self.shape)
    }

    /// The number of elements of the named dimensions, or of the others, as a vector of one element.
    fn count(&self, n: &mut Lowering, of_named: bool) -> Result<ValueId> {
        let hit = n.equal(self.named, if of_named { 1.0 } else { 0.0 })?;
        let sizes = n.select(hit, self.shape, 1.0)?;
        n.reduce(ReduceProd, sizes, &[0], true)
    }

    /// For each element in the new order its place in the old one.
    fn places(&self, n: &mut Lowering) -> Result<ValueId> {
        let rank = self.rank;
        let old = strides(n, self.shape, rank)?;
        let sizes = n.gather(self.shape, self.order, 0)?;
        let old = n.gather(old, self.order, 0)?;
        let new = strides(n, sizes, rank)?;
        let total = n.reduce(ReduceProd, self.shape, &[0], false)?;
        let all = n.range(total)?;
        let all = n.expand_dims(all, &[1])?;
        let digits = n.floor_div(all, new)?;
        let digits = n.modulo(digits, sizes)?;
        let parts = n.mul(digits, old)?;
        n.sum(parts, &[1], false)
    }

    /// The shape after a reduction of `count` named dimensions, which stay with size 1 or go.
    pub fn reduced_shape(&self, n: &mut Lowering, count: usize, keep: bool) -> Result<ValueId> {
        if keep {
            let hit = n.equal(self.named, 1.0)?;
            return n.select(hit, 1.0, self.shape);
        }
        let kept = n.cut(self.order, 0, 0, Some((self.rank - count) as i32))?;
        n.gather(self.shape, kept, 0)
    }
}

/// For each of `rank` dimensions whether computed axes name it, as int32.
pub(super) fn named(n: &mut Lowering, axes: ValueId, rank: usize) -> Result<ValueId> {
    let axes = n.as_vector(axes)?;
    let axes = n.modulo(axes, rank as f64)?;
    let axes = n.expand_dims(axes, &[1])?;
    let all: Vec<i32> = (0..rank as i32).collect();
    let all = n.int_vector(&all);
    let hits = n.equal(axes, all)?;
    let hits = n.cast(hits, DType::Int32)?;
    let hits = n.sum(hits, &[0], false)?;
    n.min(hits, 1.0)
}

/// The number of elements from one index to the next, for each dimension.
fn strides(n: &mut Lowering, shape: ValueId, rank: usize) -> Result<ValueId> {
    let mut parts = Vec::with_capacity(rank);
    let mut stride = n.int_vector(&[1]);
    for d in (0..rank).rev() {
        parts.push(stride);
        if d > 0 {
            let size = n.cut(shape, 0, d as i32, Some(d as i32 + 1))?;
            // A size of 0 leaves no element whose place would be asked for, but the division must not be by 0.
            let size = n.max(size, 1.0)?;
            stride = n.mul(stride, size)?;
        }
    }
    parts.reverse();
    n.concat(parts, 0)
}

/// The shape with size-1 dimensions inserted at computed axes of the result, which has `rank` dimensions.
pub(super) fn unsqueezed_shape(n: &mut Lowering, x: ValueId, axes: ValueId, rank: usize) -> Result<ValueId> {
    let sizes = n.sizes_of(x)?;
    let shape = n.shape(&sizes)?;
    let one = n.int_vector(&[1]);
    // With a 1 before the shape, an inserted dimension reads element 0.
    let padded = n.concat(vec![one, shape], 0)?;
    let named = named(n, axes, rank)?;
    let kept = n.sub(1.0, named)?;
    let counted = op!(n, Cumsum, x = kept, axis = 0)?;
    let place = n.mul(counted, kept)?;
    n.gather(padded, place, 0)
}

/// The shape without `count` dimensions at computed axes.
pub(super) fn squeezed_shape(n: &mut Lowering, x: ValueId, axes: ValueId, count: usize) -> Result<ValueId> {
    let run = RunAxes::new(n, x, axes)?;
    run.reduced_shape(n, count, false)
}

/// The only number of a known vector's sizes: how many axes there are.
pub(super) fn axis_count(n: &Lowering, axes: ValueId) -> Result<usize> {
    match n.rank(axes)? {
        0 => Ok(1),
        _ => n.size(axes, 0),
    }
}
