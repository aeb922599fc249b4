//! `batch_norm`

use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::BatchNorm;
use milwright_mil::{Tensor, TensorType};

use crate::index::count;
use crate::kernel::{OpViewExt, Operand};
use crate::kernels::activation::channel_vector;
use crate::kernels::normalization::Affine;
use crate::rows::{Rows, map_rows};
use crate::{Kernel, KernelError, Map, Prepared, View, convert};

impl Kernel for BatchNorm {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let names = ["mean", "variance", "gamma", "beta"];
        let epsilon = op.float("epsilon")?;
        if names.iter().any(|n| op.has(n) && op.known_tensor(n).is_none()) {
            return at_run_time(op, epsilon);
        }
        let vector = |name: &str, default: f32| -> Result<Vec<f32>, KernelError> {
            let Some(t) = op.known_tensor(name) else { return Ok(vec![default; op.shape("x")?[1]]) };
            Ok(convert::to_f32(&View::from(t)).into_owned())
        };
        let (mean, beta) = (vector("mean", 0.0)?, vector("beta", 0.0)?);
        let scale = scale(&vector("variance", 1.0)?, &vector("gamma", 1.0)?, epsilon);
        let run = |x: &[&[f32]], out: &mut [f32]| {
            let operands = x[0].iter().zip(x[1]).zip(x[2]).zip(x[3]);
            for (o, (((&x, &mean), &scale), &beta)) in out.iter_mut().zip(operands) {
                *o = (x - mean) * scale + beta;
            }
        };
        let mut operands = vec![Operand::Slot(op.slot("x")?)];
        for vector in [mean, scale, beta] {
            let vector = Tensor::from_vec(&[vector.len()], vector);
            let vector = vector.map_err(|e| KernelError::invalid(e.to_string()))?;
            operands.push(Operand::Constant(channel_vector(op, &vector)?));
        }
        Ok(Prepared::Map(Map { run: Box::new(run), operands }))
    }
}

/// The same, on parameters that become known only when the op runs, such as compressed ones.
fn at_run_time(op: &OpView<'_>, epsilon: f32) -> Result<Prepared, KernelError> {
    let shape = op.shape("x")?;
    let (channels, rows) = (shape[1], Rows::new(&shape, &(2..shape.len()).collect::<Vec<_>>()));
    debug_assert_eq!(rows.count, count(&shape[..2]));
    let (slot, mean, variance) = (op.slot("x")?, op.slot("mean")?, op.slot("variance")?);
    let affine = Affine::new(op);
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
