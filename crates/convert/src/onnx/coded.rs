//! Quantized constants, which stay as small as they are stored: codes with scales and zero points.
//!
//! A program keeps them as a `constexpr` op, if its opset has one for them:
//!
//! | codes | scales | op |
//! |---|---|---|
//! | 8 bits | one, or one for each index of a dimension | `constexpr_affine_dequantize`, from iOS16 on |
//! | 4 and 8 bits | blocks | `constexpr_blockwise_shift_scale`, from iOS18 on |
//! | 2 bits, 4-bit and 8-bit floats | one | `constexpr_lut_to_dense`, from iOS16 on |
//! | the same | others | `constexpr_lut_to_dense` and `constexpr_blockwise_shift_scale`, from iOS18 on |
//!
//! All others are computed at import, as are constants so small that an op would not pay.

use std::rc::Rc;

use bytes::Bytes;
use half::f16;
use milwright_mil::{DType, Opset, Tensor, ValueId, pack_bits, unpack_bits};

use super::elem::Elem;
use super::graph::Importer;
use super::node::Node;
use super::stored::{Stored, small_float};
use crate::Error;
use crate::lower::{Result, normalize, op, tensor_of};

/// Constants of fewer elements become plain numbers, as do vectors, which are biases and the like.
const WORTH: usize = 512;

/// A quantized constant: each element is (code - zero point) · scale.
#[derive(Clone, Debug)]
pub(super) struct Coded {
    /// The type of the codes.
    elem: Elem,
    /// The codes, as `Stored` has them.
    data: Tensor,
    /// As many sizes as the codes have: 1, the number of blocks, or that of the codes.
    shape: Vec<usize>,
    /// The size of a block along each dimension.
    block: Vec<usize>,
    scale: Vec<f64>,
    /// As many as scales, or none, which means 0.
    zero: Vec<f64>,
    /// The type of the elements: fp32 or fp16.
    dtype: DType,
    /// What each code stands for, if that is not the number that it is.
    table: Option<Rc<[f32]>>,
}

/// Scales and zero points as ONNX states them: scalars, vectors along an axis, or blocks along it.
pub(super) struct Scales {
    pub shape: Vec<usize>,
    pub scale: Vec<f64>,
    pub zero: Vec<f64>,
    pub axis: i64,
    /// The size of a block; 0 if there are none.
    pub block: usize,
    pub dtype: DType,
}

impl Coded {
    /// Codes with their scales; `None` if the scales do not fit the codes.
    pub fn new(stored: &Stored, scales: Scales) -> Result<Option<Coded>> {
        let sizes = stored.tensor.shape().to_vec();
        let rank = sizes.len();
        let count: usize = scales.shape.iter().product();
        let fits = scales.scale.len() == count && (scales.zero.is_empty() || scales.zero.len() == count);
        if !fits || stored.tensor.elements() == 0 {
            return Ok(None);
        }
        let (mut shape, mut block) = (vec![1; rank], sizes.clone());
        if count != 1 {
            let axis = if scales.axis == 1 && rank == 1 { 0 } else { normalize(scales.axis, rank)? };
            match (scales.shape.len(), scales.block) {
                (1, 0) if count == sizes[axis] => {
                    (shape[axis], block[axis]) = (count, 1);
                }
                (r, size) if r == rank => {
                    for d in 0..rank {
                        let own =
                            if d == axis && size > 0 { size } else { sizes[d].div_ceil(scales.shape[d]) };
                        if sizes[d].div_ceil(own) != scales.shape[d] {
                            return Ok(None);
                        }
                        (shape[d], block[d]) = (scales.shape[d], own);
                    }
                }
                _ => return Ok(None),
            }
        }
        let Scales { scale, zero, dtype, .. } = scales;
        Ok(Some(Coded {
            elem: stored.elem,
            data: stored.tensor.clone(),
            shape,
            block,
            scale,
            zero,
            dtype,
            table: None,
        }))
    }

