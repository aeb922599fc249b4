//! `dequantize`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Dequantize;

use crate::convert::{to_f32, write_f32};
use crate::kernels::quantization::inner;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Dequantize {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, scale, zero_point) = (p.input.slot, p.scale.slot, p.zero_point.map(|t| t.slot));
        if p.scale.rank() == 0
            && let Some(scale) = p.scale.value()
            && p.zero_point.is_none_or(|z| z.value().is_some())
        {
            let scale = scale.to_f64()[0] as f32;
            let zero_point = p.zero_point.and_then(|z| z.value()).map_or(0.0, |z| z.to_f64()[0] as f32);
            return Ok(Prepared::unary(slot, move |x, out| {
                crate::math::each(x, out, |x| scale * (x - zero_point));
            }));
        }
        let inner = inner(p.input, p.scale, p.axis)?;
        Ok(Prepared::step(move |run| {
            let (mut x, scale) = (to_f32(&run.inputs[slot]).into_owned(), to_f32(&run.inputs[scale]));
            let zero_point = zero_point.map(|z| to_f32(&run.inputs[z]));
            for (i, x) in x.iter_mut().enumerate() {
                let c = i / inner % scale.len();
                *x = scale[c] * (*x - zero_point.as_ref().map_or(0.0, |z| z[c]));
            }
            write_f32(&mut run.outputs[0], 0, &x);
            Ok(())
        }))
    }
}
