//! Matrix products.

pub(crate) mod compressed;
mod einsum;
#[expect(clippy::module_inception, reason = "the op has its family's name")]
mod linear;
mod matmul;
pub(crate) mod tiled;

use bytes::Bytes;
use compressed::Form;
use milwright_mil::{DType, ops};
use tiled::{Constant, Tiled};

use crate::convert::{narrow, to_f32, widen};
use crate::index::{Walk, broadcast_strides, count};
use crate::memory::AlignedBytes;
use crate::simd::gemm::{self, Bias, Elements, F16, F32, Gemm, Matrix, Operand, Output, Panels, Target};
use crate::simd::tiles::{product, split};
use crate::simd::{Isa, coded, gemv};
use crate::{KernelError, Packed, Prepared, Run, Step, View, with_int};

/// The most rows of a product that reads a packed matrix as it goes, instead of in tiles.
const FLAT: usize = 4;
/// The fewest elements of the matrix for which such a product is split among threads.
const LEAST: usize = 1 << 16;

/// A packed matrix that a product of a few rows reads.
enum Weight {
    F32(Bytes),
    F16(Bytes),
    Coded(Form, Bytes),
}

/// The constant operand of any other product.
pub(crate) enum Weights {
    /// It is an input after all.
    Input,
    /// It is packed.
    Packed(Bytes),
    /// It is ordered for tiles.
    Tiled(Tiled),
}

/// A batched product of two inputs, given as strides. `matmul`, `linear` and `einsum` are such products.
#[derive(Clone, Debug)]
pub(crate) struct Batched {
    /// Rows, inner size, columns of each product.
    pub size: [usize; 3],
    /// For each operand, the element at which its matrix for each batch position starts.
    pub starts: [Vec<usize>; 2],
    /// The row and column stride of each operand.
    pub strides: [[usize; 2]; 2],
}

impl Batched {
    /// Makes a product of operands whose batch shapes, `batches`, broadcast to `batch`.
    pub fn new(
        size: [usize; 3],
        batch: &[usize],
        batches: [&[usize]; 2],
        strides: [[usize; 2]; 2],
    ) -> Batched {
        let [m, k, n] = size;
        let starts = |shape: &[usize], elements: usize| {
            let walk = Walk::new(batch, broadcast_strides(shape, batch).iter().map(|&s| s as isize), 0);
            let mut starts = Vec::with_capacity(count(batch));
            walk.runs(0, count(batch), |_, offset, stride, len| {
                starts.extend((0..len).map(|i| (offset as isize + i as isize * stride) as usize * elements));
            });
            starts
        };
        let starts = [starts(batches[0], m * k), starts(batches[1], k * n)];
        Batched { size, starts, strides }
    }

    /// Prepares the product of two slots with element types `from`, plus a bias for each column, into output 0.
    /// Products of integers are exact; if one operand is a float, both are computed as floats.
    pub fn prepare(
        self,
        slots: [usize; 2],
        bias: Option<usize>,
        from: [DType; 2],
        dtype: DType,
    ) -> Result<Prepared, KernelError> {
        if from.iter().all(|d| d.is_int()) {
            return self.integers(slots, bias, dtype);
        }
        Ok(self.floats(slots, bias, dtype, Weights::Input)?.into())
    }

    /// Packs the second operand, if it is constant and the batch has a single product. `from` is the element type of the
    /// first one.
    pub fn pack(
        &self,
        from: DType,
        right: ops::Operand<'_>,
        dtype: DType,
    ) -> Result<Option<Packed>, KernelError> {
        let known = right.value().filter(|t| t.dtype().is_float() && dtype.is_float());
        let (Some(constant), [_]) = (known, self.starts[1].as_slice()) else { return Ok(None) };
        let [_, k, n] = self.size;
        let values = to_f32(&View::from(constant));
        let matrix = Matrix::new(F32(&values), k, n, self.strides[1], &[]).columns();
        if !self.is_flat() {
            let dtypes = [from, constant.dtype(), dtype];
            let split = Tiled::pack(&Constant::Columns(&matrix), &values, dtypes, self.size, 1, right.slot);
            if split.is_some() {
                return Ok(split);
            }
        }
        let isa = Isa::detect();
        let data = gemm::pack(isa, &matrix, [1, n, k], gemm::panel_columns(isa));
        // Halves stay halves where the product reads them once; elsewhere they would be widened again and again.
        let half = self.is_flat() && constant.dtype() == DType::Fp16;
        let params = vec![data.len() as u64, half.into()];
        let data = if half {
            let mut halves = AlignedBytes::zeroed(data.len() * 2);
            narrow(&data, bytemuck::cast_slice_mut(halves.as_mut()));
            halves
        } else {
            AlignedBytes::from(data.as_slice())
        };
        Ok(Some(Packed { params, data: data.into(), slots: vec![right.slot] }))
    }

