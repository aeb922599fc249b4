//! `transpose`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Transpose;

use super::moves::{alias, walk, walk_step};
use crate::index::strides;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Transpose {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, x) = (p.x.slot, concrete(&p.x)?);
        let perm = p.perm.resolve(x.len())?;
        let own = strides(&x);
        let steps: Vec<usize> = perm.iter().map(|&d| own[d]).collect();
        let walk = walk(&concrete(&outputs[0])?, &steps, 0);
        // If the walk is dense, only dimensions of size 1 have moved.
        if walk.is_dense() { alias(slot, outputs) } else { Ok(walk_step(slot, walk)) }
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn transposes_every_shape() {
        let cases: [(&[usize], &[i32]); 7] = [
            (&[3, 5], &[1, 0]),
            (&[37, 70], &[1, 0]),
            (&[2, 33, 5, 40], &[0, 3, 1, 2]),
            (&[2, 40, 16, 16], &[0, 2, 3, 1]),
            (&[2, 3, 4, 5], &[3, 2, 1, 0]),
            (&[1, 7, 1, 5], &[0, 2, 1, 3]),
            (&[0, 4], &[1, 0]),
        ];
        for (shape, perm) in cases {
            let n: usize = shape.iter().product();
            let x = Tensor::from_vec(shape, (0..n as u16).collect::<Vec<u16>>()).unwrap();
            let p = [Tensor::from_vec(&[perm.len()], perm.to_vec()).unwrap()];
            let inputs: [(&str, &[Tensor]); 2] = [("x", &[x]), ("perm", &p)];
            let out = run_op(OpKind::Transpose, Opset::Ios17, &inputs, |n| n == "perm").unwrap();
            let to = out[0].shape();
            for (at, &v) in out[0].to_vec::<u16>().unwrap().iter().enumerate() {
                let mut index = vec![0; shape.len()];
                let mut rest = at;
                for d in (0..to.len()).rev() {
                    index[perm[d] as usize] = rest % to[d];
                    rest /= to[d];
                }
                let from = index.iter().zip(shape).fold(0, |o, (i, n)| o * n + i);
                assert_eq!(v as usize, from, "{shape:?} {perm:?}");
            }
        }
    }
}
