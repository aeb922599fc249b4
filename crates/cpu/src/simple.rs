//! Fused element-wise functions without the cost of a chain's generality.
//!
//! A chain whose functions are all in [`Simple`], and whose operands are dense tensors or single numbers, becomes a
//! short program, without calls through pointers or copies. Its results are those of the chain, bit for bit.

use std::mem::MaybeUninit;

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

/// Elements that an instruction computes at a time: all results of a program stay in the nearest cache.
const BLOCK: usize = 256;

/// Private, because [`run`] has to check the lengths and the numbers.
struct Run<'a> {
    program: &'a [Instruction],
    inputs: &'a [Input<'a>; 2 * MAX_INSTRUCTIONS],
    out: &'a mut [f32],
    round: bool,
}

/// An operand of an instruction, for one block.
#[derive(Clone, Copy)]
enum Operand {
    F32(*const f32),
    F16(*const f16),
    Number(f32),
}

impl Op for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Run { program, inputs, out, round } = self;
        let whole = out.len() / S::LANES * S::LANES;
        for at in (0..whole).step_by(BLOCK) {
            // SAFETY: the elements are within `out`, and the inputs are as long; there are whole vectors of them.
            unsafe { block(s, program, inputs, at, &mut out[at..whole.min(at + BLOCK)], round) };
        }
        let rest = out.len() - whole;
        if rest > 0 {
            // The last elements, in vectors of their own.
            let mut last = [0.0; MAX_LANES];
            let mut singles = [[0.0; MAX_LANES]; 2 * MAX_INSTRUCTIONS];
            let mut own = [Input::F32(&[]); 2 * MAX_INSTRUCTIONS];
            last[..rest].copy_from_slice(&out[whole..]);
            for ((own, input), singles) in own.iter_mut().zip(inputs).zip(&mut singles) {
                match input {
                    Input::F32([]) | Input::F16([]) => continue,
                    Input::F32(x) => singles[..rest].copy_from_slice(&x[whole..]),
                    Input::F16(x) => {
                        singles[..rest].iter_mut().zip(&x[whole..]).for_each(|(o, x)| *o = x.to_f32());
                    }
                }
                *own = Input::F32(singles);
            }
            // SAFETY: `last` and the inputs have a whole vector.
            unsafe { block(s, program, &own, 0, &mut last[..S::LANES], round) };
            out[whole..].copy_from_slice(&last[..rest]);
        }
    }
}

