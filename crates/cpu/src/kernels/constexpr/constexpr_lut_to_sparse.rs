//! `constexpr_lut_to_sparse`

use milwright_mil::ops::defs::ConstexprLutToSparse;
use milwright_mil::{TensorType, pack_bits};

use super::expand::{Tables, scatter, select, unpacked};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ConstexprLutToSparse {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (mask, data) = (p.indices_mask.slot, p.indices_nonzero_data.slot);
        let (lut, shape) = (p.lut.slot, concrete(&p.indices_mask)?);
        let axis = p.vector_axis.map(|a| a.resolve(shape.len())).transpose()?;
        Ok(Prepared::step(move |run| {
            let lut = run.inputs[lut];
            let tables = Tables::new(&shape, lut, axis)?;
            // Makes the indices dense and looks them up, then keeps only the elements under the mask. Each bit of the
            // mask covers all elements of an entry.
            let mask = unpacked(run.inputs[mask], run.pool);
            let mut indices = vec![0; mask.len()];
            scatter(&mask, &unpacked(run.inputs[data], run.pool), 1, &mut indices)?;
            let mut dense = vec![0; mask.len() * tables.vector * tables.width];
            tables.apply(lut.bytes(), &indices, &mut dense, run.pool);
            let inner = tables.inner.max(1);
            let wide: Vec<u8> = mask.chunks(inner).flat_map(|m| m.repeat(tables.vector)).collect();
            run.outputs[0].bytes().copy_from_slice(&pack_bits(&wide, 1));
            select(&wide, &dense, tables.width, run.outputs[1].bytes());
            Ok(())
        }))
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{DType, OpKind, Opset, Tensor, pack_bits};

    use crate::eager::run_op;

    /// The example in Core ML's documentation of the op, with entries of two elements.
    #[test]
    fn widens_the_mask() {
        let mask = [1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0];
        let bits = |shape: &[usize], v: &[u8]| {
            [Tensor::from_bytes(DType::UInt1, shape, pack_bits(v, 1).into()).unwrap()]
        };
        let (mask, data) = (bits(&[4, 6], &mask), bits(&[9], &[0, 1, 1, 0, 1, 1, 0, 0, 1]));
        let lut = [Tensor::from_vec(&[1, 1, 2, 2], vec![2f32, 2.5, 3., 3.5]).unwrap()];
        let axis = [Tensor::scalar(0i32)];
        let inputs: [(&str, &[Tensor]); 4] =
            [("indices_mask", &mask), ("indices_nonzero_data", &data), ("lut", &lut), ("vector_axis", &axis)];
        let out = run_op(OpKind::ConstexprLutToSparse, Opset::Ios18, &inputs, |_| true).unwrap();
        assert_eq!(out[0].shape(), [8, 6]);
        let m = out[0].to_i64().unwrap();
        assert_eq!(m[..24], [1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1]);
        let expected = [2., 3., 2.5, 3.5, 3., 2., 3., 3.5, 2.5, 3.5, 3., 2., 2., 3.5, 2.5, 2.5, 3., 3.5];
        assert_eq!(out[1].to_vec::<f32>().unwrap(), expected);
    }
}
