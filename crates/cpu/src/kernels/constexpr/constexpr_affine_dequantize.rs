//! `constexpr_affine_dequantize`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ConstexprAffineDequantize;

use super::expand::{Scaling, block_walk, floats};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ConstexprAffineDequantize {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, data) = (p.quantized_data.slot, concrete(&p.quantized_data)?);
        let (scale, zero) = (p.scale.slot, p.zero_point.slot);
        // Scale and zero point become vectors along the axis; scalars are repeated.
        let axis = p.axis.resolve(data.len())?;
        let mut blocks = vec![1; data.len()];
        blocks[axis] = data[axis];
        Ok(Prepared::step(move |run| {
            let along = |slot: usize| {
                let v = floats(run.inputs[slot], run.pool)?;
                let repeated = run.inputs[slot].shape().is_empty();
                Ok::<_, KernelError>(if repeated { vec![v[0]; blocks[axis]] } else { v })
            };
            let scaling = Scaling {
                walk: block_walk(&data, &blocks),
                scale: along(scale)?,
                offset: Some(along(zero)?),
                half: false,
            };
            scaling.apply(&floats(run.inputs[slot], run.pool)?, &mut run.outputs[0], run.pool);
            Ok(())
        }))
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn scales_along_an_axis() {
        let data = [Tensor::from_vec(&[2, 2], vec![10u8, 0, 255, 128]).unwrap()];
        let zero = [Tensor::scalar(128u8)];
        let scale = [Tensor::from_vec(&[2], vec![0.5f32, 2.0]).unwrap()];
        for (axis, expected) in [(0, [-59., -64., 254., 0.]), (1, [-59., -256., 63.5, 0.])] {
            let axis = [Tensor::scalar::<i32>(axis)];
            let inputs: [(&str, &[Tensor]); 4] =
                [("quantized_data", &data), ("zero_point", &zero), ("scale", &scale), ("axis", &axis)];
            let out = run_op(OpKind::ConstexprAffineDequantize, Opset::Ios16, &inputs, |_| true).unwrap();
            assert_eq!(out[0].to_vec::<f32>().unwrap(), expected);
        }
    }
}
