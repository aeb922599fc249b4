//! Palettes: each element becomes an index into a palette of few values. Each tensor has one palette.

use milwright_mil::{DType, OpKind, Opset, Tensor, pack_bits, param};

use super::cluster;
use crate::loss::Loss;
use crate::scheme::{Compressed, FloatWeight, Scheme};
use crate::{float_tensor, to_f32};

/// Palettes with indices of one bit. The other statics are named after their bits, too.
pub static ONE: Palette = Palette { bits: 1, indices: DType::UInt1 };
/// As [`ONE`].
pub static TWO: Palette = Palette { bits: 2, indices: DType::UInt2 };
/// As [`ONE`].
pub static FOUR: Palette = Palette { bits: 4, indices: DType::UInt4 };
/// As [`ONE`].
pub static SIX: Palette = Palette { bits: 6, indices: DType::UInt6 };
/// As [`ONE`].
pub static EIGHT: Palette = Palette { bits: 8, indices: DType::UInt8 };

/// Chooses the palette with the least squared error over a tensor, and the index of the nearest value for each element.
#[derive(Debug)]
pub struct Palette {
    /// Bits of an index.
    bits: usize,
    /// The element type of unpacked indices.
    indices: DType,
}

impl Scheme for Palette {
    fn compress(&self, weight: &FloatWeight<'_>, opset: Opset) -> Result<Compressed, &'static str> {
        let &FloatWeight { values, shape, dtype, .. } = weight;
        let entries = 1 << self.bits;
        // The palette is stored in the weight's element type, so indices are chosen after it is rounded.
        let mut centers = cluster::cluster(values, entries);
        centers = to_f32(&float_tensor(&centers, &[centers.len()], dtype));
        let indices = cluster::assign(values, &centers);
        let loss = Loss::of(values, indices.iter().map(|&i| centers[usize::from(i)]), dtype);
        centers.resize(entries, 0.0);
        let packed = pack_bits(&indices, self.bits);
        drop(indices);
        let inputs = if opset >= Opset::Ios18 {
            let mut lut_shape = vec![1; shape.len()];
            lut_shape.extend([entries, 1]);
            let indices = Tensor::from_bytes(self.indices, shape, packed.into());
            vec![
                (param!(ConstexprLutToDense.indices), indices.expect("one index for each element")),
                (param!(ConstexprLutToDense.lut), float_tensor(&centers, &lut_shape, dtype)),
            ]
        } else {
            let indices = Tensor::from_vec(&[packed.len()], packed);
            vec![
                (param!(ConstexprLutToDense.indices), indices.expect("a vector's shape is its length")),
                (param!(ConstexprLutToDense.lut), float_tensor(&centers, &[entries], dtype)),
                (param!(ConstexprLutToDense.shape), shape_tensor(shape)),
            ]
        };
        Ok(Compressed { kind: OpKind::ConstexprLutToDense, inputs, loss })
    }
}

fn shape_tensor(shape: &[usize]) -> Tensor {
    // Each dimension fits `u32`, because the tensor is in memory.
    let dims: Vec<u32> = shape.iter().map(|&n| n as u32).collect();
    Tensor::from_vec(&[dims.len()], dims).expect("a vector's shape is its length")
}
