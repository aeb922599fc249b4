//! Weights that are put in order in advance for products on tiles, and the vectors' way for inputs that tiles do not take.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use milwright_mil::DType;

use crate::convert::narrow;
use crate::memory::AlignedBytes;
use crate::simd::Isa;
use crate::simd::gemm::{F16, F32, Panels, SLACK};
use crate::simd::tiles::product::{Ordered, Product, Spread};
use crate::simd::tiles::split::{
    Joined, Paired, STEP, Strided, largest_f16, largest_f32, order_columns, order_rows,
};
use crate::simd::tiles::{DEPTH, Planes, SIDE, Tiles, permits};
use crate::{KernelError, Packed, Pool, View};

/// Tells the parameters of such a weight from those of others.
const MARK: u64 = u64::from_le_bytes(*b"ordered\0");

/// A weight in panels for tiles, in its own element type.
#[derive(Clone, Debug)]
pub(crate) struct Tiled {
    pub planes: Planes,
    pub data: Bytes,
    /// The largest magnitude among its numbers.
    largest: f32,
}

/// A constant operand that can be put in order.
pub(crate) enum Constant<'a> {
    /// Operand A.
    Rows(Strided<'a, F32<'a>>),
    /// Operand A of a convolution whose input is split in pairs of channels.
    PairedRows(Strided<'a, F32<'a>>),
    /// Operand B.
    Columns(&'a dyn Panels),
}

impl Tiled {
    /// Orders a constant operand with the elements `values`, if the machine has tiles and they pay. `dtypes` are the
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
        let ordered_a = !matches!(constant, Constant::Columns(_));
        let paired = matches!(constant, Constant::PairedRows(_));
        // Inputs around one must be permitted.
        if !permits(k, [1.0, largest]) || !Product::pays(isa, planes, size, ordered_a, paired) {
            return None;
        }
        let numbers = k.div_ceil(DEPTH) * STEP;
        let lines = if ordered_a { m } else { n };
        let panels = lines.div_ceil(SIDE);
        let mut data = AlignedBytes::zeroed(batch * panels * numbers * size_of_number(planes));
        let (mut floats, mut ordered) = (Vec::new(), vec![0.0; numbers]);
        let bytes = (numbers * size_of_number(planes)).max(1);
        for (i, out) in data.as_mut().chunks_exact_mut(bytes).enumerate() {
            let (product, first) = (i / panels, i % panels * SIDE);
            let count = SIDE.min(lines - first);
            ordered.fill(0.0);
            match constant {
                Constant::Rows(rows) | Constant::PairedRows(rows) => {
                    order_rows(rows, product, first, count, &mut ordered);
                }
                Constant::Columns(matrix) => {
                    floats.resize(SIDE * k + SLACK, 0.0);
                    matrix.pack(isa, product, first, count, SIDE, &mut floats);
                    order_columns(k, &floats, &mut ordered);
                }
            }
            match planes {
                Planes::Two => narrow(&ordered, bytemuck::cast_slice_mut(out)),
                Planes::Three => out.copy_from_slice(bytemuck::cast_slice(&ordered)),
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
        let bytes =
            planes.map(|p| k.div_ceil(DEPTH) * STEP * size_of_number(p) * lines.div_ceil(SIDE) * batch);
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

    /// The numbers as products on tiles take them.
    pub fn ordered(&self) -> Ordered<'_> {
        match self.planes {
            Planes::Two => Ordered::F16(bytemuck::cast_slice(&self.data)),
            Planes::Three => Ordered::F32(bytemuck::cast_slice(&self.data)),
        }
    }

    /// The weight as a source of panels for vectors. `taps` are the kernel offsets if it is ordered for pairs of channels,
    /// else zero.
    pub fn joined(&self, size: [usize; 2], rows: bool, taps: usize) -> Vectors<'_> {
        match self.ordered() {
            Ordered::F16(x) => Vectors::F16(Joined { data: F16(x), size, rows, taps }),
            Ordered::F32(x) => Vectors::F32(Joined { data: F32(x), size, rows, taps }),
        }
    }

    /// Plans the product. `in_place` are the planes if it reads the other operand from them.
    pub fn product(
        &self,
        isa: Isa,
        size: [usize; 3],
        batch: usize,
        ordered_a: bool,
        half: bool,
        in_place: Option<(Spread, &Paired<'_>)>,
    ) -> Product {
        let tiles = Tiles::detect().unwrap_or(Tiles::MODEL);
        Product::new((tiles, isa), self.planes, size, batch, ordered_a, half, in_place)
    }
}

/// A weight as a source of panels for vectors.
pub(crate) enum Vectors<'a> {
    F16(Joined<F16<'a>>),
    F32(Joined<F32<'a>>),
}

impl Panels for Vectors<'_> {
    fn pack(&self, isa: Isa, batch: usize, first: usize, count: usize, width: usize, out: &mut [f32]) {
        match self {
            Vectors::F16(x) => x.pack(isa, batch, first, count, width, out),
            Vectors::F32(x) => x.pack(isa, batch, first, count, width, out),
        }
    }
}

/// Bytes of a number that is split into these planes.
const fn size_of_number(planes: Planes) -> usize {
    match planes {
        Planes::Two => 2,
        Planes::Three => 4,
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
