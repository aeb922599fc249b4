//! Matrix products.

mod einsum;
#[expect(clippy::module_inception, reason = "the op has its family's name")]
mod linear;
mod matmul;

use milwright_mil::DType;

use crate::convert::{narrow, to_f32};
use crate::index::{Walk, broadcast_strides, count};
use crate::product::{Matrix, product};
use crate::{KernelError, Prepared, Run, Step, with_int};

/// A batched product of two inputs, as strides: everything that `matmul`, `linear` and `einsum` need.
#[derive(Clone, Debug)]
pub(crate) struct Batched {
    /// Rows, inner size, columns of each product.
    pub size: [usize; 3],
    /// Where each operand's matrices start, by position in the batch: in elements.
    pub starts: [Vec<usize>; 2],
    /// Row and column stride of each operand.
    pub strides: [[usize; 2]; 2],
}

impl Batched {
    /// A product whose operands' batches, of these shapes, broadcast to `batch`. `elements` is the size of a matrix.
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

    /// Prepares the product of two slots, plus a bias for each column, into output 0.
    pub fn prepare(
        self,
        slots: [usize; 2],
        bias: Option<usize>,
        dtype: DType,
    ) -> Result<Prepared, KernelError> {
        if dtype.is_int() {
            return self.integers(slots, bias, dtype);
        }
        let step = Step::new(move |run| {
            let (a, b) = (to_f32(&run.inputs[slots[0]]), to_f32(&run.inputs[slots[1]]));
            let bias = bias.map(|slot| to_f32(&run.inputs[slot]));
            float_output(run, |out, pool, epilogue| {
                let [m, k, n] = self.size;
                // Tasks are bands of rows, so that one large product is shared as well as many small ones.
                let bands = if self.starts[0].len() >= pool.threads() {
                    1
                } else {
                    pool.threads().min(m.div_ceil(8))
                };
                let band = m.div_ceil(bands.max(1)).max(1);
                let whole = m * n;
                if whole == 0 {
                    return;
                }
                // A chunk of the output is a band of one product; the last band of each may be shorter, so that
                // chunks are cut per product.
                let pieces: Vec<(usize, &mut [f32])> = out
                    .chunks_mut(whole)
                    .enumerate()
                    .flat_map(|(i, c)| {
                        c.chunks_mut(band * n).enumerate().map(move |(j, c)| (i * m + j * band, c))
                    })
                    .collect();
                let pieces: Vec<std::sync::Mutex<(usize, &mut [f32])>> =
                    pieces.into_iter().map(std::sync::Mutex::new).collect();
                pool.parallel_for(pieces.len(), |p| {
                    let mut piece = pieces[p].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let (row, out) = &mut *piece;
                    let (i, first) = (*row / m, *row % m);
                    let [[ar, ac], [br, bc]] = self.strides;
                    let a = Matrix {
                        data: &a[self.starts[0][i] + first * ar..],
                        row_stride: ar,
                        column_stride: ac,
                    };
                    let b = Matrix { data: &b[self.starts[1][i]..], row_stride: br, column_stride: bc };
                    if let Some(bias) = &bias {
                        out.chunks_mut(n).for_each(|r| r.copy_from_slice(bias));
                    }
                    product([out.len() / n, k, n], a, b, out, n, bias.is_some());
                    epilogue.apply(*row * n, out);
                });
            });
            Ok(())
        });
        Ok(step.with_epilogue().named("gemm").into())
    }

    /// Exact products of integers, which wrap.
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

/// Lets `f` fill output 0 as f32 (it applies the epilogue itself), and rounds it to its element type.
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