    /// Like [`prepare`](Batched::prepare), given the result of [`pack`](Batched::pack).
    pub fn prepare_packed(
        self,
        slots: [usize; 2],
        bias: Option<usize>,
        [from, dtype]: [DType; 2],
        packed: Packed,
    ) -> Result<Prepared, KernelError> {
        let [_, k, n] = self.size;
        if let Some(tiled) = Tiled::of(&packed, [from, from, dtype], [1, n, k])? {
            return Ok(self.floats(slots, bias, dtype, Weights::Tiled(tiled))?.into());
        }
        let float = matches!(dtype, DType::Fp32 | DType::Fp16);
        if let Some(form) = Form::of(&packed.params).filter(|_| self.is_flat() && float) {
            form.check([k, n], &packed.data)?;
            return Ok(self.flat(slots, bias, Weight::Coded(form, packed.data)).into());
        }
        let floats = n.next_multiple_of(gemm::panel_columns(Isa::detect())) * k + gemm::SLACK;
        let half = packed.params.get(1) == Some(&1);
        let bytes = if half { floats * 2 } else { floats * 4 };
        let params = [floats as u64, half.into()];
        if packed.params != params || packed.data.len() != bytes || (half && !self.is_flat()) {
            return Err(KernelError::invalid("the packed matrix of a product has another size"));
        }
        if self.is_flat() && float {
            let weight = if half { Weight::F16(packed.data) } else { Weight::F32(packed.data) };
            return Ok(self.flat(slots, bias, weight).into());
        }
        Ok(self.floats(slots, bias, dtype, Weights::Packed(packed.data))?.into())
    }

    /// Whether the product has so few rows that a tile does not pay.
    fn is_flat(&self) -> bool {
        self.size[0] <= FLAT && self.starts[0].len() == 1
    }

    /// The step of a product of a few rows with a packed matrix. Each thread has a part of the columns.
    fn flat(self, slots: [usize; 2], bias: Option<usize>, weight: Weight) -> Step {
        let [m, k, n] = self.size;
        let isa = Isa::detect();
        let unit = gemm::panel_columns(isa);
        let padded = n.next_multiple_of(unit);
        let scratch = 4 * m * (padded + k).next_multiple_of(16);
        let variant = if matches!(weight, Weight::Coded(..)) { "compressed" } else { "flat" };
        let step = Step::new(move |run| {
            if m * n == 0 {
                return Ok(());
            }
            let scratch: &mut [f32] = bytemuck::cast_slice_mut(&mut *run.scratch);
            let (sums, rows) = scratch.split_at_mut(m * padded);
            let x = &run.inputs[slots[0]];
            let [row_stride, step] = self.strides[0];
            let (rows, stride): (&[f32], usize) = if x.dtype() == DType::Fp32 && step == 1 {
                (x.slice(), row_stride)
            } else if x.dtype() == DType::Fp16 && step == 1 {
                let x = x.slice::<half::f16>();
                for (r, row) in rows.chunks_exact_mut(k.max(1)).take(m).enumerate() {
                    widen(&x[r * row_stride..][..k], row);
                }
                (rows, k)
            } else {
                let x = to_f32(x);
                for (i, to) in rows[..m * k].iter_mut().enumerate() {
                    *to = x[i / k * row_stride + i % k * step];
                }
                (rows, k)
            };
            let bias = bias.map(|slot| to_f32(&run.inputs[slot]));
            let epilogue = run.epilogue;
            let out = &mut run.outputs[0];
            let target = Target::new(match out.dtype() {
                DType::Fp32 => Elements::F32(out.slice()),
                _ => Elements::F16(out.slice()),
            });
            let chunk = run.pool.chunk(padded, unit, LEAST / k.max(1));
            run.pool.for_each_chunk(&mut sums[..m * padded], m * chunk, |i, sums| {
                let (first, columns) = (i * chunk, sums.len() / m);
                let kept = columns.min(n - first);
                for row in sums.chunks_exact_mut(columns) {
                    match &bias {
                        Some(bias) => row[..kept].copy_from_slice(&bias[first..first + kept]),
                        None => row[..kept].fill(0.0),
                    }
                    row[kept..].fill(0.0);
                }
                let (size, strides, at) = ([m, k, columns], [stride, columns], first * k);
                match &weight {
                    Weight::F32(data) => {
                        let panels: &[f32] = bytemuck::cast_slice(data);
                        gemv::add_product(isa, size, rows, strides, &panels[at..], sums);
                    }
                    Weight::F16(data) => {
                        let panels: &[half::f16] = bytemuck::cast_slice(data);
                        gemv::add_product(isa, size, rows, strides, &panels[at..], sums);
                    }
                    Weight::Coded(form, data) => {
                        let matrix = form.read([k, n], data);
                        coded::add_product(isa, size, rows, strides, (matrix, first / unit), sums);
                    }
                }
                for (r, row) in sums.chunks_exact_mut(columns).enumerate() {
                    let (at, row) = (r * n + first, &mut row[..kept]);
                    epilogue.apply(at, row);
                    // SAFETY: the output has `m` rows of `n` elements; `first + kept` is at most `n`, and no other
                    // chunk has these columns.
                    unsafe {
                        if target.f32 {
                            target.row::<f32>(at, kept).copy_from_slice(row);
                        } else {
                            narrow(row, target.row::<half::f16>(at, kept));
                        }
                    }
                }
            });
            Ok(())
        });
        step.with_scratch(scratch).with_epilogue().named(variant)
    }

