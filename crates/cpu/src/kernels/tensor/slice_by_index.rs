//! `slice_by_index`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::SliceByIndex;
use milwright_mil::ops::tensor::slice_by_index::{Bounds, Slice, Taken};

use super::moves::{copy, ints, produce};
use crate::index::{Walk, strides};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared, View};

impl Kernel for SliceByIndex {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, slicing) = (p.x.slot, Slicing::new(&p.bounds(), concrete(&p.x)?.len())?);
        let again = slicing.clone();
        produce(
            outputs,
            move |inputs| slicing.shape(inputs, inputs[x].shape()),
            move |inputs, out, pool| {
                let shape = inputs[x].shape();
                let taken = again.taken(inputs, shape)?;
                if again.kept(&taken).iter().ne(out.shape()) {
                    return Err(KernelError::invalid(
                        "the slice has another shape than the program declares",
                    ));
                }
                copy(&walk(&taken, shape), inputs[x], out, pool)
            },
        )
    }
}

/// The slices of `slice_by_index` or `slice_update`. Their `begin` and `end` may be known only at run time.
#[derive(Clone)]
pub(super) struct Slicing {
    slices: Vec<Slice>,
    begin: usize,
    end: usize,
}

impl Slicing {
    pub(super) fn new(bounds: &Bounds<'_>, rank: usize) -> Result<Slicing, KernelError> {
        Ok(Slicing { slices: bounds.slices(rank)?, begin: bounds.begin.slot, end: bounds.end.slot })
    }

    /// Returns the elements that each slice takes of its dimension.
    pub(super) fn taken(&self, inputs: &[View<'_>], shape: &[usize]) -> Result<Vec<Taken>, KernelError> {
        let (begin, end) = (ints(inputs, self.begin)?, ints(inputs, self.end)?);
        let invalid = || KernelError::invalid("`begin` and `end` need an element for each dimension");
        let mut taken = Vec::with_capacity(shape.len());
        for (d, &slice) in self.slices.iter().enumerate() {
            let mut slice = slice;
            if !slice.from_start {
                slice.begin = Some(*begin.get(d).ok_or_else(invalid)?);
            }
            if !slice.to_end && !slice.squeeze {
                slice.end = Some(*end.get(d).ok_or_else(invalid)?);
            }
            taken.push(slice.take(shape[d])?.ok_or_else(invalid)?);
        }
        Ok(taken)
    }

    /// Returns the shape of the slice.
    fn shape(&self, inputs: &[View<'_>], shape: &[usize]) -> Result<Vec<usize>, KernelError> {
        Ok(self.kept(&self.taken(inputs, shape)?))
    }

    pub(super) fn kept(&self, taken: &[Taken]) -> Vec<usize> {
        self.slices.iter().zip(taken).filter(|(s, _)| !s.squeeze).map(|(_, t)| t.count).collect()
    }
}

/// Returns the walk over the taken elements of a tensor of this shape.
pub(super) fn walk(taken: &[Taken], shape: &[usize]) -> Walk {
    let own = strides(shape);
    let counts: Vec<usize> = taken.iter().map(|t| t.count).collect();
    let offset: usize = taken.iter().zip(&own).map(|(t, &s)| t.first * s).sum();
    let steps =
        taken.iter().zip(&own).map(|(t, &s)| if t.count > 1 { t.step as isize * s as isize } else { 0 });
    Walk::new(&counts, steps, offset as isize)
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    /// What coremltools makes of TensorFlow's `x[i]` for a matrix.
    #[test]
    fn slices_the_first_dimensions_only() {
        let x = Tensor::from_vec(&[3, 2], (0..6).collect::<Vec<i32>>()).unwrap();
        let (i, next) =
            ([Tensor::from_vec(&[1], vec![1]).unwrap()], [Tensor::from_vec(&[1], vec![2]).unwrap()]);
        let squeeze = [Tensor::from_bools(&[1], &[true]).unwrap()];
        for known in [true, false] {
            let inputs: [(&str, &[Tensor]); 4] =
                [("x", std::slice::from_ref(&x)), ("begin", &i), ("end", &next), ("squeeze_mask", &squeeze)];
            let constant = |n: &str| n != "x" && (known || n == "squeeze_mask");
            let out = run_op(OpKind::SliceByIndex, Opset::Ios15, &inputs, constant).unwrap();
            assert_eq!((out[0].shape(), out[0].to_vec().unwrap()), (&[2][..], vec![2, 3]));
        }
    }

    #[test]
    fn slices_constant_and_dynamic() {
        let x = Tensor::from_vec(&[3, 4], (0..12).collect::<Vec<i32>>()).unwrap();
        let v = |v: [i32; 2]| [Tensor::from_vec(&[2], v.to_vec()).unwrap()];
        let b = |v: [bool; 2]| [Tensor::from_bools(&[2], &v).unwrap()];
        for known in [true, false] {
            let run = |begin, end, stride, em, sm| {
                let inputs: [(&str, &[Tensor]); 6] = [
                    ("x", std::slice::from_ref(&x)),
                    ("begin", &v(begin)),
                    ("end", &v(end)),
                    ("stride", &v(stride)),
                    ("end_mask", &b(em)),
                    ("squeeze_mask", &b(sm)),
                ];
                let constant = |n: &str| n != "x" && (known || !matches!(n, "begin" | "end"));
                run_op(OpKind::SliceByIndex, Opset::Ios15, &inputs, constant)
            };
            let no = [false; 2];
            let out = run([1, 0], [3, 4], [1, 2], no, no).unwrap();
            assert_eq!((out[0].shape(), out[0].to_vec().unwrap()), (&[2, 2][..], vec![4, 6, 8, 10]));
            let out = run([-1, 3], [0, 0], [1, -1], [false, true], [true, false]).unwrap();
            assert_eq!((out[0].shape(), out[0].to_vec().unwrap()), (&[4][..], vec![11, 10, 9, 8]));
            assert!(run([3, 0], [0, 0], [1, 1], no, [true, false]).is_err());
        }
    }
}
