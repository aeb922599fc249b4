//! `conv`
//!
//! The input is first copied into padded *planes*, one for each channel and each phase of the stride. In one dimension,
//! the plane of phase `f` has the elements `f`, `f + stride`, `f + 2 stride` … of the padded row. The element that the
//! kernel offset (*tap*) number `t` reads for output position `p` is then at `taps[t] + p`, and the consecutive
//! positions of a line read consecutive elements:
//!
//! ```text
//! one row, kernel 3, stride 2, padding 1:        output p     0      1      2
//!                                                reads      0 a b  b c d  d e f
//! input         a b c d e f
//! padded      0 a b c d e f 0                    taps[0] = 0: phase 0, offset 0:  0 b d
//! phase 0     0   b   d   f                      taps[1] = 4: phase 1, offset 0:  a c e
//! phase 1       a   c   e   0                    taps[2] = 1: phase 0, offset 1:  b d f
//! memory      0 b d f a c e 0
//! ```
//!
//! A convolution is the product of the weight with the matrix kernel offsets × positions (im2col). That matrix is never
//! stored: its panels are read from the planes when the product needs them. With one channel per group, the convolution
//! is a weighted sum of shifted planes instead.

use half::f16;
use milwright_mil::ops::conv::Sweep;
use milwright_mil::ops::defs::Conv;
use milwright_mil::{DType, TensorType};
use smallvec::SmallVec;

use crate::convert::to_f32;
use crate::index::count;
use crate::kernel::concrete;
use crate::kernels::linear::tiled::{Constant, Tiled};
use crate::kernels::linear::{Batched, Weights};
use crate::memory::AlignedBytes;
use crate::pool::Shares;
use crate::simd::gemm::{
    Bias, Elements, F16, F32, Gemm, Matrix, Operand, Output, SLACK, Source, Target, pack, panel_rows,
};
use crate::simd::tiles::split::{Columns, Lines, Packing, Paired, Strided};
use crate::simd::tiles::{self, DEPTH, product};
use crate::simd::window::{Channel, Depthwise, Gather, Layout, Line, REACH};
use crate::simd::{Isa, convert};
use crate::{Kernel, KernelError, Packed, Params, Prepared, Run, Step, View};

impl Kernel for Conv {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let plan = Plan::new(p, outputs)?;
        if plan.is_linear() {
            let slots = [p.x.slot, p.weight.slot];
            return plan.linear().prepare(
                slots,
                p.bias.map(|t| t.slot),
                [p.x.dtype, p.weight.dtype],
                outputs[0].dtype,
            );
        }
        plan.prepare(p, None)
    }

    fn pack(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Option<Packed>, KernelError> {
        let plan = Plan::new(p, outputs)?;
        if plan.is_linear() {
            return plan.linear().pack(p.x.dtype, p.weight, outputs[0].dtype);
        }
        let (Some(weight), false) = (p.weight.value(), plan.is_depthwise()) else { return Ok(None) };
        let dtypes = [p.x.dtype, weight.dtype(), outputs[0].dtype];
        let weight = to_f32(&View::from(weight));
        let size @ [m, k, _] = plan.size();
        let starts: Vec<usize> = (0..plan.groups).map(|g| g * m * k).collect();
        let paired = plan.paired_size();
        let ordered = paired.map(|size| plan.order_for_pairs(&weight, size[1]));
        let (data, size) = (ordered.as_deref().unwrap_or(&weight), paired.unwrap_or(size));
        let tile_k = size[1];
        let tile_starts: Vec<usize> = (0..plan.groups).map(|g| g * m * tile_k).collect();
        let rows = Strided { data: F32(data), k: tile_k, strides: [tile_k, 1], starts: &tile_starts };
        let constant = if paired.is_some() { Constant::PairedRows(rows) } else { Constant::Rows(rows) };
        let split = Tiled::pack(&constant, data, dtypes, size, plan.groups, p.weight.slot);
        if split.is_some() {
            return Ok(split);
        }
        let matrix = Matrix::new(F32(&weight), m, k, [k, 1], &starts).rows();
        let data = pack(plan.isa, &matrix, [plan.groups, m, k], panel_rows(plan.isa, m));
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
        if plan.is_linear() {
            let slots = [p.x.slot, p.weight.slot];
            let dtypes = [p.x.dtype, outputs[0].dtype];
            return plan.linear().prepare_packed(slots, p.bias.map(|t| t.slot), dtypes, packed);
        }
        plan.prepare(p, Some(packed))
    }
}

