//! `einsum`

use std::collections::BTreeMap;

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Einsum;
use milwright_mil::ops::linear::einsum::parse;

use super::float_output;
use crate::convert::to_f32;
use crate::index::{Dims, Walk, count, strides};
use crate::kernel::concrete;
use crate::product::{Matrix, product};
use crate::{Kernel, KernelError, Params, Prepared, Step};

impl Kernel for Einsum {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        if !outputs[0].dtype.is_float() {
            return Err(KernelError::unsupported("einsum of integers"));
        }
        let names = parse(p.equation)?;
        let tensors = &p.values;
        let shapes = [concrete(tensors[0].tensor()?)?, concrete(tensors[1].tensor()?)?];
        let mut sizes: BTreeMap<u8, usize> = BTreeMap::new();
        for (names, shape) in names.iter().zip(&shapes) {
            for (&name, &n) in names.iter().zip(shape) {
                let size = sizes.entry(name).or_insert(1);
                *size = (*size).max(n);
            }
        }
        let [a, b, out] = &names;
        // Each dimension is one of: batch (in both operands and the result), rows, columns, or summed. A summed
        // dimension that only one operand has is part of the inner size, and is repeated in the other operand.
        let pick = |f: &dyn Fn(&u8) -> bool| sizes.keys().copied().filter(|n| f(n)).collect::<Vec<u8>>();
        let batch = pick(&|n| out.contains(n) && a.contains(n) && b.contains(n));
        let rows = pick(&|n| out.contains(n) && a.contains(n) && !b.contains(n));
        let columns = pick(&|n| out.contains(n) && !a.contains(n));
        let inner = pick(&|n| !out.contains(n));
        let size = |names: &[u8]| names.iter().map(|n| sizes[n]).collect::<Vec<usize>>();
        let gather = |order: [&[u8]; 3], own: &[u8], shape: &[usize]| {
            let order = order.concat();
            let own_strides = strides(shape);
            let stride = |n: &u8| match own.iter().position(|o| o == n) {
                Some(d) if shape[d] > 1 => own_strides[d] as isize,
                _ => 0,
            };
            Walk::new(&size(&order), order.iter().map(stride).collect::<Vec<_>>(), 0)
        };
        let walk_a = gather([&batch, &rows, &inner], a, &shapes[0]);
        let walk_b = gather([&batch, &inner, &columns], b, &shapes[1]);
        let [batches, m, n, k] = [&batch, &rows, &columns, &inner].map(|names| count(&size(names)));
        // The product has the order batch, rows, columns; this walk reorders it to that of the result.
        let made = [&batch[..], &rows, &columns].concat();
        let made_strides = strides(&size(&made));
        let back: Dims =
            out.iter().map(|n| made_strides[made.iter().position(|m| m == n).unwrap_or(0)]).collect();
        let walk_out = Walk::new(&size(out), back.iter().map(|&s| s as isize), 0);
        let slots = p.values.iter().map(|v| v.slot).collect::<Vec<_>>();
        let step = Step::new(move |run| {
            let (x, y) = (to_f32(&run.inputs[slots[0]]), to_f32(&run.inputs[slots[1]]));
            let mut left = vec![0.0; batches * m * k];
            let mut right = vec![0.0; batches * k * n];
            walk_a.gather(&x, 0, &mut left);
            walk_b.gather(&y, 0, &mut right);
            let mut result = vec![0.0; batches * m * n];
            if m * n > 0 {
                run.pool.for_each_chunk(&mut result, m * n, |i, out| {
                    let a = Matrix::rows(&left[i * m * k..], k);
                    let b = Matrix::rows(&right[i * k * n..], n);
                    product([m, k, n], a, b, out, n, false);
                });
            }
            float_output(run, |out, _, epilogue| {
                walk_out.gather(&result, 0, out);
                epilogue.apply(0, out);
            });
            Ok(())
        });
        Ok(step.with_epilogue().into())
    }
}
