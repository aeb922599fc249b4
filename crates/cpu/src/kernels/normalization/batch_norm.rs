//! `batch_norm`

use milwright_mil::ops::defs::BatchNorm;
use milwright_mil::{Tensor, TensorType, ops};

use crate::index::count;
use crate::kernel::{Operand, concrete};
use crate::kernels::activation::channel_vector;
use crate::kernels::normalization::Affine;
use crate::rows::{Rows, map_rows};
use crate::{Kernel, KernelError, Map, Params, Prepared, View, convert};

impl Kernel for BatchNorm {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let channels = concrete(&p.x)?[1];
        let known = |t: ops::Operand<'_>| Some(convert::to_f32(&View::from(t.value()?)).into_owned());
        let or = |t: Option<ops::Operand<'_>>, default| t.map_or(Some(vec![default; channels]), known);
        let vectors = (known(p.mean), known(p.variance), or(p.gamma, 1.0), or(p.beta, 0.0));
        let (Some(mean), Some(variance), Some(gamma), Some(beta)) = vectors else {
            return at_run_time(p);
        };
        let scale = scale(&variance, &gamma, p.epsilon);
        let run = |x: &[&[f32]], out: &mut [f32]| {
            let operands = x[0].iter().zip(x[1]).zip(x[2]).zip(x[3]);
            for (o, (((&x, &mean), &scale), &beta)) in out.iter_mut().zip(operands) {
                *o = (x - mean) * scale + beta;
            }
        };
        let mut operands = vec![Operand::Slot(p.x.slot)];
        for vector in [mean, scale, beta] {
            let vector = Tensor::from_vec(&[vector.len()], vector);
            let vector = vector.map_err(|e| KernelError::invalid(e.to_string()))?;
            operands.push(Operand::Constant(channel_vector(&p.x, &vector)?));
        }
        Ok(Prepared::Map(Map { simple: None, run: Box::new(run), operands }))
    }
}

/// Prepares a step that reads its parameters, such as compressed ones, at run time.
fn at_run_time(p: &Params<'_, BatchNorm>) -> Result<Prepared, KernelError> {
    let shape = concrete(&p.x)?;
    let (channels, rows) = (shape[1], Rows::new(&shape, &(2..shape.len()).collect::<Vec<_>>()));
    debug_assert_eq!(rows.count, count(&shape[..2]));
    let (slot, mean, variance) = (p.x.slot, p.mean.slot, p.variance.slot);
    let epsilon = p.epsilon;
    let affine = Affine::new(p.gamma, p.beta);
    Ok(Prepared::step(move |run| {
        let x = &run.inputs;
        let mean = convert::to_f32(&x[mean]);
        let (gamma, beta) = affine.read(x, channels);
        let scale = scale(&convert::to_f32(&x[variance]), &gamma, epsilon);
        map_rows(&rows, &x[slot], &mut run.outputs[0], run.pool, |i, row| {
            let c = i % channels;
            row.iter_mut().for_each(|x| *x = (*x - mean[c]) * scale[c] + beta[c]);
        });
        Ok(())
    }))
}

fn scale(variance: &[f32], gamma: &[f32], epsilon: f32) -> Vec<f32> {
    let one = |(&v, &g): (&f32, &f32)| (f64::from(g) / (f64::from(v) + f64::from(epsilon)).sqrt()) as f32;
    variance.iter().zip(gamma).map(one).collect()
}
