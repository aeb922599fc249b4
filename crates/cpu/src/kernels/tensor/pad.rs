//! `pad`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Pad;

use super::moves::{by_width, element, ints, produce};
use crate::index::strides;
use crate::{Kernel, KernelError, Params, Pool, Prepared, View, ViewMut};

impl Kernel for Pad {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, pad) = (p.x.slot, p.pad.slot);
        let mode = match p.mode {
            "reflect" => Mode::Reflect,
            "replicate" => Mode::Replicate,
            _ => Mode::Constant,
        };
        let value = element(p.constant_val, outputs[0].dtype, 0)?;
        let dims = move |inputs: &[View<'_>]| padding(inputs[x].shape(), &ints(inputs, pad)?, mode);
        produce(
            outputs,
            move |inputs| Ok(dims(inputs)?.iter().map(|d| d.len()).collect()),
            move |inputs, out, pool| {
                let dims = dims(inputs)?;
                if dims.iter().map(|d| d.len()).ne(out.shape().iter().copied()) {
                    return Err(KernelError::invalid("`pad` makes another shape than the program declares"));
                }
                by_width!(out.dtype(), fill(&dims, inputs[x], &value, out, pool));
                Ok(())
            },
        )
    }
}

#[derive(Clone, Copy)]
enum Mode {
    Constant,
    Reflect,
    Replicate,
}

/// How a dimension is padded.
struct Padded {
    before: usize,
    size: usize,
    after: usize,
    mode: Mode,
}

impl Padded {
    fn len(&self) -> usize {
        self.before + self.size + self.after
    }

    /// Returns the input index for an index of the output; `None` if the output has the constant there.
    fn source(&self, i: usize) -> Option<usize> {
        let (last, at) = (self.size.wrapping_sub(1), i.wrapping_sub(self.before));
        match self.mode {
            _ if at < self.size => Some(at),
            Mode::Constant => None,
            Mode::Reflect => Some(if i < self.before { self.before - i } else { 2 * last - at }),
            Mode::Replicate => Some(if i < self.before { 0 } else { last }),
        }
    }
}

fn padding(shape: &[usize], pad: &[i64], mode: Mode) -> Result<Vec<Padded>, KernelError> {
    let invalid = || KernelError::invalid(format!("`pad` is {pad:?} for a tensor of shape {shape:?}"));
    let mut dims: Vec<Padded> =
        shape.iter().map(|&size| Padded { before: 0, size, after: 0, mode }).collect();
    let first = shape.len().checked_sub(pad.len() / 2).ok_or_else(invalid)?;
    for (d, pair) in dims[first..].iter_mut().zip(pad.chunks_exact(2)) {
        let most = match mode {
            Mode::Reflect => d.size.saturating_sub(1),
            Mode::Replicate if d.size == 0 => 0,
            _ => i32::MAX as usize,
        };
        let amount = |n: i64| usize::try_from(n).ok().filter(|&n| n <= most).ok_or_else(invalid);
        (d.before, d.after) = (amount(pair[0])?, amount(pair[1])?);
    }
    Ok(dims)
}

fn fill<T: bytemuck::Pod + Send + Sync>(
    dims: &[Padded],
    x: View<'_>,
    value: &[u8],
    out: &mut ViewMut<'_>,
    pool: &Pool,
) {
    let (from, own, value) = (x.words::<T>(), strides(x.shape()), bytemuck::pod_read_unaligned::<T>(value));
    let Some((last, outer)) = dims.split_last() else {
        out.words::<T>().copy_from_slice(from);
        return;
    };
    let row = last.len();
    let out = out.words::<T>();
    if row == 0 || out.is_empty() {
        return;
    }
    let chunk = pool.chunk(out.len(), row, 1 << 15);
    pool.for_each_chunk(out, chunk, |c, part| {
        for (r, to) in part.chunks_exact_mut(row).enumerate() {
            // The row's index in the outer dimensions, and the element of the input at which it starts.
            let mut rest = c * (chunk / row) + r;
            let mut start = Some(0);
            for (d, dim) in outer.iter().enumerate().rev() {
                let source = dim.source(rest % dim.len());
                rest /= dim.len();
                start = start.zip(source).map(|(s, i)| s + i * own[d]);
            }
            let Some(start) = start else {
                to.fill(value);
                continue;
            };
            let from = &from[start..start + last.size];
            to[last.before..last.before + last.size].copy_from_slice(from);
            for i in (0..last.before).chain(last.before + last.size..row) {
                to[i] = last.source(i).map_or(value, |s| from[s]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    /// Expected values are those of `numpy.pad` with modes constant, reflect and edge.
    #[test]
    fn pads_as_numpy() {
        let x = [Tensor::from_vec(&[2, 3], vec![1f32, 2., 3., 4., 5., 6.]).unwrap()];
        for known in [true, false] {
            let run = |pad: &[i32], mode: &str, value: f32| {
                let pad = [Tensor::from_vec(&[pad.len()], pad.to_vec()).unwrap()];
                let (mode, value) = ([Tensor::string(mode)], [Tensor::scalar(value)]);
                let inputs: [(&str, &[Tensor]); 4] =
                    [("x", &x), ("pad", &pad), ("mode", &mode), ("constant_val", &value)];
                let constant = |n: &str| n != "x" && (known || n != "pad");
                Ok::<_, crate::KernelError>(
                    run_op(OpKind::Pad, Opset::Ios15, &inputs, constant)?[0].to_vec::<f32>().unwrap(),
                )
            };
            assert_eq!(run(&[0, 0, 1, 0], "constant", 9.).unwrap(), [9., 1., 2., 3., 9., 4., 5., 6.]);
            assert_eq!(
                run(&[1, 0, 2, 1], "reflect", 0.).unwrap(),
                [6., 5., 4., 5., 6., 5., 3., 2., 1., 2., 3., 2., 6., 5., 4., 5., 6., 5.]
            );
            assert_eq!(
                run(&[0, 1, 1, 0], "replicate", 0.).unwrap(),
                [1., 1., 2., 3., 4., 4., 5., 6., 4., 4., 5., 6.]
            );
            assert!(run(&[0, 0, 3, 0], "reflect", 0.).is_err());
            assert!(run(&[0, 0, -1, 0], "constant", 0.).is_err());
        }
    }
}
