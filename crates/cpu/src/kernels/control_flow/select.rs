//! `select`

use milwright_mil::TensorType;
use milwright_mil::ops::Operand;
use milwright_mil::ops::defs::Select;

use crate::index::Walk;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared, Run, with_width};

impl Kernel for Select {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&outputs[0])?;
        let operand = |t: Operand<'_>| -> Result<(usize, Walk), KernelError> {
            Ok((t.slot, Walk::broadcast(&concrete(&t)?, &shape)))
        };
        let operands = [operand(p.cond)?, operand(p.a)?, operand(p.b)?];
        let dtype = outputs[0].dtype;
        let run = with_width!(dtype, T => select::<T>, else => return Err(KernelError::unsupported(
            format!("a choice between tensors of {dtype}"),
        )));
        Ok(Prepared::step(move |r| {
            run(r, &operands);
            Ok(())
        }))
    }
}

fn select<T: bytemuck::Pod + Send>(run: &mut Run<'_>, operands: &[(usize, Walk); 3]) {
    /// Elements that are broadcast at a time.
    const BLOCK: usize = 1024;
    let [(cond, cond_walk), (a, a_walk), (b, b_walk)] = operands;
    let cond = run.inputs[*cond].slice::<u8>();
    let (a, b) = (run.inputs[*a].words::<T>(), run.inputs[*b].words::<T>());
    let (mut conds, mut others) = ([0u8; BLOCK], [T::zeroed(); BLOCK]);
    for (i, out) in run.outputs[0].words::<T>().chunks_mut(BLOCK).enumerate() {
        let (conds, others) = (&mut conds[..out.len()], &mut others[..out.len()]);
        cond_walk.gather(cond, i * BLOCK, conds);
        b_walk.gather(b, i * BLOCK, others);
        a_walk.gather(a, i * BLOCK, out);
        for ((o, &other), &cond) in out.iter_mut().zip(&*others).zip(&*conds) {
            *o = if cond != 0 { *o } else { other };
        }
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor {
        let inputs: [(&str, &[Tensor]); 3] = [("cond", &[cond]), ("a", &[a]), ("b", &[b])];
        run_op(OpKind::Select, Opset::Ios15, &inputs, |_| false).unwrap().remove(0)
    }

    #[test]
    fn broadcasts_all_three() {
        let cond = Tensor::from_bools(&[2, 1], &[true, false]).unwrap();
        let a = Tensor::from_vec(&[3], vec![1f32, f32::NAN, 3.0]).unwrap();
        let out = select(cond, a, Tensor::scalar(-1f32));
        assert_eq!(out.shape(), [2, 3]);
        let out = out.to_vec::<f32>().unwrap();
        assert!(out[1].is_nan());
        assert_eq!([out[0], out[2], out[3], out[4], out[5]], [1.0, 3.0, -1.0, -1.0, -1.0]);
        let yes = Tensor::from_bools(&[], &[true]).unwrap();
        assert_eq!(select(yes, Tensor::scalar(1i32), Tensor::scalar(2i32)), Tensor::scalar(1i32));
    }
}