/// The most elements that a channel's planes may have beyond twice those of its input and of its matrix kernel offsets
/// × positions. Only absurd padding needs more.
const MAX_PADDING: usize = 1 << 24;
/// The most channels that run at the same time, one in each task; scratch memory is for so many, as in `simd::gemm`.
const LANES: usize = 8;

/// About how many results of channels of their own are computed at a time, and how many channels at most.
const GROUP: usize = 4096;
const MAX_GROUP: usize = 32;

/// The geometry of a convolution, in three spatial dimensions.
struct Plan {
    isa: Isa,
    batch: usize,
    channels: usize,
    outputs: usize,
    groups: usize,
    input: [usize; 3],
    output: [usize; 3],
    window: [Sweep; 3],
    /// For each dimension, the phases of the stride that some kernel offset reads.
    phases: [Vec<usize>; 3],
    /// The size of a plane. Each phase of each channel has a plane.
    plane: [usize; 3],
    /// The number of elements in all planes of a channel.
    pitch: usize,
    /// For each kernel offset, its index in a channel's planes.
    taps: Vec<usize>,
    /// What goes where in a channel's planes.
    layout: Layout,
    /// Whether the input can serve as its planes without a copy.
    in_place: bool,
    half_input: bool,
    half_output: bool,
}

impl Plan {
    fn new(p: &Params<'_, Conv>, outputs: &[TensorType]) -> Result<Plan, KernelError> {
        let (x, weight, out) = (concrete(&p.x)?, concrete(&p.weight)?, concrete(&outputs[0])?);
        let window = pad_3d(p.window().sweeps(&p.x.shape[2..], &weight[2..])?);
        let (input, output) = (to_3d(&x[2..]), to_3d(&out[2..]));
        let taps_of = |d: usize| (0..window[d].kernel).map(move |t| t * window[d].dilation);
        let phases = [0, 1, 2].map(|d| {
            let mut phases: Vec<usize> = taps_of(d).map(|t| t % window[d].stride).collect();
            phases.sort_unstable();
            phases.dedup();
            phases
        });
        let plane = [0, 1, 2].map(|d| (window[d].span() - 1) / window[d].stride + output[d]);
        let size = plane
            .iter()
            .chain(&[0, 1, 2].map(|d: usize| phases[d].len()))
            .try_fold(1usize, |n, &d| n.checked_mul(d));
        let room = 2 * (count(&input) + count(&output) * count(&weight[2..])) + MAX_PADDING;
        let pitch = size.filter(|&n| n <= room && n.checked_mul(x[1] + 1).is_some());
        let pitch = pitch.ok_or_else(|| KernelError::unsupported("a window far larger than its input"))?;
        let mut taps = Vec::with_capacity(window.iter().map(|w| w.kernel).product());
        for z in taps_of(0) {
            for y in taps_of(1) {
                for x in taps_of(2) {
                    let (mut plane_number, mut offset) = (0, 0);
                    for (d, t) in [z, y, x].into_iter().enumerate() {
                        let phase = phases[d].binary_search(&(t % window[d].stride)).unwrap_or(0);
                        plane_number = plane_number * phases[d].len() + phase;
                        offset = offset * plane[d] + t / window[d].stride;
                    }
                    taps.push(plane_number * count(&plane) + offset);
                }
            }
        }
        let layout = layout(input, &window, &phases, plane);
        let half_input = p.x.dtype == DType::Fp16;
        Ok(Plan {
            isa: Isa::detect(),
            batch: x[0],
            channels: x[1],
            outputs: weight[0],
            groups: x[1] / weight[1].max(1),
            input,
            output,
            window,
            phases,
            plane,
            pitch,
            taps,
            layout,
            in_place: !half_input && window.iter().all(still),
            half_input,
            half_output: outputs[0].dtype == DType::Fp16,
        })
    }