    fn floats(
        self,
        slots: [usize; 2],
        bias: Option<usize>,
        dtype: DType,
        weights: Weights,
    ) -> Result<Step, KernelError> {
        let [m, k, n] = self.size;
        let [a_strides, b_strides] = self.strides;
        let isa = Isa::detect();
        // If few rows read the second operand, packing it costs more than it gains.
        let few = b_strides[1] == 1 && m <= 2 * gemm::panel_rows(isa, m);
        let apart = match self.starts[1].as_slice() {
            [_, second, ..] => *second,
            _ => 0,
        };
        let regular = self.starts[1].iter().enumerate().all(|(i, &s)| s == i * apart);
        let staged = dtype != DType::Fp32;
        let batch = self.starts[0].len();
        let packed = matches!(weights, Weights::Packed(_));
        let gemm = Gemm::new(isa, [m, k, n], batch, [false, packed], staged);
        let on_tiles = match &weights {
            Weights::Tiled(tiled) => Some(tiled.product(isa, [m, k, n], batch, false, staged, None)),
            _ => None,
        };
        let scratch = (gemm.scratch() * 4).max(on_tiles.as_ref().map_or(0, product::Product::scratch));
        let variant = if on_tiles.is_some() { "tiles" } else { "gemm" };
        let step = Step::new(move |run| {
            if let (Some(product), Weights::Tiled(tiled)) = (&on_tiles, &weights) {
                let a = &run.inputs[slots[0]];
                if tiled.takes(isa, run.pool, k, a) {
                    let starts = &self.starts[0];
                    let (a16, a32);
                    let rows: &dyn split::Rows = if a.dtype() == DType::Fp16 {
                        a16 = split::Strided { data: F16(a.slice()), k, strides: a_strides, starts };
                        &a16
                    } else {
                        a32 = split::Strided { data: F32(a.slice()), k, strides: a_strides, starts };
                        &a32
                    };
                    let bias = bias.map(|slot| to_f32(&run.inputs[slot]));
                    let bias = bias.as_ref().map_or(product::Bias::None, |b| product::Bias::Columns(b));
                    let operands = product::Operands::OrderedB(rows, tiled.ordered());
                    let out = &mut run.outputs[0];
                    let data = match out.dtype() {
                        DType::Fp32 => Elements::F32(out.slice()),
                        _ => Elements::F16(out.slice()),
                    };
                    product.run(
                        run.pool,
                        operands,
                        bias,
                        Output { data, start: 0 },
                        &run.epilogue,
                        run.scratch,
                    );
                    return Ok(());
                }
            }
            let a = &run.inputs[slots[0]];
            let input = matches!(weights, Weights::Input);
            let (wide_a, wide_b) = (widened(a), if input { widened(&run.inputs[slots[1]]) } else { None });
            let starts = &self.starts;
            let (a16, a32);
            let left: &dyn Panels = if a.dtype() == DType::Fp16 {
                a16 = Matrix::new(F16(a.slice()), m, k, a_strides, &starts[0]).rows();
                &a16
            } else {
                let data = wide_a.as_deref().unwrap_or_else(|| a.slice());
                a32 = Matrix::new(F32(data), m, k, a_strides, &starts[0]).rows();
                &a32
            };
            let b = &run.inputs[slots[1]];
            let (b16, b32, joined);
            let right = if let Weights::Packed(packed) = &weights {
                Operand::Packed(bytemuck::cast_slice(packed))
            } else if let Weights::Tiled(tiled) = &weights {
                joined = tiled.joined([n, k], false, 0);
                Operand::Panels(&joined)
            } else if b.dtype() == DType::Fp16 {
                b16 = Matrix::new(F16(b.slice()), k, n, b_strides, &starts[1]).columns();
                Operand::Panels(&b16)
            } else {
                let data = wide_b.as_deref().unwrap_or_else(|| b.slice());
                if few && regular {
                    Operand::InPlace { data, stride: b_strides[0], batch: apart }
                } else {
                    b32 = Matrix::new(F32(data), k, n, b_strides, &starts[1]).columns();
                    Operand::Panels(&b32)
                }
            };
            let bias = bias.map(|slot| gemm.pad_bias(&to_f32(&run.inputs[slot]), false));
            let bias = bias.as_ref().map_or(Bias::None, |b| Bias::Columns(b));
            let operands = [Operand::Panels(left), right];
            let scratch: &mut [f32] = bytemuck::cast_slice_mut(run.scratch);
            let out = &mut run.outputs[0];
            match out.dtype() {
                DType::Fp32 => {
                    let out = Output { data: Elements::F32(out.slice()), start: 0 };
                    gemm.run(run.pool, operands, bias, out, &run.epilogue, scratch);
                }
                DType::Fp16 => {
                    let out = Output { data: Elements::F16(out.slice()), start: 0 };
                    gemm.run(run.pool, operands, bias, out, &run.epilogue, scratch);
                }
                _ => {
                    let mut wide = vec![0.0; out.elements()];
                    let data = Output { data: Elements::F32(&mut wide), start: 0 };
                    let gemm = Gemm::new(isa, [m, k, n], batch, [false, packed], false);
                    gemm.run(run.pool, operands, bias, data, &run.epilogue, scratch);
                    with_int!(dtype, T => {
                        // Results of integer types are truncated.
                        out.slice::<T>().iter_mut().zip(&wide).for_each(|(o, &x)| *o = x as T);
                    }, else => return Err(KernelError::unsupported(format!("products of {dtype}"))));
                }
            }
            Ok(())
        });
        let step = step.with_scratch(scratch).named(variant);
        // An epilogue must see results that are rounded to integers, so integer products take none.
        Ok(if dtype.is_int() { step } else { step.with_epilogue() })
    }

