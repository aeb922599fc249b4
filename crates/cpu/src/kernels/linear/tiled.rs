//! Weights that are split in advance for products on tiles, and the vectors' way for inputs that tiles do not take.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use milwright_mil::DType;

use crate::memory::AlignedBytes;
use crate::simd::Isa;
use crate::simd::gemm::{Panels, SLACK};
use crate::simd::tiles::product::Product;
use crate::simd::tiles::split::{Joined, Rows, columns, largest_f16, largest_f32};
use crate::simd::tiles::{Planes, SIDE, Tiles, permits};
use crate::{KernelError, Packed, Pool, View};

/// Tells the parameters of such a weight from those of others.
const MARK: u64 = u64::from_le_bytes(*b"tiles\0\0\0");

/// A weight in panels for tiles.
#[derive(Clone, Debug)]
pub(crate) struct Tiled {
    pub planes: Planes,
    pub data: Bytes,
    /// The largest magnitude among its numbers.
    largest: f32,
}

/// A constant operand that can be split.
pub(crate) enum Constant<'a> {
    /// Operand A.
    Rows(&'a dyn Rows),
    /// Operand A of a convolution whose input is split in pairs of channels.
    PairedRows(&'a dyn Rows),
    /// Operand B.
    Columns(&'a dyn Panels),
}

impl Tiled {
    /// Splits a constant operand with the elements `values`, if the machine has tiles and they pay. `dtypes` are the
    /// element types of the product's operands and its result, `size` the sizes of each product of the batch.
    pub fn pack(
        constant: &Constant<'_>,
        values: &[f32],
        dtypes: [DType; 3],
        size @ [m, k, n]: [usize; 3],
        batch: usize,
        slot: usize,
    ) -> Option<Packed> {
        Tiles::detect()?;
        let isa = Isa::detect();
        let planes = planes(dtypes)?;
        let largest = largest_f32(isa, &Pool::inline(), values);
        let packed_a = !matches!(constant, Constant::Columns(_));
        let paired = matches!(constant, Constant::PairedRows(_));
        // Inputs around one must be permitted.
        if !permits(k, [1.0, largest]) || !Product::pays(isa, planes, size, packed_a, paired) {
            return None;
        }
        let panel = planes.panel(k);
        let lines = if packed_a { m } else { n };
        let panels = lines.div_ceil(SIDE);
        let mut data = AlignedBytes::zeroed(batch * panels * panel);
        let mut floats = Vec::new();
        for (i, out) in data.as_mut().chunks_exact_mut(panel.max(1)).enumerate() {
            let (product, first) = (i / panels, i % panels * SIDE);
            let count = SIDE.min(lines - first);
            match constant {
                Constant::Rows(rows) | Constant::PairedRows(rows) => {
                    rows.split(isa, planes, product, first, count, out)
                }
                Constant::Columns(matrix) => {
                    floats.resize(SIDE * k + SLACK, 0.0);
                    matrix.pack(isa, product, first, count, SIDE, &mut floats);
                    columns(isa, planes, k, &floats, out);
                }
            }
        }
        let params = vec![MARK, planes.count() as u64, largest.to_bits().into()];
        Some(Packed { params, data: data.into(), slots: vec![slot] })
    }

    /// Reads the result of [`pack`](Tiled::pack) for a weight of `lines` rows (or columns) of `k` numbers in each of
    /// `batch` products; `None` if it is packed in another way.
    ///
    /// # Errors
    /// The size is another one, or the machine has no tiles.
    pub fn of(
        packed: &Packed,
        dtypes: [DType; 3],
        [batch, lines, k]: [usize; 3],
    ) -> Result<Option<Tiled>, KernelError> {
        let &[MARK, count, largest] = packed.params.as_slice() else { return Ok(None) };
        let planes = planes(dtypes).filter(|p| p.count() as u64 == count && Tiles::detect().is_some());
        let bytes = planes.map(|p| p.panel(k) * lines.div_ceil(SIDE) * batch);
        match planes {
            Some(planes) if bytes == Some(packed.data.len()) => {
                let largest = f32::from_bits(largest as u32);
                Ok(Some(Tiled { planes, data: packed.data.clone(), largest }))
            }
            _ => Err(KernelError::invalid("the weight that is split for tiles has another size")),
        }
    }

    /// Whether tiles take the other operand, given all of its elements.
    pub fn takes(&self, isa: Isa, pool: &Pool, k: usize, other: &View<'_>) -> bool {
        let largest = match other.dtype() {
            DType::Fp16 => largest_f16(isa, pool, other.slice()),
            DType::Fp32 => largest_f32(isa, pool, other.slice()),
            _ => return false,
        };
        permits(k, [largest, self.largest])
    }

    /// The weight as a source of panels for vectors. `taps` are the kernel offsets if it is ordered for pairs of channels,
    /// else zero.
    pub fn joined(&self, size: [usize; 2], rows: bool, taps: usize) -> Joined<'_> {
        Joined { data: &self.data, planes: self.planes, size, rows, taps }
    }

    /// Plans the product.
    pub fn product(&self, isa: Isa, size: [usize; 3], batch: usize, packed_a: bool, half: bool) -> Product {
        let tiles = Tiles::detect().unwrap_or(Tiles::MODEL);
        Product::new((tiles, isa), self.planes, size, batch, packed_a, half)
    }
}

/// The planes that operands and results of these element types need; `None` if tiles do not compute them.
fn planes(dtypes: [DType; 3]) -> Option<Planes> {
    match dtypes {
        [DType::Fp16, DType::Fp16, DType::Fp16] => Some(Planes::Two),
        [DType::Fp32, DType::Fp32, DType::Fp32] => Some(Planes::Three),
        _ => None,
    }
}
