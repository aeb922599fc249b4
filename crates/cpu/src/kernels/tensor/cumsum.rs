//! `cumsum`

use half::f16;
use milwright_mil::ops::defs::Cumsum;
use milwright_mil::{DType, TensorType};

use super::moves::around;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Cumsum {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, x) = (p.x.slot, concrete(&p.x)?);
        let sums =
            Sums { around: around(&x, p.axis.resolve(x.len())?), exclusive: p.exclusive, reverse: p.reverse };
        let dtype = p.x.dtype;
        Ok(Prepared::step(move |run| {
            let (x, out) = (run.inputs[slot], &mut run.outputs[0]);
            match dtype {
                DType::Fp16 => {
                    let add = |a: f32, x: f16| a + x.to_f32();
                    sums.run(x.slice(), out.slice(), 0.0, add, f16::from_f32);
                }
                DType::Fp32 => sums.run(x.slice(), out.slice(), 0f32, |a, x: f32| a + x, |a| a),
                DType::Int32 => sums.run(x.slice(), out.slice(), 0i32, |a, x: i32| a.wrapping_add(x), |a| a),
                other => return Err(KernelError::unsupported(format!("elements of type {other}"))),
            }
            Ok(())
        }))
    }
}

struct Sums {
    around: (usize, usize, usize),
    exclusive: bool,
    reverse: bool,
}

impl Sums {
    fn run<T: Copy, A: Copy>(
        &self,
        x: &[T],
        out: &mut [T],
        zero: A,
        add: impl Fn(A, T) -> A,
        round: impl Fn(A) -> T,
    ) {
        let (outer, n, inner) = self.around;
        let mut sums = vec![zero; inner];
        for o in 0..outer {
            sums.fill(zero);
            for j in 0..n {
                let j = if self.reverse { n - 1 - j } else { j };
                let row = (o * n + j) * inner..(o * n + j + 1) * inner;
                for ((to, &x), sum) in out[row.clone()].iter_mut().zip(&x[row]).zip(&mut sums) {
                    let next = add(*sum, x);
                    *to = round(if self.exclusive { *sum } else { next });
                    *sum = next;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn sums_every_way() {
        let x = [Tensor::from_vec(&[2, 3], vec![1i32, 2, 3, 4, 5, 6]).unwrap()];
        let run = |axis: i32, exclusive, reverse| {
            let axis = [Tensor::scalar(axis)];
            let flag = |b| [Tensor::from_bools(&[], &[b]).unwrap()];
            let (exclusive, reverse) = (flag(exclusive), flag(reverse));
            let inputs: [(&str, &[Tensor]); 4] =
                [("x", &x), ("axis", &axis), ("exclusive", &exclusive), ("reverse", &reverse)];
            run_op(OpKind::Cumsum, Opset::Ios15, &inputs, |n| n != "x").unwrap()[0].to_vec::<i32>().unwrap()
        };
        assert_eq!(run(1, false, false), [1, 3, 6, 4, 9, 15]);
        assert_eq!(run(0, false, false), [1, 2, 3, 5, 7, 9]);
        assert_eq!(run(1, true, false), [0, 1, 3, 0, 4, 9]);
        assert_eq!(run(1, false, true), [6, 5, 3, 15, 11, 6]);
        assert_eq!(run(1, true, true), [5, 3, 0, 11, 6, 0]);
    }
}