    /// The sizes of the dimensions.
    pub fn sizes(&self) -> &[usize] {
        self.data.shape()
    }

    /// The constant as a value of the program.
    pub fn value(self, n: &mut Importer<'_>) -> Result<ValueId> {
        let large = self.data.elements() >= WORTH && self.sizes().len() > 1;
        if large && let Some(value) = self.compressed(n)? {
            n.coded.insert(value, Rc::new(self));
            return Ok(value);
        }
        let dense = self.dense()?;
        Ok(n.constant(dense))
    }

    /// The matrix with its dimensions exchanged.
    pub fn transposed(&self) -> Result<Coded> {
        let &[rows, columns] = self.sizes() else { return Err(Error::malformed("not a matrix")) };
        let bits = self.data.dtype().bits();
        let turn = |values: &[u8], size: usize| -> Vec<u8> {
            let mut turned = Vec::with_capacity(values.len());
            for c in 0..columns {
                for r in 0..rows {
                    turned.extend_from_slice(&values[(r * columns + c) * size..][..size]);
                }
            }
            turned
        };
        let bytes = match bits {
            8.. => turn(self.data.bytes(), bits / 8),
            _ => pack_bits(&turn(&unpack_bits(self.data.bytes(), bits, rows * columns), 1), bits),
        };
        let swapped = |values: &[f64]| -> Vec<f64> {
            let (r, c) = (self.shape[0], self.shape[1]);
            (0..values.len()).map(|i| values[i % r * c + i / r]).collect()
        };
        Ok(Coded {
            elem: self.elem,
            data: tensor(self.data.dtype(), &[columns, rows], bytes)?,
            shape: vec![self.shape[1], self.shape[0]],
            block: vec![self.block[1], self.block[0]],
            scale: swapped(&self.scale),
            zero: swapped(&self.zero),
            dtype: self.dtype,
            table: self.table.clone(),
        })
    }

    /// Part of a dimension, along which the scales must not differ. The codes have 8 bits.
    pub fn cut(&self, axis: usize, range: std::ops::Range<usize>) -> Result<Coded> {
        let sizes = self.sizes();
        if self.shape[axis] != 1 || self.data.dtype().bits() != 8 || range.end > sizes[axis] {
            return Err(Error::malformed("a part of codes with scales of their own"));
        }
        let (outer, inner): (usize, usize) =
            (sizes[..axis].iter().product(), sizes[axis + 1..].iter().product());
        let rows = self.data.bytes().chunks_exact(sizes[axis] * inner).take(outer);
        let bytes: Vec<u8> =
            rows.flat_map(|row| row[range.start * inner..range.end * inner].iter().copied()).collect();
        let mut sizes = sizes.to_vec();
        sizes[axis] = range.len();
        let mut cut = self.clone();
        cut.data = tensor(self.data.dtype(), &sizes, bytes)?;
        cut.block[axis] = range.len();
        Ok(cut)
    }

    /// The same codes, each of which stands for a number of a table.
    pub fn with_table(mut self, table: &[f32]) -> Coded {
        self.table = Some(table.into());
        self
    }

    /// All elements times a number.
    pub fn scaled(mut self, factor: f64) -> Coded {
        self.scale.iter_mut().for_each(|s| *s = f64::from((*s * factor) as f32));
        self
    }

    /// The elements.
    pub fn dense(&self) -> Result<Tensor> {
        let codes = match &self.table {
            Some(table) => {
                let codes = self.data.to_i64().unwrap_or_default();
                codes.iter().map(|&c| f64::from(table[c as usize & (table.len() - 1)])).collect()
            }
            None => Stored::new(self.elem, self.data.clone()).numbers(),
        };
        let mut values = Vec::with_capacity(codes.len());
        places(self.sizes(), &self.shape, &self.block, |i, j| {
            let zero = self.zero.get(j).copied().unwrap_or(0.0);
            values.push((codes[i] - zero) as f32 * self.scale[j] as f32);
        });
        floats(self.dtype, self.sizes(), values)
    }

