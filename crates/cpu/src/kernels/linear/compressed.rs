//! Weights that stay compressed: integers with scales, and tables of at most 16 numbers.
//!
//! A `linear` of a few rows reads each weight once, so what it takes is the time to read them: an int8 weight takes half
//! of the time of an fp16 weight, a 4-bit one a quarter. Products of many rows expand the weight when the plan is
//! compiled, as everything else does.

use milwright_mil::ops::defs::{
    ConstexprAffineDequantize, ConstexprBlockwiseShiftScale, ConstexprLutToDense, Linear,
};
use milwright_mil::ops::{OpDef, OpView};
use milwright_mil::{DType, OpKind, Opset, Tensor, TensorType, unpack_bits};

use super::linear::product;
use crate::convert::to_f32;
use crate::memory::{ALIGN, AlignedBytes};
use crate::simd::Isa;
use crate::simd::coded::{Coded, Meaning};
use crate::simd::gemm::panel_columns;
use crate::{KernelError, Packed, View};

/// Packs the weight of `linear`, which the op `compressed` makes, without expanding it; `None` if there is no such form,
/// or if it would not pay.
pub(crate) fn pack(linear: &OpView<'_>, compressed: &OpView<'_>, outputs: &[TensorType]) -> Option<Packed> {
    let p = Linear::params(linear).ok()?;
    let product = product(&p).ok()?;
    if !product.is_flat() || !matches!(outputs.first()?.dtype, DType::Fp16 | DType::Fp32) {
        return None;
    }
    let expanded = p.weight.value()?;
    let weight = Codes::of(compressed, expanded)?;
    // Guards against every difference between the two ways to expand.
    weight.is(expanded).then(|| weight.pack(p.weight.slot))
}

/// A matrix of codes, row by row: the row of a weight is a column of the product.
struct Codes {
    columns: usize,
    steps: usize,
    codes: Vec<u8>,
    nibbles: bool,
    /// Empty if there are scales.
    table: Vec<f32>,
    /// For each column and block.
    scales: Vec<f32>,
    /// For each column and block, or one for all.
    offsets: Vec<f32>,
    /// The steps of a block.
    block: usize,
    half: bool,
}

