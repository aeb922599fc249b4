//! Helpers for resizing: the positions of samples, and interpolation along one dimension at a time.

use milwright_mil::ops::image_resizing::sampling::Sampling;

use crate::convert::{to_f32, write_f32};
use crate::index::count;
use crate::kernels::tensor::moves::by_width;
use crate::{KernelError, Pool, View, ViewMut};

/// Returns the position of sample `i` of `m` along elements 0 to n - 1. It may lie outside them.
pub(super) fn position(sampling: Sampling, i: usize, m: usize, n: usize) -> f64 {
    place(sampling, i, m, 0.0, n as f64 - 1.0)
}

/// Returns the position of sample `i` of `m` between the centres of the elements `first` and `last`.
pub(super) fn place(sampling: Sampling, i: usize, m: usize, first: f64, last: f64) -> f64 {
    let (i, m, distance) = (i as f64, m as f64, last - first);
    first
        + match sampling {
            Sampling::AlignCorners if m == 1.0 => distance / 2.0,
            Sampling::StrictAlignCorners if m == 1.0 => 0.0,
            Sampling::AlignCorners | Sampling::StrictAlignCorners => i * distance / (m - 1.0),
            Sampling::Default => i * (distance + 1.0) / m,
            Sampling::OffsetCorners => (i + 0.5) * distance.max(1.0) / m,
            Sampling::UnalignCorners => (i + 0.5) * (distance + 1.0) / m - 0.5,
        }
}

/// A sample between two elements: their indices, and the weight of the second one.
#[derive(Clone, Copy)]
pub(super) struct Tap {
    pub low: usize,
    pub high: usize,
    pub weight: f32,
}

impl Tap {
    /// Returns the sample at `position`, clamped to a dimension of `n` elements (at least one).
    pub(super) fn at(position: f64, n: usize) -> Tap {
        let position = position.max(0.0).min(n as f64 - 1.0);
        let low = position as usize;
        Tap { low, high: (low + 1).min(n - 1), weight: (position - low as f64) as f32 }
    }

    pub(super) fn mix(&self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.weight
    }
}

/// How a tensor is resized.
#[derive(Clone, Copy)]
pub(super) enum Resize {
    /// Linear interpolation at the positions of a sampling mode.
    Linear(Sampling),
    /// The nearest element, at the positions of a sampling mode; the later one if two are equally near. Here, `DEFAULT`
    /// means half-pixel centres, as in the TensorFlow op that coremltools converts to it.
    Nearest(Sampling),
    /// Element ⌊i · n / m⌋ for sample i of m.
    Repeat,
}

impl Resize {
    /// Returns the samples of a dimension of `n` elements that is resized to `m`.
    fn taps(self, n: usize, m: usize) -> Vec<Tap> {
        let exact = |low: f64| {
            let low = (low.max(0.0) as usize).min(n - 1);
            Tap { low, high: low, weight: 0.0 }
        };
        let tap = |i: usize| match self {
            Resize::Linear(sampling) => Tap::at(position(sampling, i, m, n), n),
            Resize::Nearest(Sampling::Default) => exact(((2 * i + 1) * n / (2 * m)) as f64),
            Resize::Nearest(sampling) => exact((position(sampling, i, m, n) + 0.5).floor()),
            Resize::Repeat => exact((i * n / m) as f64),
        };
        (0..m).map(tap).collect()
    }

    /// Resizes the last `dims` dimensions.
    pub(super) fn run(
        self,
        dims: usize,
        x: View<'_>,
        out: &mut ViewMut<'_>,
        pool: &Pool,
    ) -> Result<(), KernelError> {
        let (from, to) = (x.shape().to_vec(), out.shape().to_vec());
        if count(&to) == 0 {
            return Ok(());
        }
        if count(&from) == 0 {
            return Err(KernelError::invalid("an empty tensor cannot be resized"));
        }
        if let Resize::Linear(_) = self {
            let x = to_f32(&x);
            let values = self.by_dimension(dims, &x, &from, &to, |lines, x, out| lines.mix(x, out, pool));
            write_f32(out, 0, &values);
        } else {
            by_width!(x.dtype(), pick(self, dims, x, &to, out, pool));
        }
        Ok(())
    }

