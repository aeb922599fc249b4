//! `constexpr_sparse_blockwise_shift_scale`

use half::f16;
use milwright_mil::ops::defs::ConstexprSparseBlockwiseShiftScale;
use milwright_mil::{DType, TensorType};

use super::constexpr_blockwise_shift_scale::scaling;
use super::expand::{floats, scatter, select, unpacked};
use crate::{Kernel, KernelError, Params, Prepared, ViewMut};

impl Kernel for ConstexprSparseBlockwiseShiftScale {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (mask, data) = (p.data_mask.slot, p.nonzero_data.slot);
        let (scale, offset) = (p.scale.slot, p.offset.map(|t| t.slot));
        let dtype = outputs[1].dtype;
        Ok(Prepared::step(move |run| {
            let shape = run.inputs[mask].shape();
            let scaling = scaling(shape, run.inputs[scale], offset.map(|o| run.inputs[o]), run.pool)?;
            run.outputs[0].bytes().copy_from_slice(run.inputs[mask].bytes());
            let mask = unpacked(run.inputs[mask], run.pool);
            let values = floats(run.inputs[data], run.pool)?;
            let mut dense = vec![0f32; mask.len()];
            scatter(&mask, bytemuck::cast_slice(&values), 4, bytemuck::cast_slice_mut(&mut dense))?;
            if dtype == DType::Fp16 {
                let mut scaled = vec![f16::ZERO; mask.len()];
                let bytes = bytemuck::cast_slice_mut(&mut scaled);
                scaling.apply(&dense, &mut ViewMut::new(dtype, shape, bytes), run.pool);
                select(&mask, bytemuck::cast_slice(&scaled), 2, run.outputs[1].bytes());
            } else {
                let mut scaled = vec![0f32; mask.len()];
                let bytes = bytemuck::cast_slice_mut(&mut scaled);
                scaling.apply(&dense, &mut ViewMut::new(dtype, shape, bytes), run.pool);
                select(&mask, bytemuck::cast_slice(&scaled), 4, run.outputs[1].bytes());
            }
            Ok(())
        }))
    }
}
