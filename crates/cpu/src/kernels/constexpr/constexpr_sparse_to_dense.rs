//! `constexpr_sparse_to_dense`

use milwright_mil::ops::defs::ConstexprSparseToDense;
use milwright_mil::{TensorType, pack_bits};

use super::expand::{scatter, unpack, unpacked};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ConstexprSparseToDense {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (data, mask, dtype) = (p.nonzero_data.slot, p.mask.slot, outputs[0].dtype);
        Ok(Prepared::step(move |run| {
            // Up to iOS17 the mask is bytes of packed bits, from iOS18 on it has 1-bit elements: the same bytes.
            let n = run.outputs[0].elements();
            let mask = unpack(run.inputs[mask].bytes(), 1, n, run.pool);
            if !dtype.is_sub_byte() {
                return scatter(&mask, run.inputs[data].bytes(), dtype.bits() / 8, run.outputs[0].bytes());
            }
            let mut dense = vec![0; n];
            scatter(&mask, &unpacked(run.inputs[data], run.pool), 1, &mut dense)?;
            run.outputs[0].bytes().copy_from_slice(&pack_bits(&dense, dtype.bits()));
            Ok(())
        }))
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn puts_elements_at_ones() {
        let shape = [Tensor::from_vec(&[1], vec![5u32]).unwrap()];
        let mask = [Tensor::from_vec(&[1], vec![0b01100u8]).unwrap()];
        let run = |data: Vec<f32>| {
            let data = [Tensor::from_vec(&[data.len()], data).unwrap()];
            let inputs: [(&str, &[Tensor]); 3] =
                [("nonzero_data", &data), ("mask", &mask), ("shape", &shape)];
            run_op(OpKind::ConstexprSparseToDense, Opset::Ios16, &inputs, |_| true)
        };
        assert_eq!(run(vec![7., 8.]).unwrap()[0].to_vec::<f32>().unwrap(), [0., 0., 7., 8., 0.]);
        assert!(run(vec![7.]).is_err());
        assert!(run(vec![7., 8., 9.]).is_err());
    }
}