    /// Resizes the last `dims` dimensions one after the other, outermost first.
    fn by_dimension<T: bytemuck::Pod>(
        self,
        dims: usize,
        x: &[T],
        from: &[usize],
        to: &[usize],
        step: impl Fn(&Lines, &[T], &mut [T]),
    ) -> Vec<T> {
        let mut data = x.to_vec();
        for d in from.len().saturating_sub(dims)..from.len() {
            // Does not skip dimensions that keep their size: their samples may lie between elements.
            let taps = self.taps(from[d], to[d]);
            if from[d] == to[d] && taps.iter().enumerate().all(|(i, t)| t.low == i && t.weight == 0.0) {
                continue;
            }
            let (outer, inner) = (count(&to[..d]), count(&from[d + 1..]));
            let lines = Lines { taps, n: from[d], inner };
            let mut out = vec![T::zeroed(); outer * to[d] * inner];
            step(&lines, &data, &mut out);
            data = out;
        }
        data
    }
}

fn pick<T: bytemuck::Pod + Send + Sync>(
    resize: Resize,
    dims: usize,
    x: View<'_>,
    to: &[usize],
    out: &mut ViewMut<'_>,
    pool: &Pool,
) {
    let step = |lines: &Lines, x: &[T], out: &mut [T]| lines.pick(x, out, pool);
    let values = resize.by_dimension(dims, x.words::<T>(), x.shape(), to, step);
    out.words::<T>().copy_from_slice(&values);
}

/// One dimension of `n` elements and its samples; `inner` is the number of elements inside each of the `n`.
struct Lines {
    taps: Vec<Tap>,
    n: usize,
    inner: usize,
}

impl Lines {
    fn mix(&self, x: &[f32], out: &mut [f32], pool: &Pool) {
        self.each(x, out, pool, |tap, low, high, out| {
            for ((o, &l), &h) in out.iter_mut().zip(low).zip(high) {
                *o = tap.mix(l, h);
            }
        });
    }

    fn pick<T: Copy + Send + Sync>(&self, x: &[T], out: &mut [T], pool: &Pool) {
        self.each(x, out, pool, |_, low, _, out| out.copy_from_slice(low));
    }

    /// Calls `f` for every line of the output with the sample, the two lines of the input and the line of the output.
    fn each<T: Copy + Send + Sync>(
        &self,
        x: &[T],
        out: &mut [T],
        pool: &Pool,
        f: impl Fn(Tap, &[T], &[T], &mut [T]) + Send + Sync,
    ) {
        let (m, inner) = (self.taps.len(), self.inner.max(1));
        let chunk = pool.chunk(out.len(), inner, 1 << 14);
        pool.for_each_chunk(out, chunk, |c, out| {
            for (i, line) in out.chunks_exact_mut(inner).enumerate() {
                let row = c * (chunk / inner) + i;
                let (tap, start) = (self.taps[row % m], row / m * self.n * inner);
                let at = |j: usize| &x[start + j * inner..][..inner];
                f(tap, at(tap.low), at(tap.high), line);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples in Core ML's documentation of `resize_bilinear`: two elements, five samples.
    #[test]
    fn positions_of_every_mode() {
        let at =
            |sampling, m| (0..m).map(|i| position(sampling, i, m, 2).clamp(0.0, 1.0)).collect::<Vec<_>>();
        let close =
            |a: Vec<f64>, b: &[f64]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?}");
        close(at(Sampling::UnalignCorners, 5), &[0., 0.1, 0.5, 0.9, 1.]);
        close(at(Sampling::AlignCorners, 5), &[0., 0.25, 0.5, 0.75, 1.]);
        close(at(Sampling::Default, 5), &[0., 0.4, 0.8, 1., 1.]);
        close(at(Sampling::OffsetCorners, 5), &[0.1, 0.3, 0.5, 0.7, 0.9]);
        close(at(Sampling::AlignCorners, 1), &[0.5]);
        close(at(Sampling::StrictAlignCorners, 1), &[0.]);
    }
}
