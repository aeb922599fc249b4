//! Helpers for ops that only move elements: copies in the order of a walk, and outputs with data-dependent shapes.

use milwright_mil::ops::{InferError, Operand};
use milwright_mil::{DType, Tensor, TensorType};

use crate::index::{Walk, count, strides};
use crate::kernel::concrete;
use crate::{KernelError, Memory, Pool, Prepared, View, ViewMut};

/// The fewest elements for which a hand-over to another thread pays.
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

/// Makes a step that copies the tensor in a slot in the order of a walk.
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

/// The last two dimensions of a walk that transposes matrices: rows have stride 1, columns another stride.
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
        // A block of rows of one matrix is a contiguous piece of the output.
        let rows_at_once = if to.len() <= LEAST { self.rows } else { Plane::BLOCK.min(self.rows) };
        let pieces = self.rows.div_ceil(rows_at_once);
        let matrix = self.rows * self.columns;
        if !self.rows.is_multiple_of(rows_at_once) {
            // Blocks of rows would not align with chunks: each chunk is a whole matrix.
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

    /// Transposes `rows` rows, block by block.
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

/// Returns the walk over `shape` with these strides from `offset` on.
pub(crate) fn walk(shape: &[usize], strides: &[usize], offset: usize) -> Walk {
    Walk::new(shape, strides.iter().map(|&s| s as isize), offset as isize)
}

/// Prepares an op with one output, whose shape may depend on data. `fill` writes the output; `shape` computes its shape
/// if it is not known at compile time.
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

/// Makes a tensor of a data-dependent shape.
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

/// Makes an op's result an alias: its input in another shape.
pub(crate) fn alias(slot: usize, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
    concrete(&outputs[0])?;
    Ok(Prepared::Alias(slot))
}

/// Returns the element that a parameter gives, or `default`, as bytes of the output's element type.
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

/// Reads the integers in a slot, such as indices or sizes.
pub(crate) fn ints(inputs: &[View<'_>], slot: usize) -> Result<Vec<i64>, KernelError> {
    inputs[slot].to_i64().ok_or_else(|| KernelError::invalid("an input that takes integers has others"))
}

/// Splits a shape at a dimension: the tensor is `outer` × `n` × `inner`.
pub(crate) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (count(&shape[..axis]), shape[axis], count(&shape[axis + 1..]))
}

/// Prepares an op that moves blocks between channels and space. It walks over `x` in the output's order; `sizes` and
/// `steps` are the sizes and strides of the output's dimensions, split at the edges of blocks.
pub(crate) fn blocks(slot: usize, sizes: &[usize], steps: &[usize]) -> Prepared {
    walk_step(slot, walk(sizes, steps, 0))
}

/// The strides of [n, c, h, w].
pub(crate) fn strides4(shape: &[usize]) -> [usize; 4] {
    let s = strides(shape);
    [s[0], s[1], s[2], s[3]]
}