impl Codes {
    fn of(op: &OpView<'_>, expanded: &Tensor) -> Option<Codes> {
        let &[columns, steps] = expanded.shape() else { return None };
        let half = match expanded.dtype() {
            DType::Fp16 => true,
            DType::Fp32 => false,
            _ => return None,
        };
        let plain = |t: &Tensor, bits: usize| {
            let codes = unpack_bits(t.bytes(), bits, columns * steps);
            (codes.len() == columns * steps).then_some(codes)
        };
        let scaled =
            |data: &Tensor, scales: (Vec<f32>, [usize; 2]), offsets: Option<(Vec<f32>, [usize; 2])>| {
                // Codes are unsigned; the offset of signed ones is moved along.
                let (nibbles, sign) = match data.dtype() {
                    DType::Int8 => (false, 128),
                    DType::UInt8 => (false, 0),
                    DType::Int4 => (true, 8),
                    DType::UInt4 => (true, 0),
                    _ => return None,
                };
                let mut codes = plain(data, data.dtype().bits())?;
                codes.iter_mut().for_each(|c| *c ^= sign);
                let blocks = scales.1[1].max(offsets.as_ref().map_or(1, |o| o.1[1]));
                if blocks == 0 || !steps.is_multiple_of(blocks) {
                    return None;
                }
                let block = steps / blocks;
                // Repeats what is there for fewer columns or blocks.
                let spread = |(values, [rows, parts]): (Vec<f32>, [usize; 2])| {
                    let fits =
                        rows > 0 && parts > 0 && columns.is_multiple_of(rows) && blocks.is_multiple_of(parts);
                    (fits && values.len() == rows * parts).then(|| {
                        let at = |c: usize, b: usize| c / (columns / rows) * parts + b / (blocks / parts);
                        (0..columns)
                            .flat_map(|c| (0..blocks).map(move |b| (c, b)))
                            .map(|(c, b)| values[at(c, b)])
                            .collect::<Vec<_>>()
                    })
                };
                let scales = spread(scales)?;
                let mut offsets = match offsets {
                    Some(offsets) => spread(offsets)?,
                    None => vec![0.0],
                };
                // Sums of small integers are exact.
                if offsets.iter().any(|o| o.fract() != 0.0 || o.abs() > 1024.0) {
                    return None;
                }
                offsets.iter_mut().for_each(|o| *o += f32::from(sign));
                if offsets.iter().all(|&o| o == offsets[0]) {
                    offsets.truncate(1);
                }
                let odd = nibbles && !block.is_multiple_of(2) && block < steps;
                (!odd).then_some(Codes {
                    columns,
                    steps,
                    codes,
                    nibbles,
                    table: Vec::new(),
                    scales,
                    offsets,
                    block,
                    half,
                })
            };
        match op.kind {
            OpKind::ConstexprBlockwiseShiftScale => {
                let p = ConstexprBlockwiseShiftScale::params(op).ok()?;
                let matrix = |t: &Tensor| Some((numbers(t)?, <[usize; 2]>::try_from(t.shape()).ok()?));
                let offset = match p.offset {
                    Some(offset) => Some(matrix(offset.value()?)?),
                    None => None,
                };
                scaled(p.data.value()?, matrix(p.scale.value()?)?, offset)
            }
            OpKind::ConstexprAffineDequantize => {
                let p = ConstexprAffineDequantize::params(op).ok()?;
                if p.axis.resolve(2).ok()? != 0 {
                    return None;
                }
                let vector = |t: &Tensor| Some((numbers(t)?, [t.elements(), 1]));
                scaled(
                    p.quantized_data.value()?,
                    vector(p.scale.value()?)?,
                    Some(vector(p.zero_point.value()?)?),
                )
            }
            OpKind::ConstexprLutToDense => {
                let p = ConstexprLutToDense::params(op).ok()?;
                let (indices, lut) = (p.indices.value()?, p.lut.value()?);
                let bits = if p.opset() >= Opset::Ios18 {
                    // One table for the whole weight, of plain numbers.
                    if lut.shape() != [1, 1, lut.elements(), 1] {
                        return None;
                    }
                    indices.dtype().bits()
                } else {
                    lut.elements().trailing_zeros() as usize
                };
                if bits > 4 || lut.elements() > 16 {
                    return None;
                }
                let mut table = numbers(lut).filter(|_| lut.dtype().is_float())?;
                table.resize(16, 0.0);
                let codes = plain(indices, bits)?;
                let (scales, offsets, block) = (Vec::new(), vec![0.0], steps.max(1));
                Some(Codes { columns, steps, codes, nibbles: true, table, scales, offsets, block, half })
            }
            _ => None,
        }
    }

    /// Whether the codes stand for exactly these numbers.
    fn is(&self, expanded: &Tensor) -> bool {
        let blocks = self.steps.div_ceil(self.block.max(1));
        let expanded = to_f32(&View::from(expanded));
        let number = |at: usize, code: u8| {
            if let Some(&entry) = self.table.get(usize::from(code)) {
                return entry;
            }
            let place = at / self.steps * blocks + at % self.steps / self.block;
            let offset = if self.offsets.len() == 1 { self.offsets[0] } else { self.offsets[place] };
            let number = self.scales[place] * (f32::from(code) - offset);
            if self.half { half::f16::from_f32(number).to_f32() } else { number }
        };
        let mut all = self.codes.iter().zip(expanded.iter()).enumerate();
        all.all(|(at, (&code, x))| number(at, code).to_bits() == x.to_bits())
    }

    fn pack(&self, slot: usize) -> Packed {
        let Codes { columns, steps, .. } = *self;
        let width = panel_columns(Isa::detect());
        let padded = columns.next_multiple_of(width);
        let column = Coded::column(steps, self.nibbles);
        let mut codes = vec![0u8; padded * column];
        for (c, row) in self.codes.chunks(steps.max(1)).enumerate().take(columns) {
            let panel = &mut codes[c / width * width * column..][..width * column];
            for (i, &code) in row.iter().enumerate() {
                let (step, shift) = if self.nibbles { (i / 2, i % 2 * 4) } else { (i, 0) };
                panel[step * width + c % width] |= code << shift;
            }
        }
        let blocks = steps.div_ceil(self.block);
        let panels = |values: &[f32]| {
            let mut all = vec![0.0; padded * blocks];
            for (at, &value) in values.iter().enumerate() {
                let (c, b) = (at / blocks, at % blocks);
                all[(c / width * blocks + b) * width + c % width] = value;
            }
            all
        };
        let mut floats = self.table.clone();
        if floats.is_empty() {
            floats = panels(&self.scales);
            floats.extend(if self.offsets.len() == 1 { self.offsets.clone() } else { panels(&self.offsets) });
        }
        let form = Form {
            nibbles: self.nibbles,
            table: !self.table.is_empty(),
            half: self.half,
            many: self.offsets.len() > 1,
            block: self.block,
        };
        let start = codes.len().next_multiple_of(ALIGN);
        let mut data = AlignedBytes::zeroed(start + floats.len() * 4);
        data.as_mut()[..codes.len()].copy_from_slice(&codes);
        data.as_mut()[start..].copy_from_slice(bytemuck::cast_slice(&floats));
        Packed { params: form.params(), data: data.into(), slots: vec![slot] }
    }
}

