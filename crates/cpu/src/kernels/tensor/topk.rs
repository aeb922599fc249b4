//! `topk`

use milwright_mil::ops::defs::Topk;
use milwright_mil::{DType, TensorType};

use super::moves::{around, by_width};
use super::order::{keys, sorted};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared, View, ViewMut};

impl Kernel for Topk {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, x) = (p.x.slot, concrete(&p.x)?);
        let axis = p.axis.resolve(x.len())?;
        let ((outer, n, inner), k) = (around(&x, axis), concrete(&outputs[0])?[axis]);
        if outputs.get(1).is_some_and(|t| t.dtype == DType::UInt16) && n > 1 << 16 {
            return Err(KernelError::invalid(format!("indices of {n} elements do not fit uint16")));
        }
        let (dtype, ascending) = (outputs[0].dtype, p.ascending);
        Ok(Prepared::step(move |run| {
            let keys = keys(run.inputs[slot])?;
            // For each element of the output, its index in the input, and its index along the axis.
            let mut from = vec![0; outer * k * inner];
            let mut indices = vec![0u32; from.len()];
            for o in 0..outer {
                for i in 0..inner {
                    let at = |j: usize| (o * n + j) * inner + i;
                    for (j, index) in sorted(n, k, ascending, |j| keys[at(j)]).into_iter().enumerate() {
                        let to = (o * k + j) * inner + i;
                        (from[to], indices[to]) = (at(index as usize), index);
                    }
                }
            }
            by_width!(dtype, pick(run.inputs[slot], &from, &mut run.outputs[0]));
            match run.outputs.get_mut(1) {
                Some(out) if out.dtype() == DType::UInt16 => {
                    out.slice::<u16>().iter_mut().zip(indices).for_each(|(o, i)| *o = i as u16);
                }
                Some(out) => out.slice::<i32>().iter_mut().zip(indices).for_each(|(o, i)| *o = i as i32),
                None => {}
            }
            Ok(())
        }))
    }
}

fn pick<T: bytemuck::Pod>(x: View<'_>, from: &[usize], out: &mut ViewMut<'_>) {
    let x = x.words::<T>();
    out.words::<T>().iter_mut().zip(from).for_each(|(o, &i)| *o = x[i]);
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn takes_the_largest_or_smallest() {
        let x = [Tensor::from_vec(&[2, 3], vec![-1f32, 2., -3., 4., -5., 6.]).unwrap()];
        let run = |k: i32, axis: i32, ascending| {
            let (k, axis) = ([Tensor::scalar(k)], [Tensor::scalar(axis)]);
            let ascending = [Tensor::from_bools(&[], &[ascending]).unwrap()];
            let inputs: [(&str, &[Tensor]); 4] =
                [("x", &x), ("k", &k), ("axis", &axis), ("ascending", &ascending)];
            let out = run_op(OpKind::Topk, Opset::Ios17, &inputs, |n| n != "x").unwrap();
            (out[0].to_vec::<f32>().unwrap(), out[1].to_vec::<i32>().unwrap())
        };
        assert_eq!(run(2, 1, true), (vec![-3., -1., -5., 4.], vec![2, 0, 1, 0]));
        assert_eq!(run(1, 0, false), (vec![4., 2., 6.], vec![1, 0, 1]));
        assert_eq!(run(-1, 1, false), (vec![2., -1., -3., 6., 4., -5.], vec![1, 0, 2, 2, 0, 1]));
    }
}
