//! `scaled_dot_product_attention`

use crate::TensorType;
use crate::op;
use crate::ops::elementwise_binary::broadcast_shapes;
use crate::ops::{InferError, Inferred};

op! {
    /// `softmax(query · keyᵀ / √E + attn_mask) · value`.
    ///
    /// `query` is B… × L × E, `key` is B… × S × E, `value` is B… × S × V; the result is B… × L × V. The dimensions B…
    /// broadcast to each other, `attn_mask` to B… × L × S: its numbers are added, `false` is minus infinity.
    ScaledDotProductAttention since Ios18 {
        query: Operand<T>,
        key: Operand<T>,
        value: Operand<T>,
        attn_mask: Option<Operand<M>>,
    }
    where T: [Fp16, Fp32], M: [Fp16, Fp32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (q, k, v) = (p.query, p.key, p.value);
    let rank = q.rank();
    if rank < 3 || k.rank() != rank || v.rank() != rank {
        return Err(InferError(format!(
            "`query` is a {q}, `key` a {k}, `value` a {v}: all must have one rank, at least 3"
        )));
    }
    let (l, s, e) = (rank - 2, rank - 2, rank - 1);
    let batch = broadcast_shapes(&k.shape[..s], &v.shape[..s])
        .and_then(|batch| broadcast_shapes(&q.shape[..l], &batch))?;
    if !q.shape[e].agrees(k.shape[e]) || !k.shape[s].agrees(v.shape[s]) {
        return Err(InferError(format!(
            "the shapes of `query`, a {q}, `key`, a {k}, and `value`, a {v}, do not fit"
        )));
    }
    if let Some(mask) = p.attn_mask {
        let wanted: Vec<_> = batch.iter().copied().chain([q.shape[l], k.shape[s]]).collect();
        let fits = mask.rank() <= rank
            && mask
                .shape
                .iter()
                .rev()
                .zip(wanted.iter().rev())
                .all(|(m, w)| m.fixed() == Some(1) || m.agrees(*w));
        if !fits {
            return Err(InferError(format!("`attn_mask`, a {mask}, does not broadcast to the scores")));
        }
    }
    let shape: Vec<_> = batch.into_iter().chain([q.shape[l], v.shape[e]]).collect();
    Ok(vec![TensorType::new(q.dtype, shape).into()])
}
