//! `conv_transpose`
//!
//! The weight is multiplied with the input's channels at each position. Each product is then added to the output
//! position that its kernel offset leads to.

use milwright_mil::TensorType;
use milwright_mil::ops::conv::conv_transpose::{Spread, spreads};
use milwright_mil::ops::defs::ConvTranspose;

use super::conv::to_3d;
use crate::convert::to_f32;
use crate::index::count;
use crate::kernel::concrete;
use crate::kernels::linear::float_output;
use crate::product::{Matrix, product};
use crate::{Kernel, KernelError, Params, Prepared, Step};

impl Kernel for ConvTranspose {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, weight) = (concrete(&p.x)?, concrete(&p.weight)?);
        let out = concrete(&outputs[0])?;
        let groups = out[1] / weight[1].max(1);
        let spreads = spreads(p, &x[2..], &weight[2..])?;
        let still = Spread { output: 1, kernel: 1, stride: 1, dilation: 1, before: 0 };
        let mut window = [still; 3];
        window[3 - spreads.len()..].copy_from_slice(&spreads);
        let (input, output) = (to_3d(&x[2..]), to_3d(&out[2..]));
        let (batch, channels) = (x[0], x[1]);
        let (x, weight, bias) = (p.x.slot, p.weight.slot, p.bias.map(|t| t.slot));
        let step = Step::new(move |run| {
            let (x, weight) = (to_f32(&run.inputs[x]), to_f32(&run.inputs[weight]));
            let bias = bias.map(|slot| to_f32(&run.inputs[slot]));
            float_output(run, |out, pool, epilogue| {
                let (pixels, positions) = (count(&input), count(&output));
                let taps: usize = window.iter().map(|s| s.kernel).product();
                let (inner, outputs) = (channels / groups, weight.len() / channels.max(1) / taps);
                if positions * outputs == 0 || batch * groups == 0 {
                    return;
                }
                // weightᵀ (outputs · taps × inner) times the image (inner × pixels), one output channel in each task.
                pool.for_each_chunk(out, positions, |i, plane| {
                    let (n, c) = (i / (groups * outputs), i % (groups * outputs));
                    let (g, o) = (c / outputs, c % outputs);
                    plane.fill(bias.as_ref().map_or(0.0, |b| b[c]));
                    let image = &x[(n * channels + g * inner) * pixels..][..inner * pixels];
                    let a = Matrix {
                        data: &weight[g * inner * outputs * taps + o * taps..],
                        row_stride: 1,
                        column_stride: outputs * taps,
                    };
                    let mut made = vec![0.0; taps * pixels];
                    product([taps, inner, pixels], a, Matrix::rows(image, pixels), &mut made, pixels, false);
                    scatter(&window, input, output, &made, plane);
                    epilogue.apply(i * positions, plane);
                });
            });
            Ok(())
        });
        Ok(step.with_epilogue().into())
    }
}

/// Adds the products, taps × pixels, to the positions of the output plane that they belong to.
fn scatter(window: &[Spread; 3], input: [usize; 3], output: [usize; 3], made: &[f32], plane: &mut [f32]) {
    let at = |s: &Spread, pixel: usize, tap: usize, size: usize| {
        (pixel * s.stride + tap * s.dilation).checked_sub(s.before).filter(|&i| i < size)
    };
    let pixels = count(&input);
    let [kd, kh, kw] = [0, 1, 2].map(|i: usize| window[i].kernel);
    for (tap, made) in made.chunks(pixels).enumerate().take(kd * kh * kw) {
        let (td, th, tw) = (tap / (kh * kw), tap / kw % kh, tap % kw);
        for (line, made) in made.chunks(input[2]).enumerate() {
            let Some(d) = at(&window[0], line / input[1], td, output[0]) else { continue };
            let Some(h) = at(&window[1], line % input[1], th, output[1]) else { continue };
            let plane = &mut plane[(d * output[1] + h) * output[2]..][..output[2]];
            for (w, x) in made.iter().enumerate() {
                if let Some(w) = at(&window[2], w, tw, output[2]) {
                    plane[w] += x;
                }
            }
        }
    }
}
