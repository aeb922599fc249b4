//! What expanding compressed constants shares: unpacking, block-wise scaling and lookup, in parallel.

use half::f16;
use milwright_mil::ops::InferError;
use milwright_mil::{DType, unpack_bits};

use crate::index::{Walk, count, strides};
use crate::{KernelError, Pool, View, ViewMut};

/// Elements that a thread takes at a time: a multiple of 8, so that packed elements begin at a byte.
const CHUNK: usize = 1 << 15;

/// The elements of an integer tensor of at most 8 bits, one to a byte, not sign-extended.
pub(super) fn unpacked(x: View<'_>, pool: &Pool) -> Vec<u8> {
    unpack(x.bytes(), x.dtype().bits(), x.elements(), pool)
}

/// `count` elements of `bits` bits, packed least significant bit first, one to a byte.
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

/// Every element as a float: integers of at most 8 bits, fp16 and fp32.
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

/// The walk over a tensor of blocks (scales, or lookup tables) in the order of the data that they cover. The sizes
/// of `blocks` divide those of `data`.
pub(super) fn block_walk(data: &[usize], blocks: &[usize]) -> Walk {
    let (mut sizes, mut steps) = (Vec::new(), Vec::new());
    for ((&n, &b), &s) in data.iter().zip(blocks).zip(&strides(blocks)) {
        sizes.extend([b, n / b.max(1)]);
        steps.extend([s as isize, 0]);
    }
    Walk::new(&sizes, steps, 0)
}

/// A scale and offset for blocks of data.
pub(super) struct Scaling {
    pub walk: Walk,
    pub scale: Vec<f32>,
    pub offset: Option<Vec<f32>>,
    /// Whether the difference of data and offset is rounded to fp16 before it is scaled, as the reference does.
    pub half: bool,
}

impl Scaling {
    /// Writes scale · (data - offset), rounded to the type of the output.
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

    /// Writes one chunk, which begins at an element of the data.
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

/// Lookup tables for blocks of indices.
pub(super) struct Tables {
    /// From an index to its table.
    pub walk: Walk,
    pub entries: usize,
    /// Elements of an entry, of which each is `width` bytes.
    pub vector: usize,
    pub width: usize,
    /// How many indices follow each other inside one place along the axis that entries are laid along.
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

    /// Writes the entry of each index. The caller has checked that indices are below the number of entries.
    pub(super) fn apply(&self, lut: &[u8], indices: &[u8], out: &mut [u8], pool: &Pool) {
        let (entry, width) = (self.vector * self.width, self.width);
        let table = self.entries * entry;
        // Whole places along the axis, so that what a chunk writes is consecutive.
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
                    // (place, element, inside) in the output.
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

/// Writes elements of `width` bytes, in order, where the mask is not zero, and zeros elsewhere.
///
/// # Errors
/// The mask has another number of ones than there are elements.
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

/// Writes the elements of `width` bytes where the mask is not zero, in order.
pub(super) fn select(mask: &[u8], elements: &[u8], width: usize, out: &mut [u8]) {
    let ones = elements.chunks_exact(width).zip(mask).filter(|(_, m)| **m != 0);
    out.chunks_exact_mut(width).zip(ones).for_each(|(to, (from, _))| to.copy_from_slice(from));
}
