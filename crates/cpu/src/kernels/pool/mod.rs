//! Pooling: each output is a fold over the input elements under its window.

mod avg_pool;
mod l2_pool;
mod max_pool;

use milwright_mil::TensorType;
use milwright_mil::ops::conv::Sweep;
use milwright_mil::ops::pool::Pool;

use crate::convert::to_f32;
use crate::index::count;
use crate::kernel::concrete;
use crate::kernels::conv::{pad_3d, to_3d};
use crate::kernels::linear::float_output;
use crate::{KernelError, Prepared, Step};

/// The function that a pool folds each window with.
pub(crate) trait Fold: Copy + Send + Sync + 'static {
    /// The start value, and so the value of an empty window.
    const START: f32;

    /// Folds in one element.
    fn step(sum: f32, x: f32) -> f32;

    /// Makes the result: `seen` elements were folded; the window covers `padded` elements if padding counts.
    fn finish(self, sum: f32, seen: usize, padded: usize) -> f32;
}

/// Prepares a pool.
pub(crate) fn prepare<F: Fold>(
    pool: &Pool<'_>,
    outputs: &[TensorType],
    fold: F,
) -> Result<Prepared, KernelError> {
    let x = concrete(&pool.x)?;
    let window = pad_3d(pool.windows()?);
    let (input, output) = (to_3d(&x[2..]), to_3d(&concrete(&outputs[0])?[2..]));
    let slot = pool.x.slot;
    let step = Step::new(move |run| {
        let x = to_f32(&run.inputs[slot]);
        float_output(run, |out, pool, epilogue| {
            let positions = count(&output);
            if positions == 0 {
                return;
            }
            pool.for_each_chunk(out, positions, |i, plane| {
                fold_plane(fold, &window, input, output, &x[i * count(&input)..][..count(&input)], plane);
                epilogue.apply(i * positions, plane);
            });
        });
        Ok(())
    });
    Ok(step.with_epilogue().into())
}

fn fold_plane<F: Fold>(
    fold: F,
    window: &[Sweep; 3],
    input: [usize; 3],
    output: [usize; 3],
    x: &[f32],
    out: &mut [f32],
) {
    let mut out = out.iter_mut();
    for d in 0..output[0] {
        let (d0, d1, dp) = span(&window[0], d, input[0]);
        for h in 0..output[1] {
            let (h0, h1, hp) = span(&window[1], h, input[1]);
            for w in 0..output[2] {
                let (w0, w1, wp) = span(&window[2], w, input[2]);
                let mut sum = F::START;
                for d in d0..d1 {
                    for h in h0..h1 {
                        let line = &x[(d * input[1] + h) * input[2]..][w0..w1];
                        sum = line.iter().fold(sum, |s, &x| F::step(s, x));
                    }
                }
                let seen = (d1 - d0) * (h1 - h0) * (w1 - w0);
                if let Some(out) = out.next() {
                    *out = fold.finish(sum, seen, dp * hp * wp);
                }
            }
        }
    }
}

/// Returns the input elements under the window at a position, as first and past-the-last index, and how many elements
/// the window covers if padding counts.
fn span(sweep: &Sweep, position: usize, size: usize) -> (usize, usize, usize) {
    let start = position * sweep.stride;
    let end = start + sweep.kernel;
    let padded = end.min(size + sweep.before + sweep.after) - start.min(size + sweep.before + sweep.after);
    let first = start.saturating_sub(sweep.before).min(size);
    let last = end.saturating_sub(sweep.before).min(size);
    (first, last, padded)
}
