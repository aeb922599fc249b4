//! `non_zero`

use half::f16;
use milwright_mil::ops::defs::NonZero;
use milwright_mil::{DType, TensorType};

use super::moves::make;
use crate::index::strides;
use crate::{Kernel, KernelError, Params, Prepared, View};

impl Kernel for NonZero {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let slot = p.x.slot;
        Ok(Prepared::dynamic(move |inputs, _, memory| {
            let x = inputs[slot];
            let (found, own) = (places(x)?, strides(x.shape()));
            let rank = own.len();
            let tensor = make(memory, DType::Int32, &[found.len(), rank], |out| {
                if rank > 0 {
                    for (row, place) in out.slice::<i32>().chunks_exact_mut(rank).zip(found) {
                        for (d, index) in row.iter_mut().enumerate() {
                            *index = (place / own[d] % x.shape()[d]) as i32;
                        }
                    }
                }
                Ok(())
            })?;
            Ok(vec![tensor])
        }))
    }
}

/// Returns the positions of all elements that are not zero.
fn places(x: View<'_>) -> Result<Vec<usize>, KernelError> {
    fn of<T: Copy>(x: &[T], not_zero: impl Fn(T) -> bool) -> Vec<usize> {
        (0..x.len()).filter(|&i| not_zero(x[i])).collect()
    }
    Ok(match x.dtype() {
        DType::Fp32 => of(x.slice::<f32>(), |x| x != 0.0),
        DType::Fp16 => of(x.slice::<f16>(), |x| x != f16::ZERO),
        DType::Int32 => of(x.slice::<i32>(), |x| x != 0),
        DType::Bool => of(x.bytes(), |x| x != 0),
        other => return Err(KernelError::unsupported(format!("elements of type {other}"))),
    })
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn finds_indices() {
        let x = [Tensor::from_vec(&[2, 2], vec![0f32, -0.0, 3., -1.]).unwrap()];
        let out = run_op(OpKind::NonZero, Opset::Ios15, &[("x", &x)], |_| false).unwrap();
        assert_eq!((out[0].shape(), out[0].to_vec().unwrap()), (&[2, 2][..], vec![1, 0, 1, 1]));
    }
}
