//! `conv_transpose`
//!
//! The weight is multiplied with the input's channels at each position, as one product for each group. Each number is
//! then added to the output position that its kernel offset leads to.

use half::f16;
use milwright_mil::ops::conv::conv_transpose::{Spread, spreads};
use milwright_mil::ops::defs::ConvTranspose;
use milwright_mil::{DType, TensorType};

use super::conv::to_3d;
use crate::convert::{narrow, to_f32};
use crate::index::count;
use crate::kernel::concrete;
use crate::kernels::linear::Weights;
use crate::kernels::linear::tiled::{Constant, Tiled};
use crate::memory::AlignedBytes;
use crate::pool::Shares;
use crate::simd::Isa;
use crate::simd::gemm::{
    Bias, Elements, F16, F32, Gemm, Matrix, Operand, Output, Panels, SLACK, Target, pack, panel_rows,
};
use crate::simd::tiles::product;
use crate::simd::tiles::split::{Columns, Lines, Strided};
use crate::{Kernel, KernelError, Packed, Params, Prepared, Run, Step, View};

/// The most output channels that are finished at the same time; scratch memory is for so many, as in `simd::gemm`.
const LANES: usize = 8;

impl Kernel for ConvTranspose {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(Plan::new(p, outputs)?.step(p, Weights::Input).into())
    }

    fn pack(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Option<Packed>, KernelError> {
        let plan = Plan::new(p, outputs)?;
        let Some(weight) = p.weight.value() else { return Ok(None) };
        let dtypes = [p.x.dtype, weight.dtype(), outputs[0].dtype];
        let weight = to_f32(&View::from(weight));
        let (size @ [m, k, _], starts) = (plan.size(), plan.weight_starts());
        let rows = Strided { data: F32(&weight), k, strides: [1, m], starts: &starts };
        let split = Tiled::pack(&Constant::Rows(rows), &weight, dtypes, size, plan.groups, p.weight.slot);
        if split.is_some() {
            return Ok(split);
        }
        let isa = Isa::detect();
        let matrix = Matrix::new(F32(&weight), m, k, [1, m], &starts).rows();
        let data = pack(isa, &matrix, [plan.groups, m, k], panel_rows(isa, m));
        Ok(Some(Packed {
            params: vec![data.len() as u64],
            data: AlignedBytes::from(data.as_slice()).into(),
            slots: vec![p.weight.slot],
        }))
    }

    fn prepare_packed(
        p: &Params<'_, Self>,
        outputs: &[TensorType],
        packed: Packed,
    ) -> Result<Prepared, KernelError> {
        let plan = Plan::new(p, outputs)?;
        let [m, k, _] = plan.size();
        let dtypes = [p.x.dtype, p.x.dtype, outputs[0].dtype];
        if let Some(tiled) = Tiled::of(&packed, dtypes, [plan.groups, m, k])? {
            return Ok(plan.step(p, Weights::Tiled(tiled)).into());
        }
        let floats = plan.groups * m.next_multiple_of(panel_rows(Isa::detect(), m)) * k + SLACK;
        if packed.params != [floats as u64] || packed.data.len() != floats * 4 {
            return Err(KernelError::invalid(
                "the packed weight of a transposed convolution has another size",
            ));
        }
        Ok(plan.step(p, Weights::Packed(packed.data)).into())
    }
}

/// The geometry of a transposed convolution, in three spatial dimensions.
struct Plan {
    window: [Spread; 3],
    input: [usize; 3],
    output: [usize; 3],
    batch: usize,
    groups: usize,
    /// Channels of the input and of the output in a group.
    inner: usize,
    outputs: usize,
    taps: usize,
    half: bool,
}

impl Plan {
    fn new(p: &Params<'_, ConvTranspose>, outputs: &[TensorType]) -> Result<Plan, KernelError> {
        let (x, weight, out) = (concrete(&p.x)?, concrete(&p.weight)?, concrete(&outputs[0])?);
        let groups = out[1] / weight[1].max(1);
        let spreads = spreads(p, &x[2..], &weight[2..])?;
        let still = Spread { output: 1, kernel: 1, stride: 1, dilation: 1, before: 0 };
        let mut window = [still; 3];
        window[3 - spreads.len()..].copy_from_slice(&spreads);
        Ok(Plan {
            window,
            input: to_3d(&x[2..]),
            output: to_3d(&out[2..]),
            batch: x[0],
            groups,
            inner: x[1] / groups.max(1),
            outputs: weight[1],
            taps: count(&weight[2..]),
            half: outputs[0].dtype == DType::Fp16,
        })
    }

