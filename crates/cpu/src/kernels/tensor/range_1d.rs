//! `range_1d`

use half::f16;
use milwright_mil::ops::defs::Range1d;
use milwright_mil::ops::tensor::range_1d::{count_floats, count_ints};
use milwright_mil::{DType, TensorType};

use super::moves::produce;
use crate::{Kernel, KernelError, Params, Prepared, View};

impl Kernel for Range1d {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let slots = [p.start.slot, p.end.slot, p.step.slot];
        let dtype = outputs[0].dtype;
        let count = move |inputs: &[View<'_>]| {
            Ok::<_, KernelError>(match dtype {
                DType::Int32 => {
                    let [start, end, step] = slots.map(|s| i64::from(inputs[s].slice::<i32>()[0]));
                    count_ints(start, end, step)?
                }
                _ => {
                    let [start, end, step] = slots.map(|s| float(inputs[s]));
                    count_floats(start, end, step, dtype == DType::Fp16)?
                }
            })
        };
        produce(
            outputs,
            move |inputs| Ok(vec![count(inputs)?]),
            move |inputs, out, _| {
                if count(inputs)? != out.elements() {
                    return Err(KernelError::invalid(
                        "the range has another length than the program declares",
                    ));
                }
                if dtype == DType::Int32 {
                    let [start, _, step] = slots.map(|s| inputs[s].slice::<i32>()[0]);
                    for (i, o) in out.slice::<i32>().iter_mut().enumerate() {
                        *o = start.wrapping_add((i as i32).wrapping_mul(step));
                    }
                    return Ok(());
                }
                let [start, _, step] = slots.map(|s| float(inputs[s]));
                let value = |i: usize| start + i as f32 * step;
                if dtype == DType::Fp16 {
                    let values = out.slice::<f16>().iter_mut().enumerate();
                    values.for_each(|(i, o)| *o = f16::from_f32(value(i)));
                } else {
                    out.slice::<f32>().iter_mut().enumerate().for_each(|(i, o)| *o = value(i));
                }
                Ok(())
            },
        )
    }
}

fn float(x: View<'_>) -> f32 {
    if x.dtype() == DType::Fp16 { x.slice::<f16>()[0].to_f32() } else { x.slice::<f32>()[0] }
}
