//! `argsort`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Argsort;

use super::moves::around;
use super::order::{keys, sorted};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Argsort {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, x) = (p.x.slot, concrete(&p.x)?);
        let (outer, n, inner) = around(&x, p.axis.resolve(x.len())?);
        let ascending = p.ascending;
        Ok(Prepared::step(move |run| {
            let keys = keys(run.inputs[slot])?;
            let out = run.outputs[0].slice::<i32>();
            for o in 0..outer {
                for i in 0..inner {
                    let at = |j: usize| (o * n + j) * inner + i;
                    let order = sorted(n, n, ascending, |j| keys[at(j)]);
                    for (j, index) in order.into_iter().enumerate() {
                        out[at(j)] = index as i32;
                    }
                }
            }
            Ok(())
        }))
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn sorts_along_an_axis() {
        let x = [Tensor::from_vec(&[2, 3], vec![3f32, 1., 2., 1., 1., 5.]).unwrap()];
        for (axis, expected) in [(1, [0, 2, 1, 2, 0, 1]), (0, [0, 0, 1, 1, 1, 0])] {
            let axis = [Tensor::scalar::<i32>(axis)];
            let inputs: [(&str, &[Tensor]); 2] = [("x", &x), ("axis", &axis)];
            let out = run_op(OpKind::Argsort, Opset::Ios15, &inputs, |n| n != "x").unwrap();
            assert_eq!(out[0].to_vec::<i32>().unwrap(), expected);
        }
    }
}