    fn compressed(&self, n: &mut Importer<'_>) -> Result<Option<ValueId>> {
        let whole = self.sizes().iter().zip(&self.block).all(|(size, block)| size % block == 0);
        let own: Vec<usize> = (0..self.shape.len()).filter(|&d| self.shape[d] > 1).collect();
        match self.elem {
            Elem::Int8 | Elem::Uint8 if self.table.is_none() => {
                // One scale, or one for each index of a dimension.
                let axis = match own[..] {
                    [] => Some(0),
                    [d] if self.block[d] == 1 => Some(d),
                    _ => None,
                };
                match axis {
                    Some(axis) if n.prefers(Opset::Ios16) => self.affine(n, axis).map(Some),
                    None if whole && n.prefers(Opset::Ios18) => self.blockwise(n, None).map(Some),
                    _ => Ok(None),
                }
            }
            Elem::Int4 | Elem::Uint4 if self.table.is_none() => match whole && n.prefers(Opset::Ios18) {
                true => self.blockwise(n, None).map(Some),
                false => Ok(None),
            },
            _ => match self.table() {
                Some(table) if own.is_empty() && n.prefers(Opset::Ios16) => {
                    let zero = self.zero.first().copied().unwrap_or(0.0);
                    let scaled = table.iter().map(|&x| (x - zero as f32) * self.scale[0] as f32).collect();
                    self.looked_up(n, scaled).map(Some)
                }
                Some(table) if !own.is_empty() && whole && n.prefers(Opset::Ios18) => {
                    let data = self.looked_up(n, table)?;
                    self.blockwise(n, Some(data)).map(Some)
                }
                _ => Ok(None),
            },
        }
    }

    fn affine(&self, n: &mut Importer<'_>, axis: usize) -> Result<ValueId> {
        let shape: &[usize] = if self.scale.len() == 1 { &[] } else { &[self.scale.len()] };
        let zero = if self.zero.iter().all(|&z| z == 0.0) {
            self.whole(&[], &[0.0])?
        } else if self.zero.iter().all(|&z| self.holds(z)) {
            self.whole(shape, &self.zero)?
        } else {
            tensor_of(shape, self.zero.iter().map(|&z| z as f32).collect())?
        };
        let scale = floats(self.dtype, shape, self.scale.iter().map(|&s| s as f32).collect())?;
        op!(
            n,
            ConstexprAffineDequantize,
            quantized_data = self.data.clone(),
            zero_point = zero,
            scale = scale,
            axis = axis as i32
        )
    }

    /// Scales and zero points of blocks, over the codes or over what they stand for.
    fn blockwise(&self, n: &mut Importer<'_>, data: Option<ValueId>) -> Result<ValueId> {
        let real =
            |values: &[f64]| floats(self.dtype, &self.shape, values.iter().map(|&s| s as f32).collect());
        let scale = real(&self.scale)?;
        let offset = if self.zero.iter().all(|&z| z == 0.0) {
            None
        } else if data.is_none() && self.zero.iter().all(|&z| self.holds(z)) {
            Some(self.whole(&self.shape, &self.zero)?)
        } else {
            Some(real(&self.zero)?)
        };
        match (data, offset) {
            (None, None) => op!(n, ConstexprBlockwiseShiftScale, data = self.data.clone(), scale = scale),
            (None, Some(offset)) => {
                let data = self.data.clone();
                op!(n, ConstexprBlockwiseShiftScale, data = data, scale = scale, offset = offset)
            }
            (Some(data), None) => op!(n, ConstexprBlockwiseShiftScale, data = data, scale = scale),
            (Some(data), Some(offset)) => {
                op!(n, ConstexprBlockwiseShiftScale, data = data, scale = scale, offset = offset)
            }
        }
    }

