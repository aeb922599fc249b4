//! `constexpr_blockwise_shift_scale`

use milwright_mil::ops::defs::ConstexprBlockwiseShiftScale;
use milwright_mil::{DType, TensorType};

use super::expand::{Scaling, block_walk, floats};
use crate::{Kernel, KernelError, Params, Pool, Prepared, View};

impl Kernel for ConstexprBlockwiseShiftScale {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (data, scale, offset) = (p.data.slot, p.scale.slot, p.offset.map(|t| t.slot));
        Ok(Prepared::step(move |run| {
            let shape = run.inputs[data].shape();
            let scaling = scaling(shape, run.inputs[scale], offset.map(|o| run.inputs[o]), run.pool)?;
            scaling.apply(&floats(run.inputs[data], run.pool)?, &mut run.outputs[0], run.pool);
            Ok(())
        }))
    }
}

/// Returns the scales and offsets of data of the shape `data`.
pub(super) fn scaling(
    data: &[usize],
    scale: View<'_>,
    offset: Option<View<'_>>,
    pool: &Pool,
) -> Result<Scaling, KernelError> {
    Ok(Scaling {
        walk: block_walk(data, scale.shape()),
        half: scale.dtype() == DType::Fp16 && offset.is_some_and(|o| o.dtype() != DType::Fp32),
        scale: floats(scale, pool)?,
        offset: offset.map(|o| floats(o, pool)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use milwright_mil::{DType, OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn scales_blocks_of_packed_data() {
        // Two rows of four signed 4-bit values in blocks of two: 1 -1 2 -8, 7 0 -3 5.
        let data = [Tensor::from_bytes(DType::Int4, &[2, 4], vec![0xf1, 0x82, 0x07, 0x5d].into()).unwrap()];
        let scale = [Tensor::from_vec(&[2, 2], vec![1f32, 10., 100., 1000.]).unwrap()];
        let offset = [Tensor::from_bytes(DType::Int4, &[2, 2], vec![0x10, 0x0f].into()).unwrap()];
        let inputs: [(&str, &[Tensor]); 3] = [("data", &data), ("scale", &scale), ("offset", &offset)];
        let run = |inputs: &[(&str, &[Tensor])]| {
            let out = run_op(OpKind::ConstexprBlockwiseShiftScale, Opset::Ios18, inputs, |_| true).unwrap();
            out[0].to_vec::<f32>().unwrap()
        };
        assert_eq!(run(&inputs[..2]), [1., -1., 20., -80., 700., 0., -3000., 5000.]);
        assert_eq!(run(&inputs), [1., -1., 10., -90., 800., 100., -3000., 5000.]);
    }
}