    /// Whether the window sees the whole input at its only position: the convolution is then a linear layer.
    fn is_linear(&self) -> bool {
        let whole = |(window, &size): (&Sweep, &usize)| {
            window.kernel == size
                && (window.before, window.after) == (0, 0)
                && (size == 1 || window.dilation == 1)
        };
        self.groups == 1 && self.window.iter().zip(&self.input).all(whole) && count(&self.output) == 1
    }

    /// The product that a linear layer is.
    fn linear(&self) -> Batched {
        let [m, k, _] = self.size();
        Batched::new([self.batch, k, m], &[], [&[], &[]], [[k, 1], [1, k]])
    }

    fn is_depthwise(&self) -> bool {
        self.channels == self.groups
    }

    /// Returns the rows, inner size and columns of the product of one group.
    fn size(&self) -> [usize; 3] {
        let groups = self.groups.max(1);
        [self.outputs / groups, self.channels / groups * self.taps.len(), count(&self.output)]
    }

    fn prepare(self, p: &Params<'_, Conv>, packed: Option<Packed>) -> Result<Prepared, KernelError> {
        let slots = [p.x.slot, p.weight.slot];
        let bias = p.bias.map(|t| t.slot);
        if self.is_depthwise() {
            return Ok(self.depthwise(slots, bias).into());
        }
        let [m, k, _] = self.size();
        let dtypes = [p.x.dtype, p.x.dtype, if self.half_output { DType::Fp16 } else { DType::Fp32 }];
        let lines = [self.groups, m, self.paired_size().map_or(k, |size| size[1])];
        let tiled = packed.as_ref().map(|packed| Tiled::of(packed, dtypes, lines)).transpose()?;
        if let Some(tiled) = tiled.flatten() {
            return Ok(self.product(slots, bias, Weights::Tiled(tiled)).into());
        }
        if let Some(packed) = &packed {
            let floats = self.groups * m.next_multiple_of(panel_rows(self.isa, m)) * k + SLACK;
            if packed.params != [floats as u64] || packed.data.len() != floats * 4 {
                return Err(KernelError::invalid("the packed weight of a convolution has another size"));
            }
        }
        let weights = packed.map_or(Weights::Input, |packed| Weights::Packed(packed.data));
        Ok(self.product(slots, bias, weights).into())
    }