    /// What each code stands for, for types that MIL does not compute with.
    fn table(&self) -> Option<Vec<f32>> {
        if let Some(table) = &self.table {
            return Some(table.to_vec());
        }
        Some(match self.elem {
            Elem::Uint2 => vec![0.0, 1.0, 2.0, 3.0],
            Elem::Int2 => vec![0.0, 1.0, -2.0, -1.0],
            Elem::Float4E2M1 => (0..16).map(|c| small_float(self.elem, c)).collect(),
            Elem::Float8E4M3FN | Elem::Float8E4M3FNUZ | Elem::Float8E5M2 | Elem::Float8E5M2FNUZ => {
                (0..=255).map(|c| small_float(self.elem, c)).collect()
            }
            _ => return None,
        })
    }

    fn looked_up(&self, n: &mut Importer<'_>, table: Vec<f32>) -> Result<ValueId> {
        table_lookup(n, &self.data, table, self.dtype)
    }

    /// Whether a zero point is one of the codes' type.
    fn holds(&self, zero: f64) -> bool {
        let range = self.elem.int_range().map(|(low, high)| (f64::from(low), f64::from(high)));
        zero.fract() == 0.0 && range.is_some_and(|(low, high)| (low..=high).contains(&zero))
    }

    /// Zero points in the codes' type.
    fn whole(&self, shape: &[usize], values: &[f64]) -> Result<Tensor> {
        let bytes: Vec<u8> = values.iter().map(|&z| z as i32 as u8).collect();
        let dtype = self.data.dtype();
        let bytes = if dtype.bits() < 8 { pack_bits(&bytes, dtype.bits()) } else { bytes };
        tensor(dtype, shape, bytes)
    }
}

/// Looks up codes in a table of 4, 16 or 256 numbers. Codes of 2 bits may be whole bytes, of which the low bits count.
pub(super) fn table_lookup(
    n: &mut Importer<'_>,
    codes: &Tensor,
    table: Vec<f32>,
    dtype: DType,
) -> Result<ValueId> {
    let (shape, entries) = (codes.shape(), table.len());
    let bits = entries.trailing_zeros() as usize;
    let packed: Bytes = match codes.dtype().bits() {
        own if own == bits => codes.bytes().to_vec().into(),
        _ => pack_bits(codes.bytes(), bits).into(),
    };
    if n.builder.opset() >= Opset::Ios18 {
        let kind = match bits {
            2 => DType::UInt2,
            4 => DType::UInt4,
            _ => DType::UInt8,
        };
        let indices = tensor(kind, shape, packed)?;
        let mut sizes = vec![1; shape.len()];
        sizes.extend([entries, 1]);
        return op!(n, ConstexprLutToDense, indices = indices, lut = floats(dtype, &sizes, table)?);
    }
    let indices = tensor(DType::UInt8, &[packed.len()], packed)?;
    let sizes: Vec<u32> = shape.iter().map(|&s| s as u32).collect();
    let sizes = tensor_of(&[sizes.len()], sizes)?;
    op!(n, ConstexprLutToDense, indices = indices, lut = floats(dtype, &[entries], table)?, shape = sizes)
}

/// The codes of a float constant: the nearest, halves to even, moved by the zero point and into a range.
pub(super) fn encode(stored: &Stored, scales: Scales, low: i32, high: i32) -> Result<Option<Vec<i32>>> {
    let Some(like) = Coded::new(stored, scales)? else { return Ok(None) };
    let values = stored.tensor.to_f64();
    let mut codes = Vec::with_capacity(values.len());
    places(like.sizes(), &like.shape, &like.block, |i, j| {
        let ratio = (values[i] as f32 / like.scale[j] as f32).round_ties_even();
        let moved = ratio + like.zero.get(j).copied().unwrap_or(0.0) as f32;
        codes.push(if moved.is_nan() { 0 } else { moved.clamp(low as f32, high as f32) as i32 });
    });
    Ok(Some(codes))
}

