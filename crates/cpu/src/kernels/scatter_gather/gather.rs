//! `gather`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Gather;

use super::indices::Indices;
use crate::index::count;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Gather {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, x) = (p.x.slot, concrete(&p.x)?);
        let axis = p.axis.resolve(x.len())?;
        let batch = p.batch_dims as usize;
        let indices = Indices::of(p.indices, p.validate_indices);
        // `x` is batches × outer × n × inner, the indices are batches × taken.
        let (batches, outer, n) = (count(&x[..batch]), count(&x[batch..axis]), x[axis]);
        let inner = count(&x[axis + 1..]) * outputs[0].dtype.bits() / 8;
        Ok(Prepared::step(move |run| {
            let at = indices.of_size(run.inputs, n)?;
            let taken = at.len() / batches.max(1);
            let from = run.inputs[slot].bytes();
            if taken == 0 || inner == 0 {
                return Ok(());
            }
            let rows = run.pool.chunk(batches * outer * taken, 1, (1 << 16) / inner.min(1 << 16));
            run.pool.for_each_chunk(run.outputs[0].bytes(), rows * inner, |c, out| {
                for (r, to) in out.chunks_exact_mut(inner).enumerate() {
                    let row = c * rows + r;
                    let outer_row = row / taken;
                    let index = at[outer_row / outer * taken + row % taken];
                    to.copy_from_slice(&from[(outer_row * n + index) * inner..][..inner]);
                }
            });
            Ok(())
        }))
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn gathers_along_axes_and_in_batches() {
        let x = [Tensor::from_vec(&[2, 3], vec![1i32, 2, 3, 4, 5, 6]).unwrap()];
        let run = |shape: &[usize], indices: &[i32], axis, batch| {
            let i = [Tensor::from_vec(shape, indices.to_vec()).unwrap()];
            let (axis, batch) = ([Tensor::scalar::<i32>(axis)], [Tensor::scalar::<i32>(batch)]);
            let inputs: [(&str, &[Tensor]); 4] =
                [("x", &x), ("indices", &i), ("axis", &axis), ("batch_dims", &batch)];
            let out = run_op(OpKind::Gather, Opset::Ios16, &inputs, |n| n != "x" && n != "indices")?;
            Ok::<_, crate::KernelError>((out[0].shape().to_vec(), out[0].to_vec::<i32>().unwrap()))
        };
        assert_eq!(run(&[2], &[1, 0], 0, 0).unwrap(), (vec![2, 3], vec![4, 5, 6, 1, 2, 3]));
        assert_eq!(run(&[2], &[-1, 0], 1, 0).unwrap(), (vec![2, 2], vec![3, 1, 6, 4]));
        assert_eq!(run(&[], &[1], -1, 0).unwrap(), (vec![2], vec![2, 5]));
        assert_eq!(run(&[2, 2], &[0, 2, 1, 1], 1, 1).unwrap(), (vec![2, 2], vec![1, 3, 5, 5]));
        assert!(run(&[1], &[3], 1, 0).is_err());
        assert!(run(&[1], &[-4], 1, 0).is_err());
    }
}