/// The elements of a small tensor of floats, or of integers of at most 8 bits.
fn numbers(t: &Tensor) -> Option<Vec<f32>> {
    match t.dtype() {
        DType::Fp16 | DType::Fp32 => Some(to_f32(&View::from(t)).into_owned()),
        DType::UInt8 | DType::UInt4 => {
            Some(unpack_bits(t.bytes(), t.dtype().bits(), t.elements()).into_iter().map(f32::from).collect())
        }
        DType::Int8 => Some(t.bytes().iter().map(|&b| f32::from(b as i8)).collect()),
        DType::Int4 => {
            let codes = unpack_bits(t.bytes(), 4, t.elements());
            Some(codes.into_iter().map(|c| f32::from((c << 4) as i8 >> 4)).collect())
        }
        _ => None,
    }
}

/// The form of a packed compressed weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Form {
    nibbles: bool,
    table: bool,
    half: bool,
    /// Whether there is an offset for each scale.
    many: bool,
    block: usize,
}

impl Form {
    /// The form that is written as these numbers; `None` if they are not of a compressed weight.
    pub(super) fn of(params: &[u64]) -> Option<Form> {
        let &[form, block] = params else { return None };
        let bit = |n: u32| form >> n & 1 == 1;
        let block = usize::try_from(block).ok()?;
        (form & FORM == FORM && form >> 12 == FORM >> 12).then_some(Form {
            nibbles: bit(0),
            table: bit(1),
            half: bit(2),
            many: bit(3),
            block,
        })
    }

    fn params(self) -> Vec<u64> {
        let bits = [self.nibbles, self.table, self.half, self.many];
        let bits = bits.iter().enumerate().fold(FORM, |all, (i, &bit)| all | u64::from(bit) << i);
        vec![bits, self.block as u64]
    }

    /// # Errors
    /// `pack` cannot have made `data`, for a matrix of these sizes.
    pub(super) fn check(self, [k, n]: [usize; 2], data: &[u8]) -> Result<(), KernelError> {
        let padded = n.next_multiple_of(panel_columns(Isa::detect()));
        let wrong = || KernelError::invalid("the compressed matrix of a product has another size");
        let even = !self.nibbles || self.block.is_multiple_of(2) || self.block >= k;
        if self.block == 0 || !even || (self.table && !self.nibbles) {
            return Err(wrong());
        }
        let scales = padded.checked_mul(k.div_ceil(self.block)).ok_or_else(wrong)?;
        let floats = match (self.table, self.many) {
            (true, _) => 16,
            (false, true) => scales.checked_mul(2).ok_or_else(wrong)?,
            (false, false) => scales + 1,
        };
        let codes = padded.checked_mul(Coded::column(k, self.nibbles)).ok_or_else(wrong)?;
        let len = floats.checked_mul(4).and_then(|n| n.checked_add(codes.next_multiple_of(ALIGN)));
        if len == Some(data.len()) { Ok(()) } else { Err(wrong()) }
    }

    /// The matrix in data that was checked.
    pub(super) fn read(self, [k, n]: [usize; 2], data: &[u8]) -> Coded<'_> {
        let padded = n.next_multiple_of(panel_columns(Isa::detect()));
        let codes = padded * Coded::column(k, self.nibbles);
        let floats: &[f32] = bytemuck::cast_slice(&data[codes.next_multiple_of(ALIGN)..]);
        let meaning = if let (true, Some(table)) = (self.table, floats.first_chunk()) {
            Meaning::Table(table)
        } else {
            let (scales, offsets) = floats.split_at(padded * k.div_ceil(self.block));
            Meaning::Scaled { scales, offsets, block: self.block }
        };
        Coded { codes: &data[..codes], nibbles: self.nibbles, meaning, half: self.half }
    }
}

/// Marks the parameters of a compressed weight.
const FORM: u64 = 0x636f_6465 << 12;
