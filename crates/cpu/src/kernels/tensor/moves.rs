//! What ops that only move elements share: copies in the order of a walk, and outputs whose shape shows when they run.

use milwright_mil::ops::{InferError, Operand};
use milwright_mil::{DType, Tensor, TensorType};

use crate::index::{Walk, count, strides};
use crate::kernel::concrete;
use crate::{KernelError, Memory, Pool, Prepared, View, ViewMut};

/// The least elements that are worth a hand-over to another thread.
const LEAST: usize = 1 << 15;

/// Calls a function that is generic over the width of elements: `by_width!(dtype, f(arguments))`.
macro_rules! by_width {
    ($dtype:expr, $f:ident($($arg:expr),* $(,)?)) => {
        match $dtype.bits() {
            8 => $f::<u8>($($arg),*),
            16 => $f::<u16>($($arg),*),
            32 => $f::<u32>($($arg),*),
            64 => $f::<u64>($($arg),*),
            _ => return Err($crate::KernelError::unsupported(format!("elements of type {}", $dtype))),
        }
    };
}
pub(crate) use by_width;

/// A step that copies the tensor in a slot in the order of a walk.
pub(crate) fn walk_step(slot: usize, walk: Walk) -> Prepared {
    Prepared::step(move |run| copy(&walk, run.inputs[slot], &mut run.outputs[0], run.pool))
}

/// Copies elements in the order of a walk.
pub(crate) fn copy(
    walk: &Walk,
    from: View<'_>,
    to: &mut ViewMut<'_>,
    pool: &Pool,
) -> Result<(), KernelError> {
    by_width!(from.dtype(), copy_words(walk, from, to, pool));
    Ok(())
}

fn copy_words<T: bytemuck::Pod + Send + Sync>(
    walk: &Walk,
    from: View<'_>,
    to: &mut ViewMut<'_>,
    pool: &Pool,
) {
    let (from, to) = (from.words::<T>(), to.words::<T>());
    if let Some(plane) = Plane::of(walk.dims()) {
        plane.transpose(walk, from, to, pool);
        return;
    }
    let chunk = pool.chunk(to.len(), 1, LEAST);
    pool.for_each_chunk(to, chunk, |i, out| walk.gather(from, i * chunk, out));
}

/// The last two dimensions of a walk, where they are a transposed matrix: rows with stride 1, columns with another.
struct Plane {
    rows: usize,
    columns: usize,
    stride: usize,
}

impl Plane {
    /// The edge of the blocks in which matrices are transposed: a few cache lines of 4-byte elements.
    const BLOCK: usize = 16;

    fn of(dims: &[(usize, isize)]) -> Option<Plane> {
        match *dims {
            [.., (rows, 1), (columns, s)] if s > 1 && rows >= 4 && columns >= 4 => {
                Some(Plane { rows, columns, stride: s as usize })
            }
            _ => None,
        }
    }

    fn transpose<T: Copy + Send + Sync>(&self, walk: &Walk, from: &[T], to: &mut [T], pool: &Pool) {
        // Each block of rows of each matrix is a consecutive piece of the output.
        let rows_at_once = if to.len() <= LEAST { self.rows } else { Plane::BLOCK.min(self.rows) };
        let pieces = self.rows.div_ceil(rows_at_once);
        let matrix = self.rows * self.columns;
        if !self.rows.is_multiple_of(rows_at_once) {
            // Pieces would not line up with chunks: one matrix is a chunk.
            pool.for_each_chunk(to, matrix, |m, out| {
                self.block(&from[walk.offset_at(m * matrix)..], self.rows, out);
            });
            return;
        }
        pool.for_each_chunk(to, rows_at_once * self.columns, |i, out| {
            let base = walk.offset_at(i / pieces * matrix) + i % pieces * rows_at_once;
            self.block(&from[base..], rows_at_once, out);
        });
    }

    /// Transposes `rows` rows.
    fn block<T: Copy>(&self, from: &[T], rows: usize, out: &mut [T]) {
        for r0 in (0..rows).step_by(Plane::BLOCK) {
            let r1 = (r0 + Plane::BLOCK).min(rows);
            for c0 in (0..self.columns).step_by(Plane::BLOCK) {
                let c1 = (c0 + Plane::BLOCK).min(self.columns);
                for r in r0..r1 {
                    let line = &mut out[r * self.columns + c0..r * self.columns + c1];
                    for (i, o) in line.iter_mut().enumerate() {
                        *o = from[(c0 + i) * self.stride + r];
                    }
                }
            }
        }
    }
}