    /// Prepares an exact product of integers, which wraps.
    fn integers(self, slots: [usize; 2], bias: Option<usize>, dtype: DType) -> Result<Prepared, KernelError> {
        Ok(Prepared::step(move |run| {
            with_int!(dtype, T => {
                let (a, b) = (run.inputs[slots[0]].slice::<T>(), run.inputs[slots[1]].slice::<T>());
                let bias = bias.map(|slot| run.inputs[slot].slice::<T>());
                let out = run.outputs[0].slice::<T>();
                let [m, k, n] = self.size;
                let [[ar, ac], [br, bc]] = self.strides;
                for (i, (&a0, &b0)) in self.starts[0].iter().zip(&self.starts[1]).enumerate() {
                    for r in 0..m {
                        for c in 0..n {
                            let mut sum: T = bias.map_or(0, |b| b[c]);
                            for x in 0..k {
                                sum = sum.wrapping_add(a[a0 + r * ar + x * ac].wrapping_mul(b[b0 + x * br + c * bc]));
                            }
                            out[(i * m + r) * n + c] = sum;
                        }
                    }
                }
                Ok(())
            }, else => Err(KernelError::unsupported(format!("products of {dtype}"))))
        }))
    }
}

/// Returns the elements widened to `f32`, unless the element type is fp32 or fp16.
fn widened(view: &View<'_>) -> Option<Vec<f32>> {
    (!matches!(view.dtype(), DType::Fp32 | DType::Fp16)).then(|| to_f32(view).into_owned())
}

/// Lets `f` fill output 0 as f32, then rounds it to the output's element type. `f` applies the epilogue itself.
pub(crate) fn float_output(
    run: &mut Run<'_>,
    f: impl FnOnce(&mut [f32], &crate::Pool, crate::chain::Epilogue<'_>),
) {
    let (pool, epilogue) = (run.pool, run.epilogue);
    let out = &mut run.outputs[0];
    match out.dtype() {
        DType::Fp32 => f(out.slice(), pool, epilogue),
        _ => {
            let mut wide = vec![0.0; out.elements()];
            f(&mut wide, pool, epilogue);
            if out.dtype() == DType::Fp16 {
                narrow(&wide, out.slice());
            } else {
                crate::convert::write_f32(out, 0, &wide);
            }
        }
    }
}

/// The shape of a view without its last two dimensions.
pub(crate) fn batch_of(shape: &[usize]) -> &[usize] {
    &shape[..shape.len().saturating_sub(2)]
}
