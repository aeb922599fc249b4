//! `scatter`

use half::f16;
use milwright_mil::ops::Operand;
use milwright_mil::ops::defs::Scatter;
use milwright_mil::ops::scatter_gather::scatter::{Mode, mode};
use milwright_mil::{DType, Element, Opset, TensorType};

use super::indices::Indices;
use crate::kernel::concrete;
use crate::kernels::tensor::moves::around;
use crate::{Kernel, KernelError, Params, Prepared, Run, Step};

impl Kernel for Scatter {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&p.data)?;
        let (outer, n, inner) = around(&shape, p.axis.resolve(shape.len())?);
        let indices = Indices::of(p.indices, p.validate_indices);
        // From iOS17 on, Core ML leaves open what an unvalidated index out of range does. Here it is ignored.
        let lenient = p.opset() >= Opset::Ios17 && !p.validate_indices;
        scatter([p.data, p.updates], mode(p.mode)?, move |run| {
            let at: Vec<Option<usize>> = if lenient {
                let inside = |i| usize::try_from(i).ok().filter(|&i| i < n);
                indices.read(run.inputs)?.into_iter().map(inside).collect()
            } else {
                indices.of_size(run.inputs, n)?.into_iter().map(Some).collect()
            };
            let place = |o: usize| at.iter().map(move |i| i.map(|i| (o * n + i) * inner));
            Ok(((0..outer).flat_map(place).collect(), inner))
        })
    }
}

/// Applies the updates in a slot to the data. Arguments: the slot, each update's offset, its length, and the mode.
type Combine = fn(&mut Run<'_>, usize, &[Option<usize>], usize, Mode) -> Result<(), KernelError>;

/// Prepares a scatter op. `places` returns, for consecutive parts of `updates`, their offsets in `data` (`None` for
/// parts to ignore), and the length of a part.
pub(super) fn scatter(
    [data, updates]: [Operand<'_>; 2],
    mode: Mode,
    places: impl Fn(&Run<'_>) -> Result<(Vec<Option<usize>>, usize), KernelError> + Send + Sync + 'static,
) -> Result<Prepared, KernelError> {
    let combine: Combine = match data.dtype {
        DType::Fp16 => |r, u, at, n, mode| {
            write(r, u, at, n, |a: f16, b: f16| f16::from_f32(float(mode, a.to_f32(), b.to_f32())))
        },
        DType::Fp32 => |r, u, at, n, mode| write(r, u, at, n, |a: f32, b: f32| float(mode, a, b)),
        DType::Int32 => |r, u, at, n, mode| {
            if mode == Mode::Div && r.inputs[u].slice::<i32>().contains(&0) {
                return Err(KernelError::invalid("an update divides by zero"));
            }
            write(r, u, at, n, |a: i32, b: i32| int(mode, a, b))
        },
        other => return Err(KernelError::unsupported(format!("elements of type {other}"))),
    };
    let (data, updates) = (data.slot, updates.slot);
    let step = Step::new(move |run| {
        let (at, part) = places(run)?;
        run.take(data);
        combine(run, updates, &at, part, mode)
    });
    Ok(step.updating(data).into())
}

/// Combines each part of the updates, in order, with the elements at its offset.
fn write<T: Element>(
    run: &mut Run<'_>,
    updates: usize,
    at: &[Option<usize>],
    part: usize,
    f: impl Fn(T, T) -> T,
) -> Result<(), KernelError> {
    let (updates, out) = (run.inputs[updates].slice::<T>(), run.outputs[0].slice::<T>());
    if part > 0 {
        for (at, from) in at.iter().zip(updates.chunks_exact(part)) {
            if let Some(at) = *at {
                out[at..at + part].iter_mut().zip(from).for_each(|(o, &u)| *o = f(*o, u));
            }
        }
    }
    Ok(())
}

fn float(mode: Mode, a: f32, b: f32) -> f32 {
    match mode {
        Mode::Update => b,
        Mode::Add => a + b,
        Mode::Sub => a - b,
        Mode::Mul => a * b,
        Mode::Div => a / b,
        Mode::Max => a.max(b),
        Mode::Min => a.min(b),
    }
}

fn int(mode: Mode, a: i32, b: i32) -> i32 {
    match mode {
        Mode::Update => b,
        Mode::Add => a.wrapping_add(b),
        Mode::Sub => a.wrapping_sub(b),
        Mode::Mul => a.wrapping_mul(b),
        Mode::Div => a.wrapping_div(b),
        Mode::Max => a.max(b),
        Mode::Min => a.min(b),
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    #[test]
    fn combines_at_indices() {
        let data = [Tensor::from_vec(&[2, 3], vec![1f32, 2., 3., 4., 5., 6.]).unwrap()];
        let indices = [Tensor::from_vec(&[2], vec![1i32, 0]).unwrap()];
        let updates = [Tensor::from_vec(&[2, 3], vec![5f32, 6., 7., 8., 9., 10.]).unwrap()];
        let run = |mode: &str| {
            let mode = [Tensor::string(mode)];
            let inputs: [(&str, &[Tensor]); 4] =
                [("data", &data), ("indices", &indices), ("updates", &updates), ("mode", &mode)];
            run_op(OpKind::Scatter, Opset::Ios15, &inputs, |n| n == "mode").unwrap()[0]
                .to_vec::<f32>()
                .unwrap()
        };
        assert_eq!(run("add"), [9., 11., 13., 9., 11., 13.]);
        assert_eq!(run("update"), [8., 9., 10., 5., 6., 7.]);
        assert_eq!(run("max"), [8., 9., 10., 5., 6., 7.]);
    }

    #[test]
    fn indices_out_of_range_do_nothing_or_are_errors() {
        let data = [Tensor::from_vec(&[2, 1], vec![1f32, 2.]).unwrap()];
        let updates = [Tensor::from_vec(&[2, 1], vec![5f32, 6.]).unwrap()];
        let run = |opset, index: i32, validate: Option<bool>| {
            let indices = [Tensor::from_vec(&[2], vec![index, 0]).unwrap()];
            let validate = validate.map(|v| [Tensor::from_bools(&[], &[v]).unwrap()]);
            let mut inputs: Vec<(&str, &[Tensor])> =
                vec![("data", &data), ("indices", &indices), ("updates", &updates)];
            inputs.extend(validate.as_ref().map(|v| ("validate_indices", &v[..])));
            let out = run_op(OpKind::Scatter, opset, &inputs, |n| n == "validate_indices").ok()?;
            out[0].to_vec::<f32>().ok()
        };
        assert_eq!(run(Opset::Ios16, -1, None), Some(vec![7., 7.]));
        assert_eq!(run(Opset::Ios16, 2, None), None);
        assert_eq!(run(Opset::Ios17, -1, Some(true)), None);
        for index in [-1, 2, i32::MAX, i32::MIN] {
            assert_eq!(run(Opset::Ios17, index, Some(false)), Some(vec![7., 2.]));
        }
    }
}
