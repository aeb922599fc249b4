//! Pooling: each output is a fold over the input elements under its window.

mod avg_pool;
mod l2_pool;
mod max_pool;

use std::marker::PhantomData;

use half::f16;
use milwright_mil::ops::conv::Sweep;
use milwright_mil::ops::pool::Pool;
use milwright_mil::{DType, TensorType};

use crate::convert::{narrow, to_f32, widen};
use crate::index::count;
use crate::kernel::concrete;
use crate::kernels::conv::{pad_3d, to_3d};
use crate::kernels::linear::float_output;
use crate::simd::{Isa, Op, Simd};
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

/// Lines of fewer windows are folded window by window.
const NARROW: usize = 6;

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
        let (x, epilogue) = (&run.inputs[slot], run.epilogue);
        let (size, positions) = (count(&input), count(&output));
        if positions == 0 {
            return Ok(());
        }
        let out = &mut run.outputs[0];
        if let (DType::Fp16, DType::Fp16) = (x.dtype(), out.dtype()) {
            // Plane by plane, so that what is between stays in the nearest caches.
            let x = x.slice::<f16>();
            run.pool.for_each_chunk(out.slice::<f16>(), positions, |i, out| {
                let mut wide = vec![0.0; size + positions];
                let (from, plane) = wide.split_at_mut(size);
                widen(&x[i * size..][..size], from);
                fold_plane(fold, &window, input, output, from, plane);
                epilogue.apply(i * positions, plane);
                narrow(plane, out);
            });
            return Ok(());
        }
        let x = to_f32(x);
        float_output(run, |out, pool, epilogue| {
            pool.for_each_chunk(out, positions, |i, plane| {
                fold_plane(fold, &window, input, output, &x[i * size..][..size], plane);
                epilogue.apply(i * positions, plane);
            });
        });
        Ok(())
    });
    Ok(step.with_epilogue().into())
}

/// Folds all windows of a plane. Each is folded in the order of its elements; the windows of a line advance together.
fn fold_plane<F: Fold>(
    fold: F,
    window: &[Sweep; 3],
    input: [usize; 3],
    output: [usize; 3],
    x: &[f32],
    out: &mut [f32],
) {
    let Sweep { kernel, stride, before, .. } = window[2];
    for (line, out) in out.chunks_exact_mut(output[2].max(1)).enumerate() {
        let (d0, d1, dp) = span(&window[0], line / output[1], input[0]);
        let (h0, h1, hp) = span(&window[1], line % output[1], input[1]);
        let lines = || (d0..d1).flat_map(|d| (h0..h1).map(move |h| (d, h)));
        let from = |(d, h): (usize, usize)| &x[(d * input[1] + h) * input[2]..][..input[2]];
        out.fill(F::START);
        if out.len() < NARROW {
            for (w, out) in out.iter_mut().enumerate() {
                let (w0, w1, _) = span(&window[2], w, input[2]);
                for line in lines() {
                    *out = from(line)[w0..w1].iter().fold(*out, |s, &x| F::step(s, x));
                }
            }
        } else {
            for line in lines() {
                let from = from(line);
                for tap in 0..kernel {
                    // The windows for which this element of theirs is not padding.
                    let first = before.saturating_sub(tap).div_ceil(stride);
                    let last = (input[2] + before).saturating_sub(tap).div_ceil(stride).min(out.len());
                    if first < last {
                        let from = &from[first * stride + tap - before..];
                        Isa::detect().run(Advance::<F>(&mut out[first..last], from, stride, PhantomData));
                    }
                }
            }
        }
        for (w, out) in out.iter_mut().enumerate() {
            let (w0, w1, wp) = span(&window[2], w, input[2]);
            *out = fold.finish(*out, (d1 - d0) * (h1 - h0) * (w1 - w0), dp * hp * wp);
        }
    }
}

/// Folds an element into each window of a line; those of neighbouring windows are a stride apart.
struct Advance<'a, F>(&'a mut [f32], &'a [f32], usize, PhantomData<F>);

impl<F: Fold> Op for Advance<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Advance(sums, from, stride, _) = self;
        match stride {
            1 => sums.iter_mut().zip(from).for_each(|(sum, x)| *sum = F::step(*sum, *x)),
            2 => sums.iter_mut().zip(from.chunks(2)).for_each(|(sum, x)| *sum = F::step(*sum, x[0])),
            _ => sums.iter_mut().zip(from.iter().step_by(stride)).for_each(|(s, x)| *s = F::step(*s, *x)),
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

#[cfg(test)]
mod tests {
    use half::f16;
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn ints(x: &[usize]) -> [Tensor; 1] {
        [Tensor::from_vec(&[x.len()], x.iter().map(|&x| x as i32).collect::<Vec<_>>()).unwrap()]
    }

    /// Every window by its definition, in f64. Sums of a few small integers are exact.
    #[test]
    fn windows_of_many_shapes() {
        let (channels, height) = (3, 5);
        for (width, kernel, stride, half) in [4, 11, 40]
            .into_iter()
            .flat_map(|w| [1, 2, 3].map(|k| (w, k)))
            .flat_map(|(w, k)| [1, 2, 3].map(|s| (w, k, s)))
            .flat_map(|(w, k, s)| [(w, k, s, false), (w, k, s, true)])
        {
            let x: Vec<f32> = (0..channels * height * width).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
            let [before, after] = [kernel / 2, (kernel - 1) / 2];
            let shape = [1, channels, height, width];
            let own = [if half {
                Tensor::from_vec(&shape, x.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>()).unwrap()
            } else {
                Tensor::from_vec(&shape, x.clone()).unwrap()
            }];
            let (kernels, strides) = (ints(&[kernel; 2]), ints(&[stride; 2]));
            let (pad_type, pad) = ([Tensor::string("custom")], ints(&[before, after, before, after]));
            for kind in [OpKind::MaxPool, OpKind::AvgPool] {
                let exclude = [Tensor::from_bools(&[], &[true]).unwrap()];
                let mut inputs: Vec<(&str, &[Tensor])> = vec![
                    ("x", &own),
                    ("kernel_sizes", &kernels),
                    ("strides", &strides),
                    ("pad_type", &pad_type),
                    ("pad", &pad),
                ];
                if kind == OpKind::AvgPool {
                    inputs.push(("exclude_padding_from_average", &exclude));
                }
                let out = run_op(kind, Opset::Ios15, &inputs, |n| n != "x").unwrap().remove(0);
                let [rows, columns] = [out.shape()[2], out.shape()[3]];
                for (i, got) in out.to_f64().into_iter().enumerate() {
                    let (c, r, w) = (i / (rows * columns), i / columns % rows, i % columns);
                    let mut all = Vec::new();
                    for (a, b) in (0..kernel).flat_map(|a| (0..kernel).map(move |b| (a, b))) {
                        let at = [(r * stride + a, height), (w * stride + b, width)]
                            .map(|(at, size)| at.checked_sub(before).filter(|&at| at < size));
                        if let [Some(h), Some(w)] = at {
                            all.push(f64::from(x[(c * height + h) * width + w]));
                        }
                    }
                    let expected = if kind == OpKind::MaxPool {
                        all.iter().copied().fold(f64::NEG_INFINITY, f64::max)
                    } else {
                        let mean = (all.iter().sum::<f64>() / all.len() as f64) as f32;
                        if half { f16::from_f32(mean).to_f64() } else { mean.into() }
                    };
                    assert_eq!(got, expected, "{kind:?} {width} {kernel} {stride} {half} at {i}");
                }
            }
        }
    }
}
