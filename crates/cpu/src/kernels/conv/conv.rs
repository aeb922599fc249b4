//! `conv`
//!
//! A band of output positions at a time, the input under the window is laid out as a matrix (taps × positions), and
//! the weight is multiplied with it. With one channel per group there is nothing to multiply: those convolutions run
//! tap by tap.

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::conv::{Sweep, sweeps};
use milwright_mil::ops::defs::Conv;

use crate::convert::to_f32;
use crate::index::count;
use crate::kernel::{OpViewExt, concrete};
use crate::kernels::linear::float_output;
use crate::product::{Matrix, product};
use crate::{Kernel, KernelError, Prepared, Step};

impl Kernel for Conv {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, weight) = (op.shape("x")?, op.shape("weight")?);
        let out = concrete(&outputs[0])?;
        let x_ty = op.tensor("x")?;
        let plan = Plan {
            batch: x[0],
            channels: x[1],
            outputs: weight[0],
            groups: x[1] / weight[1].max(1),
            input: to_3d(&x[2..]),
            output: to_3d(&out[2..]),
            window: pad_3d(sweeps(op, &x_ty.shape[2..], &weight[2..])?),
        };
        let (x, weight, bias) = (op.slot("x")?, op.slot("weight")?, op.opt_slot("bias"));
        let variant = if plan.is_depthwise() { "depthwise" } else { "im2col" };
        let step = Step::new(move |run| {
            let (x, weight) = (to_f32(&run.inputs[x]), to_f32(&run.inputs[weight]));
            let bias = bias.map(|slot| to_f32(&run.inputs[slot]));
            float_output(run, |out, pool, epilogue| {
                let positions = count(&plan.output);
                if positions == 0 {
                    return;
                }
                if plan.is_depthwise() {
                    pool.for_each_chunk(out, positions, |i, plane| {
                        let (n, c) = (i / plan.outputs, i % plan.outputs);
                        plane.fill(bias.as_ref().map_or(0.0, |b| b[c]));
                        let channel = c / (plan.outputs / plan.groups);
                        let input =
                            &x[(n * plan.channels + channel) * count(&plan.input)..][..count(&plan.input)];
                        let taps = plan.taps();
                        plan.depthwise(input, &weight[c * taps..][..taps], plane);
                        epilogue.apply(i * positions, plane);
                    });
                    return;
                }
                let rows = plan.outputs / plan.groups;
                let inner = plan.channels / plan.groups * plan.taps();
                for n in 0..plan.batch {
                    for g in 0..plan.groups {
                        let first = n * plan.outputs + g * rows;
                        let out = &mut out[first * positions..][..rows * positions];
                        match &bias {
                            Some(b) => {
                                out.chunks_mut(positions).zip(&b[g * rows..]).for_each(|(o, b)| o.fill(*b))
                            }
                            None => out.fill(0.0),
                        }
                        let a = &weight[g * rows * inner..][..rows * inner];
                        let per_group = plan.channels / plan.groups;
                        let image = &x[(n * plan.channels + g * per_group) * count(&plan.input)..];
                        let image = &image[..per_group * count(&plan.input)];
                        plan.grouped(image, a, out, pool);
                    }
                }
                let each = pool.chunk(out.len(), 1, 1 << 14);
                pool.for_each_chunk(out, each, |i, out| epilogue.apply(i * each, out));
            });
            Ok(())
        });
        Ok(step.with_epilogue().named(variant).into())
    }
}

/// Everything about a convolution, in three spatial dimensions.
struct Plan {
    batch: usize,
    channels: usize,
    outputs: usize,
    groups: usize,
    input: [usize; 3],
    output: [usize; 3],
    window: [Sweep; 3],
}

/// Bytes that the matrix of a band may take: about a second-level cache.
const BAND_BYTES: usize = 1 << 19;

impl Plan {
    fn taps(&self) -> usize {
        self.window.iter().map(|s| s.kernel).product()
    }

    fn is_depthwise(&self) -> bool {
        self.channels == self.groups
    }

    /// Whether the matrix is the input itself.
    fn is_pointwise(&self) -> bool {
        self.window.iter().all(|s| (s.kernel, s.stride, s.before, s.after) == (1, 1, 0, 0))
    }

    /// Adds the product of a group's weight with its channels to `out`, channels × positions.
    fn grouped(&self, image: &[f32], weight: &[f32], out: &mut [f32], pool: &crate::Pool) {
        let positions = count(&self.output);
        let rows = out.len() / positions;
        let inner = weight.len() / rows;
        let band =
            (BAND_BYTES / 4 / inner.max(1)).clamp(64, 4096).min(positions.div_ceil(pool.threads()).max(16));
        // Bands are columns of `out`: each task has a result of its own, which is copied in.
        let bands = positions.div_ceil(band);
        let results = std::sync::Mutex::new(out);
        pool.parallel_for(bands, |i| {
            let (start, end) = (i * band, ((i + 1) * band).min(positions));
            let columns = end - start;
            let mut made = vec![0.0; rows * columns];
            if self.is_pointwise() {
                let b = Matrix { data: &image[start..], row_stride: positions, column_stride: 1 };
                product([rows, inner, columns], Matrix::rows(weight, inner), b, &mut made, columns, false);
            } else {
                let mut matrix = vec![0.0; inner * columns];
                self.im2col(image, start, columns, &mut matrix);
                let b = Matrix::rows(&matrix, columns);
                product([rows, inner, columns], Matrix::rows(weight, inner), b, &mut made, columns, false);
            }
            let mut out = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (r, made) in made.chunks(columns).enumerate() {
                let out = &mut out[r * positions + start..][..columns];
                out.iter_mut().zip(made).for_each(|(o, m)| *o += m);
            }
        });
    }