/// Computes a block.
///
/// # Safety
/// `out` must have whole vectors, at most [`BLOCK`] elements, and the inputs that the program reads as many from `at` on.
/// Instructions may read only results of earlier ones, and there are at most [`MAX_INSTRUCTIONS`].
#[inline(always)]
unsafe fn block<S: Simd>(
    s: S,
    program: &[Instruction],
    inputs: &[Input<'_>; 2 * MAX_INSTRUCTIONS],
    at: usize,
    out: &mut [f32],
    round: bool,
) {
    let (len, out) = (out.len(), out.as_mut_ptr());
    let mut results = [const { MaybeUninit::<[f32; BLOCK]>::uninit() }; MAX_INSTRUCTIONS];
    if round {
        // SAFETY: `out` has `len` elements.
        unsafe { each(s, Operand::F32(out), len, out, true, |x| x) };
    }
    for (number, instruction) in program.iter().enumerate() {
        let operand = |from: Origin| match from {
            Origin::Output => Operand::F32(out),
            Origin::Stage(n) => Operand::F32(results[n].as_ptr().cast()),
            Origin::Number(x) => Operand::Number(x),
            // SAFETY: the caller vouches that the input has elements from `at` on.
            Origin::Input(n) => unsafe {
                match inputs[n] {
                    Input::F32(x) => Operand::F32(x.as_ptr().add(at)),
                    Input::F16(x) => Operand::F16(x.as_ptr().add(at)),
                }
            },
        };
        let [x, y] = instruction.operands.map(operand);
        let half = instruction.half;
        // Results before the last have a buffer of their own, because later instructions may read the old contents.
        let to = if number + 1 == program.len() { out } else { results[number].as_mut_ptr().cast() };
        let zero = s.splat(0.0);
        let clamp = |x: S::F, low: S::F, high: S::F| {
            let x = s.select(s.lt(x, low), low, x);
            s.select(s.lt(high, x), high, x)
        };
        // SAFETY: the operands and `to` have `len` elements, whole vectors; the result of an earlier instruction is
        // initialized that far.
        unsafe {
            match instruction.function {
                Simple::Relu => each(s, x, len, to, half, |x| s.select(s.lt(x, zero), zero, x)),
                Simple::Clamp(low, high) => {
                    let (low, high) = (s.splat(low), s.splat(high));
                    each(s, x, len, to, half, |x| clamp(x, low, high));
                }
                Simple::Bound(low, high) => {
                    let (low, high) = (s.splat(low), s.splat(high));
                    each(s, x, len, to, half, |x| {
                        let x = s.select(s.lt(low, x), x, s.select(s.eq(x, x), low, x));
                        s.select(s.lt(x, high), x, s.select(s.eq(x, x), high, x))
                    });
                }
                Simple::Affine(alpha, beta) => {
                    let (alpha, beta) = (s.splat(alpha), s.splat(beta));
                    each(s, x, len, to, half, |x| s.add(s.mul(alpha, x), beta));
                }
                Simple::SigmoidHard(alpha, beta) => {
                    let (alpha, beta, one) = (s.splat(alpha), s.splat(beta), s.splat(1.0));
                    each(s, x, len, to, half, |x| clamp(s.add(s.mul(alpha, x), beta), zero, one));
                }
                Simple::Leaky(alpha) => {
                    let alpha = s.splat(alpha);
                    each(s, x, len, to, half, |x| s.select(s.lt(x, zero), s.mul(alpha, x), x));
                }
                Simple::Add => each_pair(s, [x, y], len, to, half, |x, y| s.add(x, y)),
                Simple::Sub => each_pair(s, [x, y], len, to, half, |x, y| s.sub(x, y)),
                Simple::Mul => each_pair(s, [x, y], len, to, half, |x, y| s.mul(x, y)),
            }
        }
    }
}

/// Computes a function of each element.
///
/// # Safety
/// The operand must be valid for reads of `len` elements and `to` for as many writes, all of them initialized; `len` is a
/// multiple of `LANES`. They may be the same memory.
#[inline(always)]
unsafe fn each<S: Simd>(s: S, x: Operand, len: usize, to: *mut f32, half: bool, f: impl Fn(S::F) -> S::F) {
    // Plain loops: what is not inlined is not compiled for the instruction set.
    let mut i = 0;
    while i < len {
        // SAFETY: as the caller vouches.
        unsafe {
            let result = f(read(s, x, i));
            s.store(to.add(i), if half { s.round_f16(result) } else { result });
        }
        i += S::LANES;
    }
}

/// Reads a vector of an operand.
///
/// # Safety
/// The operand must be valid for reads of `LANES` elements from `i` on.
#[inline(always)]
unsafe fn read<S: Simd>(s: S, from: Operand, i: usize) -> S::F {
    // SAFETY: as the caller vouches.
    unsafe {
        match from {
            Operand::F32(x) => s.load(x.add(i)),
            Operand::F16(x) => s.load_f16(x.add(i)),
            Operand::Number(x) => s.splat(x),
        }
    }
}

/// Computes a function of each pair of elements.
///
/// # Safety
/// As [`each`], for both operands.
#[inline(always)]
unsafe fn each_pair<S: Simd>(
    s: S,
    [x, y]: [Operand; 2],
    len: usize,
    to: *mut f32,
    half: bool,
    f: impl Fn(S::F, S::F) -> S::F,
) {
    let mut i = 0;
    while i < len {
        // SAFETY: as the caller vouches.
        unsafe {
            let result = f(read(s, x, i), read(s, y, i));
            s.store(to.add(i), if half { s.round_f16(result) } else { result });
        }
        i += S::LANES;
    }
}
