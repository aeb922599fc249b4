//! `concat`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Concat;

use crate::index::count;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Concat {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&outputs[0])?;
        let axis = p.axis.resolve(shape.len())?;
        let interleave = p.interleave;
        let slots = p.values.iter().map(|v| v.slot).collect::<Vec<_>>();
        let element = outputs[0].dtype.bits() / 8;
        let outer = count(&shape[..axis]);
        let inner = count(&shape[axis + 1..]) * element;
        // The bytes that each input contributes at a time.
        let tensors = &p.values;
        let sizes = tensors
            .iter()
            .map(|t| concrete(t).map(|s| s.get(axis).copied().unwrap_or(1)))
            .collect::<Result<Vec<_>, _>>()?;
        let (repeats, parts): (usize, Vec<usize>) = if interleave {
            (outer * sizes.first().copied().unwrap_or(0), vec![inner; sizes.len()])
        } else {
            (outer, sizes.iter().map(|n| n * inner).collect())
        };
        Ok(Prepared::step(move |run| {
            let mut out = run.outputs[0].bytes();
            for i in 0..repeats {
                for (&slot, &part) in slots.iter().zip(&parts) {
                    let (to, rest) = out.split_at_mut(part);
                    to.copy_from_slice(&run.inputs[slot].bytes()[i * part..(i + 1) * part]);
                    out = rest;
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
    fn joins_and_interleaves() {
        let a = Tensor::from_vec(&[2, 1], vec![1i32, 2]).unwrap();
        let b = Tensor::from_vec(&[2, 2], vec![3i32, 4, 5, 6]).unwrap();
        let axis = [Tensor::scalar(-1i32)];
        let known = |name: &str| name != "values";
        let out =
            run_op(OpKind::Concat, Opset::Ios15, &[("values", &[a, b.clone()]), ("axis", &axis)], known);
        assert_eq!(out.unwrap()[0].to_vec::<i32>().unwrap(), [1, 3, 4, 2, 5, 6]);
        let c = Tensor::from_vec(&[2, 2], vec![7i32, 8, 9, 10]).unwrap();
        let yes = [Tensor::from_bools(&[], &[true]).unwrap()];
        let inputs: [(&str, &[Tensor]); 3] = [("values", &[b, c]), ("axis", &axis), ("interleave", &yes)];
        let out = run_op(OpKind::Concat, Opset::Ios15, &inputs, known).unwrap();
        assert_eq!(out[0].to_vec::<i32>().unwrap(), [3, 7, 4, 8, 5, 9, 6, 10]);
    }
}
