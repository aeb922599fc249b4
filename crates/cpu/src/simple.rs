//! Fused element-wise functions that run in registers.
//!
//! A chain whose functions are all in [`Simple`], and whose operands are dense tensors or single numbers, becomes a
//! short program. It reads each element once, keeps intermediate results in registers, and writes each result once. Its
//! results are those of the chain, bit for bit.

use half::f16;
use milwright_mil::DType;

use crate::View;
use crate::simd::{Isa, MAX_LANES, Op, Simd};

/// An element-wise function that a program can run. `x` and `y` are its operands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Simple {
    /// `if x < 0 { 0 } else { x }`
    Relu,
    /// `x.clamp(low, high)`, which keeps NaN. The bounds are not NaN.
    Clamp(f32, f32),
    /// [`math::bound`](crate::math::bound) with these bounds.
    Bound(f32, f32),
    /// `alpha * x + beta`, rounded twice.
    Affine(f32, f32),
    /// `(alpha * x + beta).clamp(0, 1)`
    SigmoidHard(f32, f32),
    /// `if x < 0 { alpha * x } else { x }`
    Leaky(f32),
    /// `x + y`
    Add,
    /// `x - y`
    Sub,
    /// `x * y`
    Mul,
}

/// The most instructions of a program.
pub const MAX_INSTRUCTIONS: usize = 8;
/// Vectors that are computed together.
const UNIT: usize = 4;

/// Where an instruction reads an operand.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// The old contents of the output.
    Output,
    /// The result of an earlier instruction.
    Stage(usize),
    /// The dense tensor with this number among the inputs.
    Input(usize),
    /// A number.
    Number(f32),
}

/// One function of a program.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// The function.
    pub function: Simple,
    /// Its operands; a function of one operand ignores the second.
    pub operands: [Origin; 2],
    /// Whether the result is rounded to half precision.
    pub half: bool,
}

/// A dense input.
#[derive(Clone, Copy)]
enum Input<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

/// Runs a program on the elements of an output from `start` on. `round` says whether its old contents are rounded to
/// half precision first. Returns false, and does nothing, if an input has another element type than fp32 and fp16.
///
/// # Panics
/// An input is too short: a bug of the caller.
pub fn run(program: &[Instruction], inputs: &[View<'_>], start: usize, out: &mut [f32], round: bool) -> bool {
    let mut dense = [Input::F32(&[]); 2 * MAX_INSTRUCTIONS];
    let operands = || program.iter().flat_map(|i| i.operands);
    for number in operands().filter_map(|o| if let Origin::Input(i) = o { Some(i) } else { None }) {
        let range = start..start + out.len();
        dense[number] = match inputs[number].dtype() {
            DType::Fp32 => Input::F32(&inputs[number].slice()[range]),
            DType::Fp16 => Input::F16(&inputs[number].slice()[range]),
            _ => return false,
        };
    }
    let known = |(i, o): (usize, Origin)| !matches!(o, Origin::Stage(s) if s >= i / 2);
    assert!(program.len() <= MAX_INSTRUCTIONS && operands().enumerate().all(known));
    if !program.is_empty() {
        Isa::detect().run(Run { program, inputs: &dense, out, round });
    }
    true
}

/// Private, because [`run`] has to check the lengths and the numbers.
struct Run<'a> {
    program: &'a [Instruction],
    inputs: &'a [Input<'a>; 2 * MAX_INSTRUCTIONS],
    out: &'a mut [f32],
    round: bool,
}

impl Op for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Run { program, inputs, out, round } = self;
        let whole = out.len() / (UNIT * S::LANES) * (UNIT * S::LANES);
        let mut i = 0;
        while i < whole {
            // SAFETY: `i` and `UNIT` vectors after it are within `out`, and the inputs are as long.
            unsafe { part::<S, UNIT>(s, program, inputs, i, out.as_mut_ptr().add(i), round) };
            i += UNIT * S::LANES;
        }
        while i + S::LANES <= out.len() {
            // SAFETY: as above, for one vector.
            unsafe { part::<S, 1>(s, program, inputs, i, out.as_mut_ptr().add(i), round) };
            i += S::LANES;
        }
        let rest = out.len() - i;
        if rest > 0 {
            // The last elements, in vectors of their own.
            let mut last = [0.0; MAX_LANES];
            let mut singles = [[0.0; MAX_LANES]; 2 * MAX_INSTRUCTIONS];
            let mut own = [Input::F32(&[]); 2 * MAX_INSTRUCTIONS];
            last[..rest].copy_from_slice(&out[i..]);
            for ((own, input), singles) in own.iter_mut().zip(inputs).zip(&mut singles) {
                match input {
                    Input::F32([]) | Input::F16([]) => continue,
                    Input::F32(x) => singles[..rest].copy_from_slice(&x[i..]),
                    Input::F16(x) => {
                        singles[..rest].iter_mut().zip(&x[i..]).for_each(|(o, x)| *o = x.to_f32());
                    }
                }
                *own = Input::F32(singles);
            }
            // SAFETY: `last` and the inputs have a whole vector.
            unsafe { part::<S, 1>(s, program, &own, 0, last.as_mut_ptr(), round) };
            out[i..].copy_from_slice(&last[..rest]);
        }
    }
}