/// Calls a function with the number of each element, in order, and that of its scale.
pub(super) fn places(sizes: &[usize], shape: &[usize], block: &[usize], mut call: impl FnMut(usize, usize)) {
    let count: usize = sizes.iter().product();
    let mut index = vec![0; sizes.len()];
    for i in 0..count {
        let j = (0..sizes.len()).fold(0, |j, d| j * shape[d] + (index[d] / block[d]).min(shape[d] - 1));
        call(i, j);
        for d in (0..sizes.len()).rev() {
            index[d] += 1;
            if index[d] < sizes[d] {
                break;
            }
            index[d] = 0;
        }
    }
}

/// A tensor of floats.
pub(super) fn floats(dtype: DType, shape: &[usize], values: Vec<f32>) -> Result<Tensor> {
    match dtype {
        DType::Fp16 => tensor_of(shape, values.into_iter().map(f16::from_f32).collect()),
        _ => tensor_of(shape, values),
    }
}

fn tensor(dtype: DType, shape: &[usize], bytes: impl Into<Bytes>) -> Result<Tensor> {
    Tensor::from_bytes(dtype, shape, bytes.into()).map_err(|e| Error::malformed(e.to_string()))
}

/// The codes that are the node's input `codes`, with its inputs `scale` and `zero`; `None` unless all are known.
pub(super) fn inputs(
    n: &Node<'_, '_>,
    codes: usize,
    scale: usize,
    zero: usize,
    axis: i64,
    block: usize,
) -> Result<Option<Coded>> {
    let Some(stored) = n.stored(codes) else { return Ok(None) };
    let Some(scales) = n.known(scale).filter(|s| s.dtype().is_float()) else { return Ok(None) };
    let zero = match (n.has(zero), n.known_numbers(zero)) {
        (false, _) => Vec::new(),
        (true, Some(zero)) => zero,
        (true, None) => return Ok(None),
    };
    let (shape, dtype) = (scales.shape().to_vec(), scales.dtype());
    let zero = if zero.len() == 1 { vec![zero[0]; scales.elements()] } else { zero };
    Coded::new(stored, Scales { shape, scale: scales.to_f64(), zero, axis, block, dtype })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(elem: Elem, dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Stored {
        Stored::new(elem, Tensor::from_bytes(dtype, shape, bytes.into()).unwrap())
    }

    #[test]
    fn blocks_of_which_the_last_is_short() {
        let stored = codes(Elem::Int8, DType::Int8, &[2, 5], vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let scales = Scales {
            shape: vec![2, 2],
            scale: vec![1.0, 10.0, 100.0, 1000.0],
            zero: vec![0.0, 0.0, 1.0, 0.0],
            axis: 1,
            block: 4,
            dtype: DType::Fp32,
        };
        let coded = Coded::new(&stored, scales).unwrap().unwrap();
        let dense = coded.dense().unwrap();
        assert_eq!(dense.to_f64(), [1., 2., 3., 4., 50., 500., 600., 700., 800., 10000.]);
        let turned = coded.transposed().unwrap().dense().unwrap();
        assert_eq!(turned.to_f64(), [1., 500., 2., 600., 3., 700., 4., 800., 50., 10000.]);
    }

    #[test]
    fn nibbles_turn() {
        // 1 -2 3 / 4 -5 6, low nibble first.
        let stored = codes(Elem::Int4, DType::Int4, &[2, 3], vec![0xe1, 0x43, 0x6b]);
        let scales = Scales {
            shape: vec![3],
            scale: vec![1.0, 2.0, 4.0],
            zero: vec![],
            axis: 1,
            block: 0,
            dtype: DType::Fp16,
        };
        let coded = Coded::new(&stored, scales).unwrap().unwrap();
        assert_eq!(coded.dense().unwrap().to_f64(), [1., -4., 12., 4., -10., 24.]);
        let turned = coded.transposed().unwrap();
        assert_eq!(turned.dense().unwrap().to_f64(), [1., 4., -4., -10., 12., 24.]);
    }
}
