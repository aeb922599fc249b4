//! `pad`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred, dim};

op! {
    /// Adds elements around `x`.
    ///
    /// `pad` has two numbers for each of the last dimensions of `x`, outermost first: how many elements to add before
    /// and after. `mode` says which: `constant` adds `constant_val`; `reflect` mirrors `x` at its first and last
    /// element, without repeating these, and can add at most one less than the size; `replicate` repeats the first
    /// and last element. A `pad` that is computed covers every dimension.
    Pad since Ios13 {
        x: Operand<T>,
        pad: Operand<[Int32]>,
        mode: Str = "constant",
        constant_val: Option<Const<T>> = 0.0,
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let mode = p.mode;
    require!(
        matches!(mode, "constant" | "reflect" | "replicate"),
        "input `mode` is \"{mode}\"; it can be constant, reflect or replicate"
    );
    let pad = p.pad.partial().unwrap_or_else(|| vec![None; 2 * x.rank()]);
    require!(
        pad.len().is_multiple_of(2) && pad.len() <= 2 * x.rank(),
        "input `pad` has {} elements; it takes 2 for each of at most {} dimensions",
        pad.len(),
        x.rank()
    );
    let mut shape = x.shape.clone();
    let first = x.rank() - pad.len() / 2;
    for (d, pair) in shape[first..].iter_mut().zip(pad.chunks_exact(2)) {
        for &n in pair.iter().flatten() {
            require!(n >= 0, "input `pad` has the negative element {n}");
            if let Some(size) = d.fixed().filter(|_| n > 0) {
                let most = if mode == "reflect" { size.saturating_sub(1) } else { usize::MAX };
                require!(
                    n as usize <= most,
                    "a dimension of size {size} cannot be padded by {n} by reflection"
                );
                require!(size > 0 || mode == "constant", "an empty dimension has nothing to {mode}");
            }
        }
        let (before, after) = (dim(pair[0]), dim(pair[1]));
        *d = d.zip_with(before, usize::checked_add).zip_with(after, usize::checked_add);
    }
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