/// Computes `N` vectors.
///
/// # Safety
/// `out` must be valid for reads and writes of `N` vectors, and the inputs that the program reads must have as many
/// elements from `at` on. Instructions may read only results of earlier ones.
#[inline(always)]
unsafe fn part<S: Simd, const N: usize>(
    s: S,
    program: &[Instruction],
    inputs: &[Input<'_>; 2 * MAX_INSTRUCTIONS],
    at: usize,
    out: *mut f32,
    round: bool,
) {
    let mut old = [s.splat(0.0); N];
    for (j, old) in old.iter_mut().enumerate() {
        // SAFETY: as the caller vouches.
        *old = unsafe { s.load(out.add(j * S::LANES)) };
        if round {
            *old = s.round_f16(*old);
        }
    }
    let mut results = [[s.splat(0.0); N]; MAX_INSTRUCTIONS];
    for (number, instruction) in program.iter().enumerate() {
        let read = |from: Origin| -> [S::F; N] {
            match from {
                Origin::Output => old,
                Origin::Stage(n) => results[n],
                Origin::Number(x) => [s.splat(x); N],
                Origin::Input(n) => {
                    let mut vectors = [s.splat(0.0); N];
                    for (j, vector) in vectors.iter_mut().enumerate() {
                        let at = at + j * S::LANES;
                        // SAFETY: as the caller vouches.
                        *vector = unsafe {
                            match inputs[n] {
                                Input::F32(x) => s.load(x.as_ptr().add(at)),
                                Input::F16(x) => s.load_f16(x.as_ptr().add(at)),
                            }
                        };
                    }
                    vectors
                }
            }
        };
        let x = read(instruction.operands[0]);
        let zero = s.splat(0.0);
        let clamp = |x: S::F, low: f32, high: f32| {
            let (low, high) = (s.splat(low), s.splat(high));
            let x = s.select(s.lt(x, low), low, x);
            s.select(s.lt(high, x), high, x)
        };
        let affine = |x: S::F, alpha: f32, beta: f32| s.add(s.mul(s.splat(alpha), x), s.splat(beta));
        let mut result = match instruction.function {
            Simple::Relu => each(x, |x| s.select(s.lt(x, zero), zero, x)),
            Simple::Clamp(low, high) => each(x, |x| clamp(x, low, high)),
            Simple::Bound(low, high) => each(x, |x| {
                let (low, high) = (s.splat(low), s.splat(high));
                let x = s.select(s.lt(low, x), x, s.select(s.eq(x, x), low, x));
                s.select(s.lt(x, high), x, s.select(s.eq(x, x), high, x))
            }),
            Simple::Affine(alpha, beta) => each(x, |x| affine(x, alpha, beta)),
            Simple::SigmoidHard(alpha, beta) => each(x, |x| clamp(affine(x, alpha, beta), 0.0, 1.0)),
            Simple::Leaky(alpha) => each(x, |x| s.select(s.lt(x, zero), s.mul(s.splat(alpha), x), x)),
            Simple::Add | Simple::Sub | Simple::Mul => {
                let y = read(instruction.operands[1]);
                let mut result = x;
                for (x, y) in result.iter_mut().zip(y) {
                    *x = match instruction.function {
                        Simple::Add => s.add(*x, y),
                        Simple::Sub => s.sub(*x, y),
                        _ => s.mul(*x, y),
                    };
                }
                result
            }
        };
        if instruction.half {
            result = each(result, |x| s.round_f16(x));
        }
        results[number] = result;
    }
    for (j, vector) in results[program.len() - 1].into_iter().enumerate() {
        // SAFETY: as the caller vouches.
        unsafe { s.store(out.add(j * S::LANES), vector) };
    }
}

#[inline(always)]
fn each<F: Copy, const N: usize>(x: [F; N], f: impl Fn(F) -> F) -> [F; N] {
    let mut result = x;
    result.iter_mut().for_each(|x| *x = f(*x));
    result
}