/// How a tensor of one shape is walked through strides given per dimension of another.
pub(crate) fn walk(shape: &[usize], strides: &[usize], offset: usize) -> Walk {
    Walk::new(shape, strides.iter().map(|&s| s as isize), offset as isize)
}

/// Prepares an op with one output, whose shape may show only when it runs: `fill` writes the output, and `shape`
/// finds its shape where it is not known yet.
pub(crate) fn produce(
    outputs: &[TensorType],
    shape: impl Fn(&[View<'_>]) -> Result<Vec<usize>, KernelError> + Send + Sync + 'static,
    fill: impl Fn(&[View<'_>], &mut ViewMut<'_>, &Pool) -> Result<(), KernelError> + Send + Sync + 'static,
) -> Result<Prepared, KernelError> {
    let dtype = outputs[0].dtype;
    if outputs[0].fixed_shape().is_some() {
        return Ok(Prepared::step(move |run| fill(run.inputs, &mut run.outputs[0], run.pool)));
    }
    Ok(Prepared::dynamic(move |inputs, pool, memory| {
        let tensor = make(memory, dtype, &shape(inputs)?, |out| fill(inputs, out, pool))?;
        Ok(vec![tensor])
    }))
}

/// Makes a tensor of a shape that depends on data.
pub(crate) fn make(
    memory: &Memory,
    dtype: DType,
    shape: &[usize],
    fill: impl FnOnce(&mut ViewMut<'_>) -> Result<(), KernelError>,
) -> Result<Tensor, KernelError> {
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let bytes = elements.and_then(|n| dtype.byte_len(n));
    let bytes =
        bytes.ok_or_else(|| KernelError::Memory(format!("a result of shape {shape:?} is too large")))?;
    let mut data = memory.zeroed(bytes)?;
    fill(&mut ViewMut::new(dtype, shape, data.as_mut()))?;
    Tensor::from_bytes(dtype, shape, data.into()).map_err(|e| KernelError::invalid(e.to_string()))
}

/// A result that is its input in another shape.
pub(crate) fn alias(slot: usize, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
    concrete(&outputs[0])?;
    Ok(Prepared::Alias(slot))
}

/// The element that a parameter gives, or the default, as bytes of the output's type.
pub(crate) fn element(given: Option<Operand<'_>>, dtype: DType, default: u8) -> Result<Vec<u8>, KernelError> {
    if let Some(given) = given {
        let wrong = |what: &str| InferError(format!("input `{}` must be {what}", given.name));
        let value = given.value().ok_or_else(|| wrong("known before the run"))?;
        if value.dtype() != dtype || value.elements() != 1 {
            return Err(wrong(&format!("one element of type {dtype}")).into());
        }
        return Ok(value.bytes().to_vec());
    }
    let x = f32::from(default);
    Ok(match dtype {
        DType::Fp16 => half::f16::from_f32(x).to_le_bytes().to_vec(),
        DType::Fp32 => x.to_le_bytes().to_vec(),
        _ => {
            let mut bytes = vec![0; dtype.bits() / 8];
            if let Some(low) = bytes.first_mut() {
                *low = default;
            }
            bytes
        }
    })
}

/// Fills a tensor with one element.
pub(crate) fn fill(out: &mut ViewMut<'_>, element: &[u8]) {
    if element.iter().all(|&b| b == 0) {
        out.bytes().fill(0);
    } else {
        out.bytes().chunks_exact_mut(element.len()).for_each(|o| o.copy_from_slice(element));
    }
}

/// The integers in a slot, such as indices or sizes.
pub(crate) fn ints(inputs: &[View<'_>], slot: usize) -> Result<Vec<i64>, KernelError> {
    inputs[slot].to_i64().ok_or_else(|| KernelError::invalid("an input that takes integers has others"))
}

/// Rows, size and stride of a dimension: a tensor is `outer` × `n` × `inner`.
pub(crate) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (count(&shape[..axis]), shape[axis], count(&shape[axis + 1..]))
}

/// Moves blocks between channels and space: the walk over `x` of an output whose dimensions, with blocks split off,
/// have these sizes and strides.
pub(crate) fn blocks(slot: usize, sizes: &[usize], steps: &[usize]) -> Prepared {
    walk_step(slot, walk(sizes, steps, 0))
}

/// The strides of [n, c, h, w].
pub(crate) fn strides4(shape: &[usize]) -> [usize; 4] {
    let s = strides(shape);
    [s[0], s[1], s[2], s[3]]
}