    /// Makes the step for a convolution that is a product for each group.
    fn product(self, [x, weight]: [usize; 2], bias: Option<usize>, weights: Weights) -> Step {
        let [m, k, n] = self.size();
        let (isa, groups, pitch) = (self.isa, self.groups, self.pitch);
        // The matrix is the input itself. If few rows of the weight read it, packing it costs more than it gains.
        let pointwise = self.taps.len() == 1 && self.window.iter().all(still);
        let direct = pointwise && !self.half_input && m <= 4 * panel_rows(isa, m);
        let per_group = self.channels / groups.max(1);
        let packed = matches!(weights, Weights::Packed(_));
        let gemm = Gemm::new(isa, [m, k, n], groups, [packed, direct], self.half_output);
        let starts = self.line_starts();
        let spread = product::Spread { line: self.output[2], starts: starts.clone() };
        // Where the input's channels are split in pairs: floats of a plane, and of all. The pitch is an odd number of
        // lines of a cache, so that the lines of a tile do not compete for their places in it.
        let pair_pitch = (pitch.div_ceil(16) | 1) * 16;
        let channels = Paired {
            data: &[],
            pitch: pair_pitch,
            blocks: per_group.div_ceil(DEPTH),
            taps: &self.taps,
            line: self.output[2],
            starts: &starts,
        };
        let paired = self.paired_size();
        // Tiles also compute the positions between lines; copies of panels do not have them.
        let in_place = paired.is_some() && {
            let panels = |n: usize| n.div_ceil(tiles::SIDE);
            let positions = starts.last().map_or(0, |last| last + self.output[2]);
            4 * panels(positions) <= 5 * panels(n)
        };
        let on_tiles = match &weights {
            Weights::Tiled(tiled) => {
                let planes = in_place.then_some((spread, &channels));
                let size = paired.unwrap_or([m, k, n]);
                Some(tiled.product(isa, size, groups, true, self.half_output, planes))
            }
            _ => None,
        };
        let pairs = match &weights {
            Weights::Tiled(tiled) if paired.is_some() => Some((
                tiled.planes,
                groups * per_group.next_multiple_of(DEPTH) / 2 * tiled.planes.count() * pair_pitch,
            )),
            _ => None,
        };
        let variant = if on_tiles.is_some() { "tiles" } else { "gemm" };
        let rows: Vec<usize> =
            (0..per_group).flat_map(|c| self.taps.iter().map(move |t| c * pitch + t)).collect();
        let last_tap = rows.iter().copied().max().unwrap_or(0);
        let weight_starts: Vec<usize> = (0..groups).map(|g| g * m * k).collect();
        let inputs: Vec<usize> = (0..groups).map(|g| g * k * n).collect();
        let planes_len =
            if self.in_place || pointwise { 0 } else { self.channels * pitch + SLACK }.next_multiple_of(16);
        let planes_len = planes_len.max(pairs.map_or(0, |(_, floats)| (floats + SLACK).next_multiple_of(16)));
        let tile_scratch = on_tiles.as_ref().map_or(0, product::Product::scratch);
        let scratch = planes_len * 4 + (gemm.scratch() * 4).max(tile_scratch);
        let step = Step::new(move |run: &mut Run<'_>| {
            let x = &run.inputs[x];
            let (weight_data, matrix, joined);
            let mut tiles = None;
            let left = match &weights {
                Weights::Packed(data) => Operand::Packed(bytemuck::cast_slice(data)),
                Weights::Input => {
                    weight_data = to_f32(&run.inputs[weight]);
                    matrix = Matrix::new(F32(&weight_data), m, k, [k, 1], &weight_starts).rows();
                    Operand::Panels(&matrix)
                }
                Weights::Tiled(tiled) => {
                    if tiled.takes(self.isa, run.pool, k, x) {
                        tiles = on_tiles.as_ref().zip(Some(tiled.ordered()));
                    }
                    joined = tiled.joined([m, k], true, if pairs.is_some() { self.taps.len() } else { 0 });
                    Operand::Panels(&joined)
                }
            };
            let plain_bias = bias.map(|slot| to_f32(&run.inputs[slot]));
            let bias: Option<Vec<f32>> = plain_bias
                .as_ref()
                .filter(|_| tiles.is_none())
                .map(|bias| bias.chunks(m.max(1)).flat_map(|b| gemm.pad_bias(b, true)).collect());
            let bias = bias.as_ref().map_or(Bias::None, |b| Bias::Rows(b));
            let (planes, scratch) = run.scratch.split_at_mut(planes_len * 4);
            let planes: &mut [f32] = bytemuck::cast_slice_mut(planes);
            for image in 0..self.batch {
                let size = self.channels * count(&self.input);
                let paired = pairs.filter(|_| tiles.is_some());
                let data = if let Some((split, floats)) = paired {
                    self.lay_out_pairs(x, image, split, pair_pitch, &mut planes[..floats], run.pool);
                    &*planes
                } else if self.in_place {
                    &x.slice::<f32>()[image * size..][..size]
                } else if pointwise {
                    &[]
                } else {
                    self.lay_out(x, image, planes, run.pool);
                    &*planes
                };
                let laid_out = data;
                let gather = Gather {
                    data,
                    batch: per_group * pitch,
                    taps: &rows,
                    last_tap,
                    line: self.output[2],
                    starts: &starts,
                };
                let (plain, half, plain_lines, half_lines);
                let mut lines: Option<&dyn Columns> = None;
                let right = if direct && tiles.is_none() {
                    Operand::InPlace { data, stride: n, batch: k * n }
                } else if pointwise && self.half_input {
                    let halves = F16(&x.slice::<f16>()[image * size..][..size]);
                    half_lines = Lines { data: halves, k, stride: n, starts: &inputs };
                    lines = Some(&half_lines);
                    half = Matrix::new(halves, k, n, [n, 1], &inputs).columns();
                    Operand::Panels(&half)
                } else if pointwise {
                    plain_lines = Lines { data: F32(data), k, stride: n, starts: &inputs };
                    lines = Some(&plain_lines);
                    plain = Matrix::new(F32(data), k, n, [n, 1], &inputs).columns();
                    Operand::Panels(&plain)
                } else {
                    Operand::Panels(&gather)
                };
                let out = &mut run.outputs[0];
                let data =
                    if self.half_output { Elements::F16(out.slice()) } else { Elements::F32(out.slice()) };
                let out = Output { data, start: image * self.outputs * n };
                if let (Some((product, weight)), Operand::Panels(right)) = (tiles, right) {
                    let bias = plain_bias.as_ref().map_or(product::Bias::None, |b| product::Bias::Rows(b));
                    let channels = Paired {
                        data: laid_out,
                        pitch: pair_pitch,
                        blocks: per_group.div_ceil(DEPTH),
                        taps: &self.taps,
                        line: self.output[2],
                        starts: &starts,
                    };
                    let packing = Packing { panels: right, k };
                    let operands = match paired {
                        Some(_) if in_place => product::Operands::InPlace(weight, channels),
                        Some(_) => product::Operands::OrderedA(weight, &channels),
                        None => product::Operands::OrderedA(weight, lines.unwrap_or(&packing)),
                    };
                    product.run(run.pool, operands, bias, out, &run.epilogue, scratch);
                } else {
                    let scratch = bytemuck::cast_slice_mut(scratch);
                    gemm.run(run.pool, [left, right], bias, out, &run.epilogue, scratch);
                }
            }
            Ok(())
        });
        step.with_epilogue().with_scratch(scratch).named(variant)
    }

    /// The size of each product if the channels of the input are split in pairs for tiles: then k is a multiple of their
    /// depth for each kernel offset. `None` if there are too few channels, or if each is read only once.
    fn paired_size(&self) -> Option<[usize; 3]> {
        let [m, _, n] = self.size();
        let channels = self.channels / self.groups.max(1);
        let padded = channels.next_multiple_of(DEPTH);
        (self.taps.len() > 1 && 4 * channels >= 3 * padded).then(|| [m, padded * self.taps.len(), n])
    }

    /// The weight in the order in which [`Paired`] reads the input: blocks of channels, kernel offsets, channels.
    fn order_for_pairs(&self, weight: &[f32], k: usize) -> Vec<f32> {
        let (taps, channels) = (self.taps.len(), self.channels / self.groups.max(1));
        let mut ordered = vec![0.0; self.outputs * k];
        for (row, out) in
            weight.chunks_exact((channels * taps).max(1)).zip(ordered.chunks_exact_mut(k.max(1)))
        {
            for (i, x) in row.iter().enumerate() {
                let (channel, tap) = (i / taps, i % taps);
                out[(channel / DEPTH * taps + tap) * DEPTH + channel % DEPTH] = *x;
            }
        }
        ordered
    }

    /// Fills the planes of pairs of channels of an image, `pitch` floats apart: see [`Paired`].
    fn lay_out_pairs(
        &self,
        x: &View<'_>,
        image: usize,
        split: tiles::Planes,
        pitch: usize,
        out: &mut [f32],
        pool: &crate::Pool,
    ) {
        let per_group = self.channels / self.groups.max(1);
        let pairs = per_group.next_multiple_of(DEPTH) / 2;
        pool.for_each_chunk(out, (split.count() * pitch).max(1), |i, out| {
            let (group, pair) = (i / pairs, i % pairs);
            let low = pair / (DEPTH / 2) * DEPTH + pair % (DEPTH / 2);
            let channels = [low, low + DEPTH / 2].map(|channel| {
                (channel < per_group).then_some((image * self.groups + group) * per_group + channel)
            });
            if self.window[2].stride == 1 {
                if self.half_input {
                    self.lay_out_pair(F16(x.slice()), channels, split, pitch, out);
                } else {
                    self.lay_out_pair(F32(x.slice()), channels, split, pitch, out);
                }
                return;
            }
            for (channel, plane) in channels.into_iter().zip(out.chunks_exact_mut(pitch.max(1))) {
                let plane = &mut plane[..self.pitch];
                match channel {
                    Some(channel) => self.lay_out_channel(x, channel, plane),
                    None => plane.fill(0.0),
                }
            }
            tiles::split::pairs(self.isa, split, out);
        });
    }

    /// Fills the planes of a pair of channels, line by line. There is no stride along lines.
    fn lay_out_pair<T: Source>(
        &self,
        x: T,
        channels: [Option<usize>; 2],
        split: tiles::Planes,
        pitch: usize,
        out: &mut [f32],
    ) {
        let (size, width) = (count(&self.input), self.plane[2]);
        for (to, from) in self.lines() {
            let (from, before, len) = from.unwrap_or((0, width, 0));
            for plane in out.chunks_exact_mut(pitch) {
                plane[to..to + before].fill(0.0);
                plane[to + before + len..to + width].fill(0.0);
            }
            if len > 0 {
                let at = channels.map(|channel| channel.map(|channel| channel * size + from));
                tiles::split::pair_lines(self.isa, split, x, at, len, &mut out[to + before..], pitch);
            }
        }
        out.chunks_exact_mut(pitch).for_each(|plane| plane[self.pitch..].fill(0.0));
    }

    /// The lines of a channel's planes, if there is no stride along them: where each starts, and, if it is not padding,
    /// the element of the input at which it starts, the padding before that, and how many elements follow.
    fn lines(&self) -> impl Iterator<Item = (usize, Option<(usize, usize, usize)>)> + '_ {
        let [depth, height, width] = self.plane;
        let source = |d: usize, i: usize, phase: usize| {
            let at = (i * self.window[d].stride + phase).checked_sub(self.window[d].before);
            at.filter(|&at| at < self.input[d])
        };
        let before = self.window[2].before.min(width);
        let len = self.input[2].min(width - before);
        let planes = self.phases[0].iter().flat_map(|&pz| self.phases[1].iter().map(move |&py| (pz, py)));
        let lines = planes.flat_map(move |(pz, py)| {
            (0..depth).flat_map(move |z| (0..height).map(move |y| (source(0, z, pz), source(1, y, py))))
        });
        lines.enumerate().map(move |(i, at)| {
            let from = match at {
                (Some(z), Some(y)) if len > 0 => Some(((z * self.input[1] + y) * self.input[2], before, len)),
                _ => None,
            };
            (i * width, from)
        })
    }

    /// Makes the step for a convolution with one input channel per group.
    fn depthwise(self, [x, weight]: [usize; 2], bias: Option<usize>) -> Step {
        let positions = count(&self.output);
        let (channels, taps) = (self.batch * self.outputs, self.taps.len());
        // Small channels are computed several at a time.
        let group = (GROUP / positions.max(1)).clamp(1, MAX_GROUP);
        let lengths = [self.pitch + REACH, group * positions].map(|n| n.next_multiple_of(16));
        let lane: usize = lengths.iter().sum();
        let product =
            Depthwise::new(self.layout.clone(), self.taps.clone(), self.line_starts(), self.output[2]);
        let step = Step::new(move |run: &mut Run<'_>| {
            let weight = to_f32(&run.inputs[weight]);
            let bias = bias.map(|slot| to_f32(&run.inputs[slot]));
            let (x, epilogue) = (&run.inputs[x], run.epilogue);
            let out = &mut run.outputs[0];
            let target = Target::new(if self.half_output {
                Elements::F16(out.slice())
            } else {
                Elements::F32(out.slice())
            });
            if channels * positions == 0 {
                return Ok(());
            }
            let channel = |i: usize| {
                let (image, c) = (i / self.outputs, i % self.outputs);
                let from = image * self.channels + c / (self.outputs / self.groups);
                let bias = bias.as_ref().map_or(0.0, |b| b[c]);
                Channel { start: from * count(&self.input), weights: &weight[c * taps..][..taps], bias }
            };
            let groups = channels.div_ceil(group);
            let lanes = run.pool.threads().clamp(1, LANES.min(groups));
            let shares = Shares::new(groups, lanes);
            let scratch: &mut [f32] = bytemuck::cast_slice_mut(run.scratch);
            run.pool.for_each_chunk(&mut scratch[..lanes * lane], lane, |l, scratch| {
                let (planes, staged) = scratch.split_at_mut(lengths[0]);
                // Padding is zero for all channels, which write only the elements of the input.
                planes.fill(0.0);
                for first in shares.of(l).map(|i| i * group) {
                    let all: SmallVec<[Channel<'_>; MAX_GROUP]> =
                        (first..channels.min(first + group)).map(channel).collect();
                    let (at, len) = (first * positions, all.len() * positions);
                    let results = if target.f32 {
                        // SAFETY: the output has `channels` planes of `positions` elements, and each task writes the
                        // planes of its own channels.
                        unsafe { target.row::<f32>(at, len) }
                    } else {
                        &mut staged[..len]
                    };
                    if self.half_input {
                        product.run(self.isa, F16(x.slice()), &all, planes, results);
                    } else {
                        product.run(self.isa, F32(x.slice()), &all, planes, results);
                    }
                    epilogue.apply(at, results);
                    if !target.f32 {
                        // SAFETY: as above.
                        convert::narrow(self.isa, results, unsafe { target.row::<f16>(at, len) });
                    }
                }
            });
            Ok(())
        });
        step.with_epilogue().with_scratch(LANES * lane * 4).named("depthwise")
    }

    /// Returns the index in a plane at which each line of output positions starts.
    fn line_starts(&self) -> Vec<usize> {
        let [depth, height, _] = self.output;
        let line = |z: usize, y: usize| (z * self.plane[1] + y) * self.plane[2];
        (0..depth).flat_map(|z| (0..height).map(move |y| line(z, y))).collect()
    }

    /// Fills the planes of all channels of an image.
    fn lay_out(&self, x: &View<'_>, image: usize, planes: &mut [f32], pool: &crate::Pool) {
        if self.pitch == 0 {
            return;
        }
        let first = image * self.channels;
        pool.for_each_chunk(&mut planes[..self.channels * self.pitch], self.pitch, |c, out| {
            self.lay_out_channel(x, first + c, out);
        });
    }

    /// Fills the planes of a channel.
    fn lay_out_channel(&self, x: &View<'_>, channel: usize, out: &mut [f32]) {
        // Clears all planes at once: lines of small images are short, and most have padding.
        if !self.window.iter().all(still) {
            out.fill(0.0);
        }
        let start = channel * count(&self.input);
        if self.half_input {
            self.layout.fill(self.isa, F16(x.slice()), start, out);
        } else {
            self.layout.fill(self.isa, F32(x.slice()), start, out);
        }
    }
}

