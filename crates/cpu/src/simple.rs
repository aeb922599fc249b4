//! Fused element-wise functions without the cost of a chain's generality.
//!
//! A chain whose functions are all in [`Simple`], and whose operands are dense tensors, tensors that are broadcast along
//! the first or last dimensions, or single numbers, becomes a short program, without calls through pointers or copies. Its results are those of the chain, bit for bit.

use std::mem::MaybeUninit;

use half::f16;
use milwright_mil::DType;

use crate::simd::{Isa, MAX_LANES, Op, Simd};
use crate::{View, math};

/// An element-wise function that a program can run. `x` and `y` are its operands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Simple {
    /// `if x < 0 { 0 } else { x }`
    Relu,
    /// `x.clamp(low, high)`, which keeps NaN. The bounds are not NaN.
    Clamp(f32, f32),
    /// [`math::bound`] with these bounds.
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
    /// `x / y`
    Div,
    /// The larger one; NaN if `x` is NaN.
    Max,
    /// The smaller one; NaN if `x` is NaN.
    Min,
    /// `if x < alpha { 0 } else { x }`
    Thresholded(f32),
    /// `|x|`
    Abs,
    /// `x * x`
    Square,
    /// The square root.
    Sqrt,
    /// A function of [`math`].
    Function(Function),
}

/// A function of [`math`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    Exp,
    Tanh,
    Sigmoid,
    Silu,
    Erf,
    Gelu,
    GeluTanh,
    GeluSigmoid,
}

/// The most instructions of a program: those of a recurrent cell.
pub const MAX_INSTRUCTIONS: usize = 12;
/// The most inputs of a program.
pub const MAX_INPUTS: usize = 16;

/// Where an instruction reads an operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin {
    /// The old contents of the output.
    Output,
    /// The result of an earlier instruction.
    Stage(usize),
    /// The dense tensor with this number among the inputs.
    Input(usize),
    /// The tensor with this number among the inputs, whose elements are repeated.
    Repeated(usize, Repetition),
    /// A number.
    Number(f32),
}

/// The elements of a tensor one after the other, each `inner` times in a row, and all `count` of them again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repetition {
    /// How often each in a row.
    pub inner: usize,
    /// The elements of the tensor.
    pub count: usize,
}

/// The most operands of a program whose elements are repeated.
const MAX_REPEATED: usize = 2;

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

/// An input.
#[derive(Clone, Copy)]
enum Input<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    /// The elements of a tensor, and the position of the output's first element in their repetition.
    Repeated(Elements<'a>, Repetition, usize),
}

/// The elements of a tensor.
#[derive(Clone, Copy)]
enum Elements<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

impl Elements<'_> {
    #[inline(always)]
    fn get(self, i: usize) -> f32 {
        match self {
            Elements::F32(x) => x[i],
            Elements::F16(x) => x[i].to_f32(),
        }
    }
}

/// Whether a program can run: it reads each input in one way only, and does not repeat the elements of too many inputs.
pub fn fits(program: &[Instruction]) -> bool {
    let mut ways = [None; MAX_INPUTS];
    for origin in program.iter().flat_map(|i| i.operands) {
        if let Origin::Input(n) | Origin::Repeated(n, _) = origin
            && *ways[n].get_or_insert(origin) != origin
        {
            return false;
        }
    }
    let mut repeated: Vec<usize> = repeated(program).map(|(i, _)| i).collect();
    repeated.sort_unstable();
    repeated.dedup();
    repeated.len() <= MAX_REPEATED
}

fn repeated(program: &[Instruction]) -> impl Iterator<Item = (usize, Repetition)> + '_ {
    program.iter().flat_map(|i| i.operands).filter_map(|o| match o {
        Origin::Repeated(i, repetition) => Some((i, repetition)),
        _ => None,
    })
}

