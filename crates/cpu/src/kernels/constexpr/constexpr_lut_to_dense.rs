//! `constexpr_lut_to_dense`

use milwright_mil::ops::defs::ConstexprLutToDense;
use milwright_mil::{Opset, TensorType};

use super::expand::{Tables, unpack, unpacked};
use crate::index::Walk;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ConstexprLutToDense {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (indices, lut) = (p.indices.slot, p.lut.slot);
        if p.opset() < Opset::Ios18 {
            let entries = concrete(&p.lut)?.first().copied().unwrap_or(0);
            let (bits, width) = (entries.trailing_zeros() as usize, outputs[0].dtype.bits() / 8);
            return Ok(Prepared::step(move |run| {
                let n = run.outputs[0].elements();
                let at = unpack(run.inputs[indices].bytes(), bits, n, run.pool);
                let walk = Walk::new(&[n], [0], 0);
                let tables = Tables { walk, entries, vector: 1, width, inner: 1 };
                tables.apply(run.inputs[lut].bytes(), &at, run.outputs[0].bytes(), run.pool);
                Ok(())
            }));
        }
        let shape = concrete(&p.indices)?;
        let axis = p.vector_axis.map(|a| a.resolve(shape.len())).transpose()?;
        Ok(Prepared::step(move |run| {
            let lut = run.inputs[lut];
            let at = unpacked(run.inputs[indices], run.pool);
            Tables::new(&shape, lut, axis)?.apply(lut.bytes(), &at, run.outputs[0].bytes(), run.pool);
            Ok(())
        }))
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{DType, OpKind, Opset, Tensor, pack_bits};

    use crate::eager::run_op;

    fn indices(bits: usize, shape: &[usize], values: &[u8]) -> [Tensor; 1] {
        let dtype = if bits == 1 { DType::UInt1 } else { DType::UInt2 };
        [Tensor::from_bytes(dtype, shape, pack_bits(values, bits).into()).unwrap()]
    }

    /// The example in Core ML's documentation of the op.
    #[test]
    fn a_table_for_each_group() {
        let indices = indices(2, &[6, 2], &[2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3]);
        let lut = [Tensor::from_vec(&[2, 1, 4, 1], vec![1f32, 5., 9., 13., 2., 10., 18., 26.]).unwrap()];
        let inputs: [(&str, &[Tensor]); 2] = [("indices", &indices), ("lut", &lut)];
        let out = run_op(OpKind::ConstexprLutToDense, Opset::Ios18, &inputs, |_| true).unwrap();
        let expected = [9., 13., 13., 1., 5., 1., 26., 2., 18., 10., 2., 26.];
        assert_eq!(out[0].to_vec::<f32>().unwrap(), expected);
    }

    #[test]
    fn entries_along_an_axis() {
        let indices = indices(1, &[2, 2, 2], &[0, 0, 1, 0, 1, 1, 0, 0]);
        let lut = [Tensor::from_vec(&[1, 1, 1, 2, 3], vec![10i8, 11, 12, 20, 21, 22]).unwrap()];
        let run = |axis: i32| {
            let axis = [Tensor::scalar(axis)];
            let inputs: [(&str, &[Tensor]); 3] =
                [("indices", &indices), ("lut", &lut), ("vector_axis", &axis)];
            let out = run_op(OpKind::ConstexprLutToDense, Opset::Ios18, &inputs, |_| true).unwrap();
            (out[0].shape().to_vec(), out[0].to_vec::<i8>().unwrap())
        };
        let (shape, out) = run(1);
        assert_eq!(shape, [2, 6, 2]);
        assert_eq!(out[..12], [10, 10, 11, 11, 12, 12, 20, 10, 21, 11, 22, 12]);
        assert_eq!(out[12..], [20, 20, 21, 21, 22, 22, 10, 10, 11, 11, 12, 12]);
        let (shape, out) = run(-1);
        assert_eq!(shape, [2, 2, 6]);
        assert_eq!(out[..12], [10, 11, 12, 10, 11, 12, 20, 21, 22, 10, 11, 12]);
    }

    #[test]
    fn packed_indices_straddle_bytes() {
        let values: Vec<u8> = (0..7u8).map(|i| i * 9).collect();
        let packed = pack_bits(&values, 6);
        let indices = [Tensor::from_vec(&[packed.len()], packed).unwrap()];
        let lut = [Tensor::from_vec(&[64], (0..64).map(|i| i as f32 / 2.).collect::<Vec<_>>()).unwrap()];
        let shape = [Tensor::from_vec(&[2], vec![7u32, 1]).unwrap()];
        let inputs: [(&str, &[Tensor]); 3] = [("indices", &indices), ("lut", &lut), ("shape", &shape)];
        let out = run_op(OpKind::ConstexprLutToDense, Opset::Ios16, &inputs, |_| true).unwrap();
        assert_eq!(out[0].to_vec::<f32>().unwrap(), [0., 4.5, 9., 13.5, 18., 22.5, 27.]);
    }
}
