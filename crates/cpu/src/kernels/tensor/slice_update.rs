//! `slice_update`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::SliceUpdate;

use super::moves::by_width;
use super::slice_by_index::{Slicing, walk};
use crate::index::Walk;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared, Step, View, ViewMut};

impl Kernel for SliceUpdate {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, update) = (p.x.slot, p.update.slot);
        let slicing = Slicing::new(&p.bounds(), concrete(&p.x)?.len())?;
        let step = Step::new(move |run| {
            let taken = slicing.taken(run.inputs, run.inputs[x].shape())?;
            if slicing.kept(&taken).iter().ne(run.inputs[update].shape()) {
                return Err(KernelError::invalid("`update` has another shape than the slice"));
            }
            let walk = walk(&taken, run.inputs[x].shape());
            run.take(x);
            by_width!(run.inputs[x].dtype(), write(&walk, run.inputs[update], &mut run.outputs[0]));
            Ok(())
        });
        Ok(step.updating(x).into())
    }
}

fn write<T: bytemuck::Pod>(walk: &Walk, update: View<'_>, out: &mut ViewMut<'_>) {
    let (update, out) = (update.words::<T>(), out.words::<T>());
    walk.runs(0, update.len(), |at, offset, stride, n| {
        if stride == 1 {
            out[offset..offset + n].copy_from_slice(&update[at..at + n]);
        } else {
            for (i, &u) in update[at..at + n].iter().enumerate() {
                out[(offset as isize + i as isize * stride) as usize] = u;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn writes_into_a_slice() {
        let x = [Tensor::from_vec(&[2, 4], vec![0i32; 8]).unwrap()];
        let update = [Tensor::from_vec(&[1, 2], vec![7i32, 8]).unwrap()];
        let v = |v: [i32; 2]| [Tensor::from_vec(&[2], v.to_vec()).unwrap()];
        let inputs: [(&str, &[Tensor]); 5] = [
            ("x", &x),
            ("update", &update),
            ("begin", &v([1, 0])),
            ("end", &v([2, 3])),
            ("stride", &v([1, 2])),
        ];
        let out = run_op(OpKind::SliceUpdate, Opset::Ios18, &inputs, |n| n == "stride").unwrap();
        assert_eq!(out[0].to_vec::<i32>().unwrap(), [0, 0, 0, 0, 7, 0, 8, 0]);
    }
}
