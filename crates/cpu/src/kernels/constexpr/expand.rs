//! Helpers that expand compressed constants in parallel: unpacking, block-wise scaling and lookup.

use half::f16;
use milwright_mil::ops::InferError;
use milwright_mil::{DType, unpack_bits};

use crate::index::{Walk, count, strides};
use crate::{KernelError, Pool, View, ViewMut};

/// The number of elements in a task: a multiple of 8, so that packed elements start at a whole byte.
const CHUNK: usize = 1 << 15;

/// Returns the elements of an integer tensor of at most 8 bits, one in each byte, not sign-extended.
pub(super) fn unpacked(x: View<'_>, pool: &Pool) -> Vec<u8> {
    unpack(x.bytes(), x.dtype().bits(), x.elements(), pool)
}

/// Unpacks `count` elements of `bits` bits, least significant bit first, into one byte each.
pub(super) fn unpack(packed: &[u8], bits: usize, count: usize, pool: &Pool) -> Vec<u8> {
    let mut out = vec![0; count];
    pool.for_each_chunk(&mut out, CHUNK, |i, out| {
        let packed = &packed[i * CHUNK / 8 * bits..];
        match bits {
            8 => out.copy_from_slice(&packed[..out.len()]),
            4 => {
                for (pair, &byte) in out.chunks_mut(2).zip(packed) {
                    pair[0] = byte & 15;
                    if let Some(high) = pair.get_mut(1) {
                        *high = byte >> 4;
                    }
                }
            }
            bits => out.copy_from_slice(&unpack_bits(packed, bits, out.len())),
        }
    });
    out
}

/// Returns every element as a float. Accepts integers of at most 8 bits, fp16 and fp32.
pub(super) fn floats(x: View<'_>, pool: &Pool) -> Result<Vec<f32>, KernelError> {
    let bytes = |f: fn(u8) -> f32| {
        let from = unpacked(x, pool);
        let mut out = vec![0.0; from.len()];
        pool.for_each_chunk(&mut out, CHUNK, |i, out| {
            out.iter_mut().zip(&from[i * CHUNK..]).for_each(|(o, &b)| *o = f(b));
        });
        out
    };
    Ok(match x.dtype() {
        DType::Fp32 => x.slice::<f32>().to_vec(),
        DType::Fp16 => x.slice::<f16>().iter().map(|x| x.to_f32()).collect(),
        DType::Int8 => bytes(|b| f32::from(b as i8)),
        DType::Int4 => bytes(|b| f32::from((b << 4) as i8 >> 4)),
        DType::UInt8 | DType::UInt6 | DType::UInt4 | DType::UInt3 | DType::UInt2 | DType::UInt1 => {
            bytes(f32::from)
        }
        other => return Err(KernelError::unsupported(format!("data of type {other}"))),
    })
}

/// Returns the walk that gives for each element of the data the block (scale, or lookup table) that covers it. The
/// sizes of `blocks` divide those of `data`.
pub(super) fn block_walk(data: &[usize], blocks: &[usize]) -> Walk {
    let (mut sizes, mut steps) = (Vec::new(), Vec::new());
    for ((&n, &b), &s) in data.iter().zip(blocks).zip(&strides(blocks)) {
        sizes.extend([b, n / b.max(1)]);
        steps.extend([s as isize, 0]);
    }
    Walk::new(&sizes, steps, 0)
}

/// The scales and offsets of blocks of data.
pub(super) struct Scaling {
    pub walk: Walk,
    pub scale: Vec<f32>,
    pub offset: Option<Vec<f32>>,
    /// Whether data minus offset is rounded to fp16 before it is scaled, as the reference does.
    pub half: bool,
}

impl Scaling {
    /// Writes scale · (data - offset), rounded to the output's element type.
    pub(super) fn apply(&self, data: &[f32], out: &mut ViewMut<'_>, pool: &Pool) {
        match out.dtype() {
            DType::Fp16 => {
                let out = out.slice::<f16>();
                pool.for_each_chunk(out, CHUNK, |i, out| self.run(data, i * CHUNK, out, f16::from_f32));
            }
            _ => {
                let out = out.slice::<f32>();
                pool.for_each_chunk(out, CHUNK, |i, out| self.run(data, i * CHUNK, out, |x| x));
            }
        }
    }

