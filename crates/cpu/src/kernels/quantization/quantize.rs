//! `quantize`

use milwright_mil::ops::defs::Quantize;
use milwright_mil::{DType, TensorType};

use crate::convert::to_f32;
use crate::kernels::quantization::inner;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Quantize {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, scale, zero_point) = (p.input.slot, p.scale.slot, p.zero_point.map(|t| t.slot));
        let (inner, dtype) = (inner(p.input, p.scale, p.axis)?, outputs[0].dtype);
        let (low, high) = if dtype == DType::Int8 { (-128.0, 127.0) } else { (0.0, 255.0) };
        Ok(Prepared::step(move |run| {
            let (x, scale) = (to_f32(&run.inputs[slot]), to_f32(&run.inputs[scale]));
            let zero_point = zero_point.map(|z| to_f32(&run.inputs[z]));
            let quantize = |i: usize| {
                let c = i / inner % scale.len();
                let zero_point = zero_point.as_ref().map_or(0.0, |z| z[c]);
                ((x[i] / scale[c]).round_ties_even() + zero_point).clamp(low, high)
            };
            // Rust's `as` converts NaN to 0.
            let out = &mut run.outputs[0];
            if dtype == DType::Int8 {
                out.slice::<i8>().iter_mut().enumerate().for_each(|(i, o)| *o = quantize(i) as i8);
            } else {
                out.slice::<u8>().iter_mut().enumerate().for_each(|(i, o)| *o = quantize(i) as u8);
            }
            Ok(())
        }))
    }
}
