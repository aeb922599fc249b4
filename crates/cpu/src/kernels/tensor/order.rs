//! Sorting, for `argsort` and `topk`.

use half::f16;
use milwright_mil::DType;

use crate::{KernelError, View};

/// Returns a number for each element that sorts as the element does.
pub(super) fn keys(x: View<'_>) -> Result<Vec<f64>, KernelError> {
    Ok(match x.dtype() {
        DType::Fp32 => x.slice::<f32>().iter().map(|&x| x.into()).collect(),
        DType::Fp16 => x.slice::<f16>().iter().map(|&x| x.into()).collect(),
        other => {
            let ints = x.to_i64().ok_or_else(|| KernelError::unsupported(format!("sorting {other}")))?;
            ints.into_iter().map(|i| i as f64).collect()
        }
    })
}

/// Returns the indices of the first `k` of `n` keys in sorted order. Equal keys are ordered by index; NaN is last.
pub(super) fn sorted(n: usize, k: usize, ascending: bool, key: impl Fn(usize) -> f64) -> Vec<u32> {
    let order = |&a: &u32, &b: &u32| {
        let (x, y) = (key(a as usize), key(b as usize));
        let (x, y) = if ascending { (x, y) } else { (-x, -y) };
        let by_key = x.partial_cmp(&y).unwrap_or_else(|| x.is_nan().cmp(&y.is_nan()));
        by_key.then_with(|| a.cmp(&b))
    };
    let mut indices: Vec<u32> = (0..n as u32).collect();
    if k < n {
        if k > 0 {
            indices.select_nth_unstable_by(k - 1, order);
        }
        indices.truncate(k);
    }
    indices.sort_unstable_by(order);
    indices
}