    /// Writes one chunk, which starts at element `start` of the data.
    fn run<T>(&self, data: &[f32], start: usize, out: &mut [T], round: impl Fn(f32) -> T) {
        let shift = |x: f32, o: usize| match &self.offset {
            Some(offset) if self.half => f16::from_f32(x - offset[o]).to_f32(),
            Some(offset) => x - offset[o],
            None => x,
        };
        self.walk.runs(start, out.len(), |at, offset, stride, n| {
            let data = &data[start + at..start + at + n];
            let out = &mut out[at..at + n];
            for (i, (o, &x)) in out.iter_mut().zip(data).enumerate() {
                let block = (offset as isize + i as isize * stride) as usize;
                *o = round(self.scale[block] * shift(x, block));
            }
        });
    }
}

/// The lookup tables of blocks of indices.
pub(super) struct Tables {
    /// For each index, which table it looks up.
    pub walk: Walk,
    pub entries: usize,
    /// The number of elements in an entry. Each element has `width` bytes.
    pub vector: usize,
    pub width: usize,
    /// The number of consecutive indices with the same position along the axis that the elements of an entry lie along.
    pub inner: usize,
}

impl Tables {
    pub(super) fn new(indices: &[usize], lut: View<'_>, axis: Option<usize>) -> Result<Tables, KernelError> {
        let rank = indices.len();
        let shape = lut.shape();
        let (blocks, rest) = shape.split_at(rank);
        let (&[entries, vector], true) = (rest, lut.dtype().bits() >= 8) else {
            return Err(InferError("`lut` needs two dimensions more than the indices".into()).into());
        };
        let inner = axis.map_or(1, |a| count(&indices[a + 1..]));
        let width = lut.dtype().bits() / 8;
        Ok(Tables { walk: block_walk(indices, blocks), entries, vector, width, inner })
    }

    /// Writes the entry of each index. The caller must have checked that each index is less than the number of entries.
    pub(super) fn apply(&self, lut: &[u8], indices: &[u8], out: &mut [u8], pool: &Pool) {
        let (entry, width) = (self.vector * self.width, self.width);
        let table = self.entries * entry;
        // A chunk covers whole positions along the axis, so that its output is contiguous.
        let places = (CHUNK / self.inner.max(1)).max(1);
        let step = places * self.inner;
        pool.for_each_chunk(out, (step * entry).max(1), |c, out| {
            let start = c * step;
            let n = out.len() / entry.max(1);
            self.walk.runs(start, n, |at, offset, stride, n| {
                for i in 0..n {
                    let position = at + i;
                    let block = (offset as isize + i as isize * stride) as usize;
                    let from =
                        &lut[block * table + usize::from(indices[start + position]) * entry..][..entry];
                    // In the output: position up to the axis, element of the entry, position inside.
                    let (place, inside) = (position / self.inner, position % self.inner);
                    for (v, element) in from.chunks_exact(width).enumerate() {
                        let to = ((place * self.vector + v) * self.inner + inside) * width;
                        out[to..to + width].copy_from_slice(element);
                    }
                }
            });
        });
    }
}

/// Writes the elements, each of `width` bytes, in order to the places where the mask is not zero, and zeros elsewhere.
///
/// # Errors
/// The number of ones in the mask differs from the number of elements.
pub(super) fn scatter(mask: &[u8], elements: &[u8], width: usize, out: &mut [u8]) -> Result<(), KernelError> {
    let mut left = elements.chunks_exact(width);
    let mismatch = || {
        let ones = mask.iter().filter(|&&m| m != 0).count();
        KernelError::invalid(format!("the mask has {ones} ones for {} elements", elements.len() / width))
    };
    for (to, &m) in out.chunks_exact_mut(width).zip(mask) {
        if m == 0 {
            to.fill(0);
        } else {
            to.copy_from_slice(left.next().ok_or_else(mismatch)?);
        }
    }
    if left.next().is_some() { Err(mismatch()) } else { Ok(()) }
}

/// Writes those elements, each of `width` bytes, for which the mask is not zero, in order.
pub(super) fn select(mask: &[u8], elements: &[u8], width: usize, out: &mut [u8]) {
    let ones = elements.chunks_exact(width).zip(mask).filter(|(_, m)| **m != 0);
    out.chunks_exact_mut(width).zip(ones).for_each(|(to, (from, _))| to.copy_from_slice(from));
}