/// Runs a program on the elements of an output from `start` on. `round` says whether its old contents are rounded to
/// half precision first. Returns false, and does nothing, if an input has another element type than fp32 and fp16.
///
/// # Panics
/// An input is too short: a bug of the caller.
pub fn run(program: &[Instruction], inputs: &[View<'_>], start: usize, out: &mut [f32], round: bool) -> bool {
    let mut dense = [Input::F32(&[]); MAX_INPUTS];
    let operands = || program.iter().flat_map(|i| i.operands);
    for number in operands().filter_map(|o| if let Origin::Input(i) = o { Some(i) } else { None }) {
        let range = start..start + out.len();
        dense[number] = match inputs[number].dtype() {
            DType::Fp32 => Input::F32(&inputs[number].slice()[range]),
            DType::Fp16 => Input::F16(&inputs[number].slice()[range]),
            _ => return false,
        };
    }
    for (number, repetition) in repeated(program) {
        let (input, Repetition { inner, count }) = (&inputs[number], repetition);
        let elements = match input.dtype() {
            DType::Fp32 => Elements::F32(&input.slice()[..count]),
            DType::Fp16 => Elements::F16(&input.slice()[..count]),
            _ => return false,
        };
        dense[number] = Input::Repeated(elements, repetition, start % (inner * count).max(1));
    }
    if out.is_empty() {
        return true;
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
    inputs: &'a [Input<'a>; MAX_INPUTS],
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
            let mut singles = [[0.0; MAX_LANES]; MAX_INPUTS];
            let mut own = [Input::F32(&[]); MAX_INPUTS];
            last[..rest].copy_from_slice(&out[whole..]);
            for ((own, input), singles) in own.iter_mut().zip(inputs).zip(&mut singles) {
                match *input {
                    Input::F32([]) | Input::F16([]) => continue,
                    Input::F32(x) => singles[..rest].copy_from_slice(&x[whole..]),
                    Input::F16(x) => {
                        singles[..rest].iter_mut().zip(&x[whole..]).for_each(|(o, x)| *o = x.to_f32());
                    }
                    Input::Repeated(x, Repetition { inner, count }, start) => {
                        for (i, o) in singles[..rest].iter_mut().enumerate() {
                            *o = x.get((start + whole + i) / inner % count);
                        }
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

/// Brings `len` elements of an input that repeats them, from position `at` on, to `to`, or finds that they are all the
/// same.
///
/// # Safety
/// `to` must be valid for writes of `len` elements and a vector more.
#[inline(always)]
unsafe fn spread<S: Simd>(
    s: S,
    x: Elements<'_>,
    Repetition { inner, count }: Repetition,
    at: usize,
    len: usize,
    to: *mut f32,
) -> Operand {
    let (mut element, mut skip) = (at / inner % count, at % inner);
    if count == 1 || inner - skip >= len {
        return Operand::Number(x.get(element));
    }
    let mut i = 0;
    while i < len {
        let run = if inner == 1 { count - element } else { inner - skip }.min(len - i);
        let mut j = 0;
        while j < run {
            // SAFETY: writes end less than a vector after `len`; what a run writes past its end, the next one overwrites.
            // Runs of an input whose elements are not repeated in a row end with its elements.
            unsafe {
                let vector = match x {
                    _ if inner > 1 => s.splat(x.get(element)),
                    Elements::F32(x) => s.load_part(x.as_ptr().add(element + j), (run - j).min(S::LANES)),
                    Elements::F16(x) => s.load_part_f16(x.as_ptr().add(element + j), (run - j).min(S::LANES)),
                };
                s.store(to.add(i + j), vector);
            }
            j += S::LANES;
        }
        i += run;
        element = if inner == 1 { 0 } else { (element + 1) % count };
        skip = 0;
    }
    Operand::F32(to)
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
    inputs: &[Input<'_>; MAX_INPUTS],
    at: usize,
    out: &mut [f32],
    round: bool,
) {
    let (len, out) = (out.len(), out.as_mut_ptr());
    let mut results = [const { MaybeUninit::<[f32; BLOCK]>::uninit() }; MAX_INSTRUCTIONS];
    let mut spaces = [const { MaybeUninit::<[f32; BLOCK + MAX_LANES]>::uninit() }; MAX_REPEATED];
    let mut brought = [(usize::MAX, Operand::Number(0.0)); MAX_REPEATED];
    for (number, _) in repeated(program) {
        if let Input::Repeated(x, repetition, start) = inputs[number]
            && brought.iter().all(|(n, _)| *n != number)
            && let Some((to, brought)) =
                spaces.iter_mut().zip(&mut brought).find(|(_, (n, _))| *n == usize::MAX)
        {
            // SAFETY: a space has room for a block and a vector more.
            let operand = unsafe { spread(s, x, repetition, start + at, len, to.as_mut_ptr().cast()) };
            *brought = (number, operand);
        }
    }
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
            Origin::Input(n) | Origin::Repeated(n, _) => unsafe {
                match inputs[n] {
                    Input::F32(x) => Operand::F32(x.as_ptr().add(at)),
                    Input::F16(x) => Operand::F16(x.as_ptr().add(at)),
                    Input::Repeated(..) => {
                        brought.iter().find(|(number, _)| *number == n).map_or(Operand::Number(0.0), |b| b.1)
                    }
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
                Simple::Div => each_pair(s, [x, y], len, to, half, |x, y| s.div(x, y)),
                Simple::Max => each_pair(s, [x, y], len, to, half, |x, y| {
                    s.select(s.lt(y, x), x, s.select(s.eq(x, x), y, x))
                }),
                Simple::Min => each_pair(s, [x, y], len, to, half, |x, y| {
                    s.select(s.lt(x, y), x, s.select(s.eq(x, x), y, x))
                }),
                Simple::Thresholded(alpha) => {
                    let alpha = s.splat(alpha);
                    each(s, x, len, to, half, |x| s.select(s.lt(x, alpha), zero, x));
                }
                Simple::Abs => each(s, x, len, to, half, |x| s.abs(x)),
                Simple::Square => each(s, x, len, to, half, |x| s.mul(x, x)),
                Simple::Sqrt => each(s, x, len, to, half, |x| s.sqrt(x)),
                Simple::Function(function) => {
                    if !matches!(x, Operand::F32(x) if std::ptr::eq(x, to)) {
                        each(s, x, len, to, false, |x| x);
                    }
                    function.update(std::slice::from_raw_parts_mut(to, len));
                    if half {
                        each(s, Operand::F32(to), len, to, true, |x| x);
                    }
                }
            }
        }
    }
}

impl Function {
    /// Replaces each element by the function of it.
    #[inline(always)]
    fn update(self, x: &mut [f32]) {
        match self {
            Function::Exp => update(x, math::exp1),
            Function::Tanh => update(x, math::tanh1),
            Function::Sigmoid => update(x, math::sigmoid1),
            Function::Silu => update(x, math::silu1),
            Function::Erf => update(x, math::erf1),
            Function::Gelu => update(x, math::gelu1),
            Function::GeluTanh => update(x, math::gelu_tanh1),
            Function::GeluSigmoid => update(x, math::gelu_sigmoid1),
        }
    }
}

#[inline(always)]
fn update(x: &mut [f32], f: impl Fn(f32) -> f32) {
    for x in x {
        *x = f(*x);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_read_in_one_way() {
        let add = |operands| Instruction { function: Simple::Add, operands, half: false };
        let rows = Origin::Repeated(1, Repetition { inner: 1, count: 4 });
        let columns = Origin::Repeated(1, Repetition { inner: 4, count: 4 });
        assert!(fits(&[add([Origin::Input(0), rows]), add([Origin::Stage(0), rows])]));
        assert!(!fits(&[add([Origin::Input(0), rows]), add([Origin::Stage(0), columns])]));
        assert!(!fits(&[add([Origin::Input(1), rows])]));
    }

    /// The same bits on every instruction set, and as the functions of single elements.
    #[test]
    fn every_instruction_set_computes_the_same() {
        let number = |i: usize| ((i * 7919 % 1000) as f32 - 500.0) / 60.0;
        let x: Vec<f32> = (0..700).map(number).collect();
        let few: Vec<f16> = (0..5).map(|i| f16::from_f32(i as f32 - 1.5)).collect();
        for (inner, start, len) in [1, 3, 16, 49, 300].into_iter().flat_map(|inner| {
            [0, 7, 260]
                .into_iter()
                .flat_map(move |start| [1, 15, 64, 257, 440].map(|len| (inner, start, len)))
        }) {
            let repetition = Repetition { inner, count: few.len() };
            let with = |function, x, y| Instruction { function, operands: [x, y], half: false };
            let program = [
                with(Simple::Mul, Origin::Output, Origin::Repeated(1, repetition)),
                with(Simple::Function(Function::Silu), Origin::Stage(0), Origin::Stage(0)),
                with(Simple::Add, Origin::Stage(1), Origin::Input(0)),
            ];
            let elements = Elements::F16(&few);
            let mut inputs = [Input::F32(&[]); MAX_INPUTS];
            inputs[0] = Input::F32(&x[start..start + len]);
            inputs[1] = Input::Repeated(elements, repetition, start % (inner * few.len()));
            let own: Vec<f32> = (0..len).map(|i| number(3 * i + 1)).collect();
            let want: Vec<u32> = (0..len)
                .map(|i| {
                    let gate = few[(start + i) / inner % few.len()].to_f32();
                    (math::silu1(own[i] * gate) + x[start + i]).to_bits()
                })
                .collect();
            for isa in Isa::available() {
                let mut out = own.clone();
                isa.run(Run { program: &program, inputs: &inputs, out: &mut out, round: false });
                let got: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                assert_eq!(got, want, "{isa:?} {inner} {start} {len}");
            }
        }
    }
}
