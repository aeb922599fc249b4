//! Fused element-wise functions: a small graph that runs block by block, so that intermediate results stay in the
//! nearest cache. It runs alone, or as the epilogue of a kernel.

use std::cell::Cell;

use milwright_mil::{DType, Tensor};
use smallvec::SmallVec;

use crate::convert::{narrow, read_f32, round_to, widen};
use crate::index::{Walk, count};
use crate::kernel::MapFn;
use crate::simple::{self, Instruction, MAX_INPUTS, MAX_INSTRUCTIONS, Origin, Repetition, Simple};
use crate::{Pool, View, ViewMut};

/// Elements in a block.
const BLOCK: usize = 1024;
/// The fewest elements for which a chain is split among threads.
const LEAST: usize = 16 * BLOCK;

/// A graph of element-wise functions with one result.
#[derive(Default)]
pub struct Chain {
    stages: Vec<Stage>,
    /// The whole chain in the form that runs in registers, if it has one.
    program: Option<Vec<Instruction>>,
}

/// One function of a chain.
pub struct Stage {
    /// The function in the form that runs in registers.
    pub simple: Option<Simple>,
    /// The function.
    pub run: MapFn,
    /// Its operands.
    pub sources: SmallVec<[Source; 2]>,
    /// The element type that the result is rounded to.
    pub dtype: DType,
}

/// The source of an operand.
#[derive(Debug)]
pub enum Source {
    /// The old contents of the output: a kernel's result, or the input that is updated in place.
    Output,
    /// The result of an earlier stage.
    Stage(usize),
    /// The tensor with this number among the chain's inputs.
    Input(usize, Walk),
    /// A constant: fp32.
    Constant(Tensor, Walk),
}

impl Chain {
    /// Appends a stage and returns its number.
    pub fn push(&mut self, stage: Stage) -> usize {
        self.stages.push(stage);
        self.stages.len() - 1
    }

    /// Ends the chain: finds out whether it can run in registers.
    pub fn seal(&mut self) {
        let stage = |stage: &Stage| {
            let from = |source: &Source| {
                Some(match source {
                    Source::Output => Origin::Output,
                    Source::Stage(n) => Origin::Stage(*n),
                    Source::Input(i, _) if *i >= MAX_INPUTS => return None,
                    Source::Input(i, walk) if walk.is_dense() => Origin::Input(*i),
                    Source::Input(i, walk) => {
                        let [inner, count] = walk.repetition()?;
                        Origin::Repeated(*i, Repetition { inner, count })
                    }
                    Source::Constant(t, _) if t.elements() == 1 => {
                        Origin::Number(*t.as_slice::<f32>()?.first()?)
                    }
                    Source::Constant(..) => return None,
                })
            };
            let all: Option<SmallVec<[Origin; 2]>> = stage.sources.iter().map(from).collect();
            let operands = match all?[..] {
                [x] => [x, x],
                [x, y] => [x, y],
                _ => return None,
            };
            if !matches!(stage.dtype, DType::Fp16 | DType::Fp32) {
                return None;
            }
            Some(Instruction { function: stage.simple?, operands, half: stage.dtype == DType::Fp16 })
        };
        if self.stages.len() <= MAX_INSTRUCTIONS {
            self.program = self.stages.iter().map(stage).collect();
            self.program = self.program.take().filter(|program| simple::fits(program));
            // The caller rounds the last result when it stores it.
            if let Some(last) = self.program.as_mut().and_then(|p| p.last_mut()) {
                last.half = false;
            }
        }
    }

    /// The number of stages.
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// Whether there is no stage.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Whether a stage reads the old contents of the output.
    pub fn updates(&self) -> bool {
        self.stages.iter().any(Stage::updates)
    }