/// What goes where in the planes of a channel: see the module.
fn layout(input: [usize; 3], window: &[Sweep; 3], phases: &[Vec<usize>; 3], plane: [usize; 3]) -> Layout {
    let [depth, height, width] = plane;
    // The input index of element `i` of a plane of phase `phase`; `None` for padding.
    let source = |d: usize, i: usize, phase: usize| {
        let at = (i * window[d].stride + phase).checked_sub(window[d].before);
        at.filter(|&at| at < input[d])
    };
    let (stride, before) = (window[2].stride, window[2].before);
    let mut lines = Vec::new();
    let mut to = 0;
    for &pz in &phases[0] {
        for &py in &phases[1] {
            for &px in &phases[2] {
                let low = before.saturating_sub(px).div_ceil(stride).min(width);
                let high = (input[2] + before).saturating_sub(px).div_ceil(stride).clamp(low, width);
                for (z, y) in (0..depth).flat_map(|z| (0..height).map(move |y| (z, y))) {
                    if let (Some(z), Some(y)) = (source(0, z, pz), source(1, y, py))
                        && low < high
                    {
                        let from = (z * input[1] + y) * input[2] + low * stride + px - before;
                        lines.push(Line { from, to: to + low, len: high - low });
                    }
                    to += width;
                }
            }
        }
    }
    Layout::new(lines, stride)
}

/// Whether planes have the input's elements unchanged in one dimension: there is no padding and no stride.
fn still(window: &Sweep) -> bool {
    (window.stride, window.before, window.after) == (1, 0, 0)
}

/// Extends one to three sizes to three, with ones in front.
pub(crate) fn to_3d(sizes: &[usize]) -> [usize; 3] {
    let mut all = [1; 3];
    all[3 - sizes.len()..].copy_from_slice(sizes);
    all
}

/// Extends one to three window geometries to three, with windows of size 1 in front.
pub(crate) fn pad_3d(sweeps: Vec<Sweep>) -> [Sweep; 3] {
    let still = Sweep { output: 1.into(), kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 };
    let mut all = [still; 3];
    all[3 - sweeps.len()..].copy_from_slice(&sweeps);
    all
}
