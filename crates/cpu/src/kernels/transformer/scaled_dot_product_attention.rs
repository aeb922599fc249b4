//! `scaled_dot_product_attention`

use milwright_mil::ops::defs::ScaledDotProductAttention;
use milwright_mil::{DType, TensorType};

use crate::convert::to_f32;
use crate::index::{Walk, count};
use crate::kernel::concrete;
use crate::kernels::linear::{batch_of, float_output};
use crate::product::{Matrix, product};
use crate::{Kernel, KernelError, Params, Prepared, Step};

impl Kernel for ScaledDotProductAttention {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (q, k, v) = (concrete(&p.query)?, concrete(&p.key)?, concrete(&p.value)?);
        let rank = q.len();
        let [l, e, s, w] = [q[rank - 2], q[rank - 1], k[rank - 2], v[rank - 1]];
        let out = concrete(&outputs[0])?;
        let batch = &out[..rank - 2];
        let starts =
            [(&q, l * e), (&k, s * e), (&v, s * w)].map(|(shape, n)| starts(batch_of(shape), batch, n));
        let scale = 1.0 / (e as f32).sqrt();
        let slots = [p.query.slot, p.key.slot, p.value.slot];
        let mask = match p.attn_mask {
            None => None,
            Some(mask) => {
                let scores = [batch, &[l, s]].concat();
                let walk = Walk::broadcast(&concrete(&mask)?, &scores);
                Some((mask.slot, walk, mask.dtype == DType::Bool))
            }
        };
        let step = Step::new(move |run| {
            let [q, k, v] = slots.map(|slot| to_f32(&run.inputs[slot]));
            let mask = mask.as_ref().map(|(slot, walk, boolean)| {
                let mut values = to_f32(&run.inputs[*slot]).into_owned();
                if *boolean {
                    values.iter_mut().for_each(|x| *x = if *x != 0.0 { 0.0 } else { f32::NEG_INFINITY });
                }
                (values, walk)
            });
            float_output(run, |out, pool, epilogue| {
                if l * w == 0 {
                    return;
                }
                pool.for_each_chunk(out, l * w, |i, out| {
                    let [q, k, v] = [&q[starts[0][i]..], &k[starts[1][i]..], &v[starts[2][i]..]];
                    let mut scores = vec![0.0; l * s];
                    let keys = Matrix::transposed(k, e);
                    product([l, e, s], Matrix::rows(q, e), keys, &mut scores, s, false);
                    scores.iter_mut().for_each(|x| *x *= scale);
                    if let Some((values, walk)) = &mask {
                        let mut own = vec![0.0; l * s];
                        walk.gather(values, i * l * s, &mut own);
                        scores.iter_mut().zip(&own).for_each(|(x, m)| *x += m);
                    }
                    scores.chunks_mut(s.max(1)).for_each(softmax);
                    product([l, s, w], Matrix::rows(&scores, s), Matrix::rows(v, w), out, w, false);
                    epilogue.apply(i * l * w, out);
                });
            });
            Ok(())
        });
        Ok(step.with_epilogue().into())
    }
}

/// Returns where the matrix of `n` elements of each batch position starts, for an operand whose own batch is `own`.
fn starts(own: &[usize], batch: &[usize], n: usize) -> Vec<usize> {
    let each: Vec<usize> = (0..count(own)).map(|i| i * n).collect();
    let mut starts = vec![0; count(batch)];
    Walk::broadcast(own, batch).gather(&each, 0, &mut starts);
    starts
}

fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = (*x - max).exp();
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}