    /// Computes a float tensor. If [`Source::Output`] is among the sources, updates the tensor in place.
    pub fn run(&self, inputs: &[View<'_>], output: &mut ViewMut<'_>, pool: &Pool) {
        let elements = count(output.shape());
        let chunk = pool.chunk(elements, BLOCK, LEAST);
        match output.dtype() {
            DType::Fp16 => pool.for_each_chunk(output.slice::<half::f16>(), chunk, |i, out| {
                let mut buffers = Buffers::take(self.stages.len());
                let mut block = [0.0; BLOCK];
                for (j, out) in out.chunks_mut(BLOCK).enumerate() {
                    let block = &mut block[..out.len()];
                    if self.updates() {
                        widen(out, block);
                    }
                    self.block(inputs, i * chunk + j * BLOCK, block, &mut buffers);
                    narrow(block, out);
                }
                buffers.give_back();
            }),
            DType::Fp32 => pool.for_each_chunk(output.slice::<f32>(), chunk, |i, out| {
                let mut buffers = Buffers::take(self.stages.len());
                for (j, out) in out.chunks_mut(BLOCK).enumerate() {
                    self.block(inputs, i * chunk + j * BLOCK, out, &mut buffers);
                }
                buffers.give_back();
            }),
            _ => {
                let mut buffers = Buffers::take(self.stages.len());
                let mut block = [0.0; BLOCK];
                for start in (0..elements).step_by(BLOCK) {
                    let block = &mut block[..BLOCK.min(elements - start)];
                    if self.updates() {
                        read_f32(&output.view(), start, block);
                    }
                    self.block(inputs, start, block, &mut buffers);
                    crate::convert::write_f32(output, start, block);
                }
                buffers.give_back();
            }
        }
    }

    /// Computes one block, of at most [`BLOCK`] elements, that starts at element `start` of the output. Does not round
    /// the result: the caller rounds it to the element type of the last stage when it stores it.
    fn block(&self, inputs: &[View<'_>], start: usize, out: &mut [f32], buffers: &mut Buffers) {
        if let Some(program) = &self.program
            && simple::run(program, inputs, start, out, false)
        {
            return;
        }
        let len = out.len();
        let last = self.stages.len() - 1;
        for (number, stage) in self.stages.iter().enumerate() {
            let (done, rest) = buffers.stages.split_at_mut(number * BLOCK);
            // Copies operands that are not contiguous `f32` into staging blocks first.
            for (staging, source) in buffers.staging.chunks_mut(BLOCK).zip(&stage.sources) {
                match source {
                    Source::Input(i, walk) => bring(&inputs[*i], walk, start, &mut staging[..len]),
                    Source::Constant(t, walk) => bring(&View::from(t), walk, start, &mut staging[..len]),
                    Source::Output | Source::Stage(_) => {}
                }
            }
            let staging = &buffers.staging;
            let operands = |output| stage.operands(inputs, start, len, staging, done, output);
            if number == last && !stage.updates() {
                (stage.run)(&operands(&[])[..stage.sources.len()], out);
            } else {
                let result = &mut rest[..len];
                (stage.run)(&operands(out)[..stage.sources.len()], result);
                if number == last {
                    out.copy_from_slice(result);
                } else {
                    round_to(stage.dtype, result);
                }
            }
        }
    }
}

impl Stage {
    fn updates(&self) -> bool {
        self.sources.iter().any(|s| matches!(s, Source::Output))
    }

    /// The operands of a block: borrowed where they are contiguous `f32`, else from `staging`.
    fn operands<'a>(
        &'a self,
        inputs: &[View<'a>],
        start: usize,
        len: usize,
        staging: &'a [f32],
        done: &'a [f32],
        output: &'a [f32],
    ) -> [&'a [f32]; MAX_OPERANDS] {
        let mut operands: [&[f32]; MAX_OPERANDS] = [&[]; MAX_OPERANDS];
        for (i, (operand, source)) in operands.iter_mut().zip(&self.sources).enumerate() {
            let staging = &staging[i * BLOCK..i * BLOCK + len];
            *operand = match source {
                Source::Output => output,
                Source::Stage(s) => &done[s * BLOCK..s * BLOCK + len],
                Source::Input(i, walk) => in_place(&inputs[*i], walk, start, len).unwrap_or(staging),
                Source::Constant(t, walk) => in_place(&View::from(t), walk, start, len).unwrap_or(staging),
            };
        }
        operands
    }
}

/// The most operands that a stage may have.
pub const MAX_OPERANDS: usize = 4;

/// Scratch memory for the blocks between stages. Each thread keeps one, because an epilogue may run on very short rows.
#[derive(Default)]
struct Buffers {
    stages: Vec<f32>,
    staging: Vec<f32>,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = const { Cell::new(Buffers { stages: Vec::new(), staging: Vec::new() }) };
}

impl Buffers {
    fn take(stages: usize) -> Buffers {
        let mut buffers = BUFFERS.take();
        buffers.staging.resize(MAX_OPERANDS * BLOCK, 0.0);
        if buffers.stages.len() < stages * BLOCK {
            buffers.stages.resize(stages * BLOCK, 0.0);
        }
        buffers
    }

    fn give_back(self) {
        BUFFERS.set(self);
    }
}

fn in_place<'a>(view: &View<'a>, walk: &Walk, start: usize, len: usize) -> Option<&'a [f32]> {
    (view.dtype() == DType::Fp32 && walk.is_dense()).then(|| &view.slice::<f32>()[start..start + len])
}