    /// The rows (output channels and kernel offsets), inner size and columns (pixels of the input) of a group's product.
    fn size(&self) -> [usize; 3] {
        [self.outputs * self.taps, self.inner, count(&self.input)]
    }

    /// The elements at which the groups' weights start.
    fn weight_starts(&self) -> Vec<usize> {
        (0..self.groups).map(|g| g * self.inner * self.outputs * self.taps).collect()
    }

    fn step(self, p: &Params<'_, ConvTranspose>, weights: Weights) -> Step {
        let (x, weight, bias) = (p.x.slot, p.weight.slot, p.bias.map(|t| t.slot));
        let isa = Isa::detect();
        let (size @ [m, k, pixels], groups) = (self.size(), self.groups);
        let packed = matches!(weights, Weights::Packed(_));
        let gemm = Gemm::new(isa, size, groups, [packed, false], false);
        let on_tiles = match &weights {
            Weights::Tiled(tiled) => Some(tiled.product(isa, size, groups, true, false, None)),
            _ => None,
        };
        let variant = if on_tiles.is_some() { "tiles" } else { "gemm" };
        let positions = count(&self.output);
        let made_len = (groups * m * pixels).next_multiple_of(16);
        let staged_len = if self.half { positions.next_multiple_of(16) } else { 0 };
        let tile_scratch = on_tiles.as_ref().map_or(0, product::Product::scratch);
        // The planes that wait for rounding take the place of the product's scratch memory.
        let rest = (gemm.scratch() * 4).max(tile_scratch).max(LANES * staged_len.max(16) * 4);
        let weight_starts = self.weight_starts();
        let inputs: Vec<usize> = (0..groups).map(|g| g * k * pixels).collect();
        let step = Step::new(move |run: &mut Run<'_>| {
            let (x, epilogue) = (&run.inputs[x], run.epilogue);
            let bias = bias.map(|slot| to_f32(&run.inputs[slot]));
            let (made, scratch) = run.scratch.split_at_mut(made_len * 4);
            let made: &mut [f32] = &mut bytemuck::cast_slice_mut(made)[..groups * m * pixels];
            let out = &mut run.outputs[0];
            let target =
                Target::new(if self.half { Elements::F16(out.slice()) } else { Elements::F32(out.slice()) });
            let tiles = match (&weights, &on_tiles) {
                (Weights::Tiled(tiled), Some(product)) if tiled.takes(isa, run.pool, k, x) => {
                    Some((product, tiled.ordered()))
                }
                _ => None,
            };
            for image in 0..self.batch {
                let len = groups * k * pixels;
                let (half, single, half_lines, single_lines);
                let (right, lines): (&dyn Panels, &dyn Columns) = if x.dtype() == DType::Fp16 {
                    let data = F16(&x.slice::<f16>()[image * len..][..len]);
                    half = Matrix::new(data, k, pixels, [pixels, 1], &inputs).columns();
                    half_lines = Lines { data, k, stride: pixels, starts: &inputs };
                    (&half, &half_lines)
                } else {
                    let data = F32(&x.slice::<f32>()[image * len..][..len]);
                    single = Matrix::new(data, k, pixels, [pixels, 1], &inputs).columns();
                    single_lines = Lines { data, k, stride: pixels, starts: &inputs };
                    (&single, &single_lines)
                };
                let output = Output { data: Elements::F32(made), start: 0 };
                if let Some((product, weight)) = tiles {
                    let operands = product::Operands::OrderedA(weight, lines);
                    product.run(
                        run.pool,
                        operands,
                        product::Bias::None,
                        output,
                        &Default::default(),
                        scratch,
                    );
                } else {
                    let (data, matrix, joined);
                    let left = match &weights {
                        Weights::Packed(data) => Operand::Packed(bytemuck::cast_slice(data)),
                        Weights::Tiled(tiled) => {
                            joined = tiled.joined([m, k], true, 0);
                            Operand::Panels(&joined)
                        }
                        Weights::Input => {
                            data = to_f32(&run.inputs[weight]);
                            matrix = Matrix::new(F32(&data), m, k, [1, m], &weight_starts).rows();
                            Operand::Panels(&matrix)
                        }
                    };
                    let operands = [left, Operand::Panels(right)];
                    let scratch: &mut [f32] = bytemuck::cast_slice_mut(scratch);
                    gemm.run(run.pool, operands, Bias::None, output, &Default::default(), scratch);
                }
                self.finish(image, made, bias.as_deref(), &target, epilogue, scratch, run.pool);
            }
            Ok(())
        });
        step.with_epilogue().with_scratch(made_len * 4 + rest).named(variant)
    }

    /// Adds the products of an image to the positions that they belong to, and finishes its output.
    #[expect(clippy::too_many_arguments, reason = "what a run has, for one image")]
    fn finish(
        &self,
        image: usize,
        made: &[f32],
        bias: Option<&[f32]>,
        target: &Target,
        epilogue: crate::chain::Epilogue<'_>,
        scratch: &mut [u8],
        pool: &crate::Pool,
    ) {
        let (positions, pixels) = (count(&self.output), count(&self.input));
        let channels = self.groups * self.outputs;
        if channels * positions == 0 {
            return;
        }
        let lane = if self.half { positions.next_multiple_of(16) } else { 16 };
        let lanes = pool.threads().clamp(1, LANES.min(channels));
        let shares = Shares::new(channels, lanes);
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(scratch);
        pool.for_each_chunk(&mut scratch[..lanes * lane], lane, |l, staged| {
            for channel in shares.of(l) {
                let at = (image * channels + channel) * positions;
                let plane = if target.f32 {
                    // SAFETY: the output has `positions` elements for each channel of each image, and each task writes
                    // its own channel.
                    unsafe { target.row::<f32>(at, positions) }
                } else {
                    &mut staged[..positions]
                };
                plane.fill(bias.map_or(0.0, |b| b[channel]));
                let own = self.taps * pixels;
                scatter(&self.window, self.input, self.output, &made[channel * own..][..own], plane);
                epilogue.apply(at, plane);
                if !target.f32 {
                    // SAFETY: as above.
                    narrow(plane, unsafe { target.row::<f16>(at, positions) });
                }
            }
        });
    }
}