    /// Lays out what the window sees at `columns` positions from `start`: one row for each channel and tap.
    fn im2col(&self, image: &[f32], start: usize, columns: usize, matrix: &mut [f32]) {
        let [_, height, width] = self.output;
        let plane = count(&self.input);
        let mut rows = matrix.chunks_mut(columns);
        for image in image.chunks(plane) {
            for (kd, kh, kw) in self.each_tap() {
                let Some(row) = rows.next() else { return };
                let mut at = 0;
                while at < columns {
                    let position = start + at;
                    let (d, h, w) =
                        (position / (height * width), position / width % height, position % width);
                    let len = (width - w).min(columns - at);
                    let out = &mut row[at..at + len];
                    let source = source(&self.window[0], kd, d, self.input[0]).zip(source(
                        &self.window[1],
                        kh,
                        h,
                        self.input[1],
                    ));
                    match source {
                        Some((d, h)) => {
                            let line = &image[(d * self.input[1] + h) * self.input[2]..][..self.input[2]];
                            copy_line(&self.window[2], kw, w, line, out);
                        }
                        None => out.fill(0.0),
                    }
                    at += len;
                }
            }
        }
    }

    /// Adds one channel's convolution to `out`.
    fn depthwise(&self, input: &[f32], weight: &[f32], out: &mut [f32]) {
        let [depth, height, width] = self.output;
        for ((kd, kh, kw), &tap) in self.each_tap().zip(weight) {
            let (first, last) = reach(&self.window[2], kw, self.input[2], width);
            if first >= last {
                continue;
            }
            let stride = self.window[2].stride;
            let from = first * stride + kw * self.window[2].dilation - self.window[2].before;
            for d in 0..depth {
                let Some(id) = source(&self.window[0], kd, d, self.input[0]) else { continue };
                for h in 0..height {
                    let Some(ih) = source(&self.window[1], kh, h, self.input[1]) else { continue };
                    let line = &input[(id * self.input[1] + ih) * self.input[2]..][..self.input[2]];
                    let out = &mut out[(d * height + h) * width..][first..last];
                    if stride == 1 {
                        out.iter_mut().zip(&line[from..]).for_each(|(o, x)| *o += tap * x);
                    } else {
                        out.iter_mut()
                            .zip(line[from..].iter().step_by(stride))
                            .for_each(|(o, x)| *o += tap * x);
                    }
                }
            }
        }
    }

    fn each_tap(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let [d, h, w] = [0, 1, 2].map(|i: usize| self.window[i].kernel);
        (0..d).flat_map(move |d| (0..h).flat_map(move |h| (0..w).map(move |w| (d, h, w))))
    }
}

/// The input element that a tap sees at an output position; `None` in the padding.
fn source(sweep: &Sweep, tap: usize, position: usize, size: usize) -> Option<usize> {
    (position * sweep.stride + tap * sweep.dilation).checked_sub(sweep.before).filter(|&i| i < size)
}

/// The output positions, from first to before last, at which a tap sees the input.
fn reach(sweep: &Sweep, tap: usize, size: usize, positions: usize) -> (usize, usize) {
    let offset = tap * sweep.dilation;
    let first = sweep.before.saturating_sub(offset).div_ceil(sweep.stride);
    let last = (size + sweep.before).saturating_sub(offset).div_ceil(sweep.stride);
    (first, last.min(positions))
}

/// What a tap sees along a line, for output positions from `start`.
fn copy_line(sweep: &Sweep, tap: usize, start: usize, line: &[f32], out: &mut [f32]) {
    let (first, last) = reach(sweep, tap, line.len(), start + out.len());
    let (first, last) = (first.clamp(start, start + out.len()), last.clamp(start, start + out.len()));
    if first >= last {
        return out.fill(0.0);
    }
    out[..first - start].fill(0.0);
    out[last - start..].fill(0.0);
    let from = first * sweep.stride + tap * sweep.dilation - sweep.before;
    let out = &mut out[first - start..last - start];
    if sweep.stride == 1 {
        out.copy_from_slice(&line[from..from + out.len()]);
    } else {
        out.iter_mut().zip(line[from..].iter().step_by(sweep.stride)).for_each(|(o, x)| *o = *x);
    }
}

/// Sizes of one to three dimensions as three: leading ones.
pub(crate) fn to_3d(sizes: &[usize]) -> [usize; 3] {
    let mut all = [1; 3];
    all[3 - sizes.len()..].copy_from_slice(sizes);
    all
}

/// Sweeps of one to three dimensions as three: those in front stand still.
pub(crate) fn pad_3d(sweeps: Vec<Sweep>) -> [Sweep; 3] {
    let still = Sweep { output: 1.into(), kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 };
    let mut all = [still; 3];
    all[3 - sweeps.len()..].copy_from_slice(&sweeps);
    all
}