/// Copies a block of an operand to `out` as `f32`, unless [`in_place`] can borrow it.
fn bring(view: &View<'_>, walk: &Walk, start: usize, out: &mut [f32]) {
    match view.dtype() {
        DType::Fp32 if walk.is_dense() => {}
        DType::Fp32 => walk.gather(view.slice(), start, out),
        _ if walk.is_dense() => read_f32(view, start, out),
        DType::Fp16 => {
            let mut halves = [half::f16::ZERO; BLOCK];
            let halves = &mut halves[..out.len()];
            walk.gather(view.slice(), start, halves);
            widen(halves, out);
        }
        _ => walk.runs(start, out.len(), |at, offset, stride, n| {
            for (i, o) in out[at..at + n].iter_mut().enumerate() {
                let mut one = [0.0];
                read_f32(view, (offset as isize + i as isize * stride) as usize, &mut one);
                *o = one[0];
            }
        }),
    }
}

/// The epilogue of a kernel: nothing, or a fused chain that runs on the result before the kernel stores it.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    chain: Option<(&'a Chain, &'a [View<'a>])>,
    /// The element type that the program declares for the kernel's own result.
    dtype: Option<DType>,
}

impl<'a> Epilogue<'a> {
    /// An epilogue that runs `chain` on a result that the program declares to be of type `dtype`.
    pub fn new(chain: &'a Chain, inputs: &'a [View<'a>], dtype: DType) -> Epilogue<'a> {
        Epilogue { chain: Some((chain, inputs)), dtype: Some(dtype) }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.chain.is_none()
    }

    /// Whether what is done with an element depends on nothing but its value, so that elements of different places can be
    /// given to [`apply`](Epilogue::apply) at once.
    pub fn ignores_places(&self) -> bool {
        let Some((chain, _)) = self.chain else { return true };
        let by_value = |source: &Source| match source {
            Source::Output | Source::Stage(_) => true,
            Source::Constant(t, _) => t.elements() == 1,
            Source::Input(..) => false,
        };
        chain.stages.iter().all(|stage| stage.sources.iter().all(by_value))
    }

    /// Applies the epilogue to elements `start` .. `start + block.len()` (row-major positions) of output 0, in place.
    pub fn apply(&self, start: usize, block: &mut [f32]) {
        let Some((chain, inputs)) = self.chain else { return };
        if let Some(program) = &chain.program
            && matches!(self.dtype, None | Some(DType::Fp16 | DType::Fp32))
            && simple::run(program, inputs, start, block, self.dtype == Some(DType::Fp16))
        {
            return;
        }
        let mut buffers = Buffers::take(chain.stages.len());
        for (i, block) in block.chunks_mut(BLOCK).enumerate() {
            if let Some(dtype) = self.dtype {
                round_to(dtype, block);
            }
            chain.block(inputs, start + i * BLOCK, block, &mut buffers);
        }
        buffers.give_back();
    }
}