/// Adds the products, taps × pixels, to the positions of the output plane that they belong to.
fn scatter(window: &[Spread; 3], input: [usize; 3], output: [usize; 3], made: &[f32], plane: &mut [f32]) {
    let at = |s: &Spread, pixel: usize, tap: usize, size: usize| {
        (pixel * s.stride + tap * s.dilation).checked_sub(s.before).filter(|&i| i < size)
    };
    let pixels = count(&input);
    if pixels == 0 {
        return;
    }
    let [kd, kh, kw] = [0, 1, 2].map(|i: usize| window[i].kernel);
    for (tap, made) in made.chunks(pixels).enumerate().take(kd * kh * kw) {
        let (td, th, tw) = (tap / (kh * kw), tap / kw % kh, tap % kw);
        for (line, made) in made.chunks(input[2]).enumerate() {
            let Some(d) = at(&window[0], line / input[1], td, output[0]) else { continue };
            let Some(h) = at(&window[1], line % input[1], th, output[1]) else { continue };
            let plane = &mut plane[(d * output[1] + h) * output[2]..][..output[2]];
            let Spread { stride, dilation, before, .. } = window[2];
            // The first pixel that leads into the line, and the position to which it leads.
            let first = before.saturating_sub(tw * dilation).div_ceil(stride);
            let position = first * stride + tw * dilation - before;
            let (Some(made), Some(plane)) = (made.get(first..), plane.get_mut(position..)) else { continue };
            plane.iter_mut().step_by(stride).zip(made).for_each(|(o, x)| *o += x);
        }
    }
}
