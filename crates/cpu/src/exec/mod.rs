//! Runs a [`Plan`].

mod arena;
mod costs;
mod input;
mod late;
mod load;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use milwright_mil::{DType, OpKind, Opset, Tensor, TensorType, Type};
use smallvec::SmallVec;

use crate::chain::{Chain, Epilogue};
use crate::kernel::DynamicFn;
use crate::memory::{AlignedBytes, ask_for};
use crate::plan::{Node, Place, Plan, Port, ValueNo, index_by_number};
use crate::{KernelError, Memory, PlanError, Pool, Run, RunError, RunOptions, State, Step, View, ViewMut};
use arena::Arena;

/// A plan that is ready to run. Threads can share it: each run borrows an arena of its own from it.
pub struct Executable {
    function: String,
    opset: Opset,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    states: Vec<Port>,
    values: Vec<Value>,
    constants: Vec<Option<Tensor>>,
    body: Vec<Loaded>,
    slots: usize,
    arena: usize,
    /// The bytes that intermediate results of one run may take.
    memory: u64,
    idle: Mutex<Vec<Arena>>,
    pool: Pool,
}

/// A value, ready to be read or written.
struct Value {
    ty: Type,
    place: Place,
    /// Element type and shape, if they are known.
    tensor: Option<(DType, Vec<usize>)>,
    /// The range of the arena.
    range: Range<usize>,
}

index_by_number! {
    ValueNo: [Value];
    InputNo: [Tensor];
    ConstantNo: [Option<Tensor>];
    SlotNo: [Option<Slot>];
}

/// A step, ready to run.
struct Loaded {
    name: String,
    work: Work,
    scratch: Range<usize>,
    /// Bytes that the step may allocate for widened copies of its operands.
    temporary: usize,
}

enum Work {
    Step {
        step: Step,
        ops: Vec<OpKind>,
        inputs: Vec<ValueNo>,
        outputs: Vec<ValueNo>,
        epilogue: Option<(Chain, Vec<ValueNo>, DType)>,
        /// The number of the input whose place output 0 takes.
        updated: Option<usize>,
    },
    Chain {
        chain: Chain,
        ops: Vec<OpKind>,
        inputs: Vec<ValueNo>,
        output: ValueNo,
    },
    Dynamic {
        run: DynamicFn,
        kind: OpKind,
        inputs: Vec<ValueNo>,
        outputs: Vec<ValueNo>,
    },
    Late(Node),
    Cond {
        pred: ValueNo,
        branches: [Block; 2],
        outputs: Vec<ValueNo>,
    },
    While {
        init: Vec<ValueNo>,
        cond: Block,
        body: Block,
        outputs: Vec<ValueNo>,
        /// Whether the body returns a variable as the next value of another.
        hazard: bool,
    },
    ReadState {
        state: ValueNo,
        output: ValueNo,
    },
    WriteState {
        state: ValueNo,
        value: ValueNo,
    },
}

struct Block {
    inputs: Vec<ValueNo>,
    steps: Vec<Loaded>,
    outputs: Vec<ValueNo>,
}

/// The data of one run.
struct Frame<'a> {
    inputs: &'a [Tensor],
    arena: &'a Arena,
    slots: Vec<Option<Slot>>,
    state: Option<&'a mut State>,
    cancel: Option<&'a (dyn Fn() -> bool + Sync)>,
    memory: Memory,
}

/// A value in a slot, whose size is only known at run time.
#[derive(Clone, Debug)]
enum Slot {
    Tensor(Tensor),
    List(Vec<Tensor>),
}

/// The most iterations of a loop: a guard against loops that never end.
const MAX_TURNS: usize = 100_000_000;

impl Executable {
    /// Prepares every step of a plan, within the [default](crate::DEFAULT_MEMORY) memory limit.
    ///
    /// # Errors
    /// The plan is damaged.
    pub fn new(plan: &Plan, pool: Pool) -> Result<Executable, PlanError> {
        Executable::within(crate::DEFAULT_MEMORY, plan, pool)
    }

    /// Prepares every step of a plan, with a limit of `memory` bytes for the intermediate results of each run.
    ///
    /// # Errors
    /// The plan is damaged, or needs more memory.
    pub fn within(memory: u64, plan: &Plan, pool: Pool) -> Result<Executable, PlanError> {
        load::load(memory, plan, pool)
    }

    /// Runs the function on named inputs. Floats of another width than declared are converted.
    ///
    /// # Errors
    /// An input is wrong, or an op fails on these inputs.
    pub fn run(&self, inputs: &[(&str, Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        self.run_with(inputs, RunOptions::default())
    }

    /// Like [`run`](Executable::run), with states, cancellation, and timing.
    ///
    /// # Errors
    /// An input or state is wrong, an op fails on these inputs, or the run is cancelled.
    pub fn run_with(
        &self,
        inputs: &[(&str, Tensor)],
        options: RunOptions<'_>,
    ) -> Result<Vec<(String, Tensor)>, RunError> {
        let tensors = self.bind(inputs)?;
        if let Some(port) = self.states.first().filter(|_| options.state.is_none()) {
            let message = "the function keeps state; pass one".into();
            return Err(RunError::State { name: port.name.clone(), message });
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let arena = match idle {
            Some(arena) => arena,
            None => Arena::new(self.arena)
                .map_err(|error| RunError::Memory { function: self.function.clone(), error })?,
        };
        let RunOptions { state, cancel, times } = options;
        let slots = vec![None; self.slots];
        let memory = Memory::new(self.memory, self.arena as u64);
        let mut frame = Frame { inputs: &tensors, arena: &arena, slots, state, cancel, memory };
        let result = self.steps(&self.body, &mut frame, times).and_then(|()| {
            let output = |p: &Port| Ok((p.name.clone(), self.tensor(p.value, &frame)?));
            self.outputs.iter().map(output).collect()
        });
        drop(frame);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
        result
    }

    /// Makes states of zeros. If the system lacks the memory for one, it is missing, and the next run reports that.
    pub fn new_state(&self) -> State {
        let zeros = |p: &Port| {
            let ty = self.state_type(p.value)?;
            let shape = ty.fixed_shape()?;
            let bytes = AlignedBytes::try_zeroed(ty.dtype.byte_len(ty.elements()?)?).ok()?;
            Some((p.name.clone(), Tensor::from_bytes(ty.dtype, &shape, bytes.into()).ok()?))
        };
        self.states.iter().filter_map(zeros).collect()
    }

    /// The ops and the name of each step of the body.
    pub fn step_names(&self) -> Vec<(String, String)> {
        self.body.iter().map(|s| (s.work.ops(), s.name.clone())).collect()
    }

    /// Bytes of the arena that each run uses.
    pub fn arena_bytes(&self) -> usize {
        self.arena
    }

    /// The threads that steps run on.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    fn steps(
        &self,
        steps: &[Loaded],
        frame: &mut Frame<'_>,
        mut times: Option<&mut Vec<Duration>>,
    ) -> Result<(), RunError> {
        for step in steps {
            if frame.cancel.is_some_and(|cancel| cancel()) {
                return Err(RunError::Cancelled { before: step.name.clone() });
            }
            let start = times.is_some().then(Instant::now);
            self.step(step, frame)?;
            if let (Some(times), Some(start)) = (&mut times, start) {
                times.push(start.elapsed());
            }
        }
        Ok(())
    }

    fn step(&self, step: &Loaded, frame: &mut Frame<'_>) -> Result<(), RunError> {
        let failed = |error: KernelError| RunError::Op {
            function: self.function.clone(),
            kind: step.work.ops(),
            name: step.name.clone(),
            error,
        };
        ask_for(step.temporary).map_err(failed)?;
        match &step.work {
            Work::Step { step: s, inputs, outputs, epilogue, updated, .. } => {
                let made = {
                    let inputs = match updated {
                        None => self.views(inputs, frame),
                        Some(updated) => self.views_but(*updated, inputs, frame),
                    };
                    let inputs = inputs.map_err(failed)?;
                    let more = match epilogue {
                        Some((_, inputs, _)) => self.views(inputs, frame).map_err(failed)?,
                        None => SmallVec::new(),
                    };
                    let epilogue =
                        epilogue.as_ref().map(|(chain, _, dtype)| Epilogue::new(chain, &more, *dtype));
                    self.filling(outputs, frame, step.scratch.clone(), |outputs, scratch| {
                        let epilogue = epilogue.unwrap_or_default();
                        (s.run)(&mut Run { inputs: &inputs, outputs, scratch, pool: &self.pool, epilogue })
                    })
                };
                self.put(outputs, made.map_err(failed)?, frame).map_err(failed)
            }
            Work::Chain { chain, inputs, output, .. } => {
                let made = {
                    let inputs = self.views(inputs, frame).map_err(failed)?;
                    self.filling(&[*output], frame, 0..0, |mut outputs, _| {
                        chain.run(&inputs, &mut outputs[0], &self.pool);
                        Ok(())
                    })
                };
                self.put(&[*output], made.map_err(failed)?, frame).map_err(failed)
            }
            Work::Dynamic { run, inputs, outputs, .. } => {
                let made = run(&self.views(inputs, frame).map_err(failed)?, &self.pool, &frame.memory)
                    .map_err(failed)?;
                self.put(outputs, made.into_iter().map(Slot::Tensor).collect(), frame).map_err(failed)
            }
            Work::Late(node) => self.late(node, frame).map_err(failed),
            Work::Cond { pred, branches: [then, otherwise], outputs } => {
                let branch = if self.truth(*pred, frame).map_err(failed)? { then } else { otherwise };
                self.steps(&branch.steps, frame, None)?;
                let results = self.carry(&branch.outputs, outputs, false, frame).map_err(failed)?;
                self.put(outputs, results, frame).map_err(failed)
            }
            Work::While { init, cond, body, outputs, hazard } => {
                let mut variables = self.carry(init, outputs, false, frame).map_err(failed)?;
                for _ in 0..MAX_TURNS {
                    // Checks for cancellation in each iteration: the blocks of a loop may have no steps.
                    if frame.cancel.is_some_and(|cancel| cancel()) {
                        return Err(RunError::Cancelled { before: step.name.clone() });
                    }
                    self.put(&cond.inputs, variables.clone(), frame).map_err(failed)?;
                    self.steps(&cond.steps, frame, None)?;
                    let Some(&go) = cond.outputs.first() else {
                        return Err(failed(KernelError::invalid("the condition has no result")));
                    };
                    if !self.truth(go, frame).map_err(failed)? {
                        return self.put(outputs, variables, frame).map_err(failed);
                    }
                    self.put(&body.inputs, variables, frame).map_err(failed)?;
                    self.steps(&body.steps, frame, None)?;
                    variables = self.carry(&body.outputs, outputs, *hazard, frame).map_err(failed)?;
                }
                Err(failed(KernelError::invalid(format!("the loop turned {MAX_TURNS} times"))))
            }
            Work::ReadState { state, output } => {
                let tensor = self.state(*state, frame).map_err(failed)?;
                let made = self.filling(&[*output], frame, 0..0, |mut outputs, _| {
                    outputs[0].bytes().copy_from_slice(tensor.bytes());
                    Ok(())
                });
                self.put(&[*output], made.map_err(failed)?, frame).map_err(failed)
            }
            Work::WriteState { state, value } => {
                let tensor = self.tensor(*value, frame)?;
                let name = self.state_name(*state).map_err(failed)?.to_owned();
                if let Some(state) = &mut frame.state {
                    state.set(&name, tensor);
                }
                Ok(())
            }
        }
    }

    /// Copies values to others: at once those that are in the arena, unless they are there already; returns those that
    /// are in slots, for [`put`](Executable::put). With `hazard`, a copy may overwrite what a later one reads.
    fn carry(
        &self,
        from: &[ValueNo],
        to: &[ValueNo],
        hazard: bool,
        frame: &Frame<'_>,
    ) -> Result<Vec<Slot>, KernelError> {
        let in_slot = |v: ValueNo| matches!(self.values[v].place, Place::Slot(_));
        let pairs = || from.iter().zip(to).map(|(&a, &b)| (a, b));
        let made = pairs().filter(|&(_, b)| in_slot(b)).map(|(a, _)| self.any(a, frame)).collect();
        let copied = || pairs().filter(|&(a, b)| !in_slot(b) && self.values[a].place != self.values[b].place);
        let write = |b: ValueNo, bytes: &[u8]| {
            // SAFETY: `load` has checked that the ranges of a copy in the arena are apart, unless they are equal; such
            // are not copied. Nothing else is borrowed from the arena between steps.
            let to = unsafe { frame.arena.write(self.values[b].range.clone()) };
            if to.len() == bytes.len() {
                to.copy_from_slice(bytes);
                Ok(())
            } else {
                Err(KernelError::invalid("a value has another size than was expected"))
            }
        };
        if hazard {
            let whole = copied().map(|(a, _)| self.any(a, frame)).collect::<Result<Vec<_>, _>>()?;
            for ((_, b), slot) in copied().zip(whole) {
                let Slot::Tensor(tensor) = slot else {
                    return Err(KernelError::invalid("a list came where a tensor is read"));
                };
                write(b, tensor.bytes())?;
            }
        } else {
            for (a, b) in copied() {
                write(b, self.view(a, frame)?.bytes())?;
            }
        }
        made
    }

    /// Lets `f` fill outputs: outputs in the arena in place. Outputs in slots are returned, in order.
    fn filling(
        &self,
        outputs: &[ValueNo],
        frame: &Frame<'_>,
        scratch: Range<usize>,
        f: impl FnOnce(Vec<ViewMut<'_>>, &mut [u8]) -> Result<(), KernelError>,
    ) -> Result<Vec<Slot>, KernelError> {
        if let [v] = outputs
            && matches!(self.values[*v].place, Place::Arena(_))
        {
            let value = &self.values[*v];
            let (dtype, shape) =
                value.tensor.as_ref().expect("`load` wants a shape for what is in the arena");
            // SAFETY: `load` has checked that the output of a step overlaps with neither its inputs nor its scratch
            // memory, and that the scratch memory overlaps with no input; only one step runs at a time on an arena.
            let (bytes, scratch) =
                unsafe { (frame.arena.write(value.range.clone()), frame.arena.write(scratch)) };
            f(vec![ViewMut::new(*dtype, shape, bytes)], scratch)?;
            return Ok(Vec::new());
        }
        let mut made: SmallVec<[Option<AlignedBytes>; 1]> = SmallVec::new();
        for &v in outputs {
            let value = &self.values[v];
            made.push(match value.place {
                Place::Arena(_) => None,
                _ => {
                    let (dtype, shape) = value.tensor.as_ref().ok_or_else(|| unsized_value(&value.ty))?;
                    let bytes = dtype.byte_len(shape.iter().product()).unwrap_or(0);
                    Some(frame.memory.zeroed(bytes)?)
                }
            });
        }
        // SAFETY: `load` has checked that the scratch range is in the arena and overlaps with no input or output of its
        // step, and only one step runs at a time on an arena.
        let scratch = unsafe { frame.arena.write(scratch) };
        let views = outputs.iter().zip(&mut made).map(|(&v, made)| {
            let value = &self.values[v];
            let (dtype, shape) =
                value.tensor.as_ref().expect("`load` wants a shape for what is in the arena");
            let bytes = match made {
                Some(bytes) => bytes.as_mut(),
                // SAFETY: `load` has checked that no output of a step overlaps with its other outputs, its inputs or
                // its scratch memory, and only one step runs at a time on an arena.
                None => unsafe { frame.arena.write(value.range.clone()) },
            };
            ViewMut::new(*dtype, shape, bytes)
        });
        f(views.collect(), scratch)?;
        let tensor = |(&v, bytes): (&ValueNo, Option<AlignedBytes>)| {
            let (dtype, shape) = self.values[v].tensor.as_ref()?;
            Some(Slot::Tensor(Tensor::from_bytes(*dtype, shape, bytes?.into()).ok()?))
        };
        Ok(outputs.iter().zip(made).filter_map(tensor).collect())
    }

    /// Stores results in the slots of those values that have slots.
    fn put(&self, values: &[ValueNo], results: Vec<Slot>, frame: &mut Frame<'_>) -> Result<(), KernelError> {
        let mut results = results.into_iter();
        for &v in values {
            let value = &self.values[v];
            let Place::Slot(slot) = value.place else { continue };
            let result = results.next().ok_or_else(|| KernelError::invalid("it made too few results"))?;
            if let (Slot::Tensor(t), Type::Tensor(ty)) = (&result, &value.ty)
                && !t.ty().agrees(ty)
            {
                return Err(KernelError::invalid(format!("a result is {}, but {ty} was expected", t.ty())));
            }
            frame.slots[slot] = Some(result);
        }
        Ok(())
    }

    fn views<'f>(
        &'f self,
        values: &[ValueNo],
        frame: &'f Frame<'_>,
    ) -> Result<SmallVec<[View<'f>; 4]>, KernelError> {
        values.iter().map(|&v| self.view(v, frame)).collect()
    }

    /// Like [`views`](Executable::views), but without the bytes of one value: a step writes to where it lies.
    fn views_but<'f>(
        &'f self,
        without: usize,
        values: &[ValueNo],
        frame: &'f Frame<'_>,
    ) -> Result<SmallVec<[View<'f>; 4]>, KernelError> {
        let view = |(i, &v): (usize, &ValueNo)| match &self.values[v].tensor {
            Some((dtype, shape)) if i == without => Ok(View::new(*dtype, shape, &[])),
            _ => self.view(v, frame),
        };
        values.iter().enumerate().map(view).collect()
    }

    fn view<'f>(&'f self, v: ValueNo, frame: &'f Frame<'_>) -> Result<View<'f>, KernelError> {
        let value = &self.values[v];
        let whole = match value.place {
            Place::Arena(_) => {
                let (dtype, shape) = value.tensor.as_ref().ok_or_else(|| unsized_value(&value.ty))?;
                // SAFETY: `load` has checked that no output of a step overlaps with one of its inputs, and only one
                // step runs at a time on an arena.
                return Ok(View::new(*dtype, shape, unsafe { frame.arena.read(value.range.clone()) }));
            }
            Place::Input(i) => &frame.inputs[i],
            Place::Constant(c) => match &self.constants[c] {
                Some(t) => t,
                None => {
                    let (dtype, shape) = value.tensor.as_ref().ok_or_else(|| unsized_value(&value.ty))?;
                    return Ok(View::new(*dtype, shape, &[]));
                }
            },
            Place::Slot(slot) => match &frame.slots[slot] {
                Some(Slot::Tensor(t)) => return Ok(View::from(t)),
                Some(Slot::List(_)) => {
                    return Err(KernelError::invalid("a list came where a tensor is read"));
                }
                None => return Err(KernelError::invalid("a value is read before it is made")),
            },
            Place::State(_) => self.state(v, frame)?,
            Place::Fused => return Err(KernelError::invalid("a fused value is read")),
        };
        match &value.tensor {
            // An alias has a shape of its own, which may differ from that of the value whose bytes it shares.
            Some((dtype, shape)) if *dtype != DType::String => Ok(View::new(*dtype, shape, whole.bytes())),
            _ => Ok(View::from(whole)),
        }
    }

    fn tensor(&self, v: ValueNo, frame: &Frame<'_>) -> Result<Tensor, RunError> {
        match self.any(v, frame) {
            Ok(Slot::Tensor(t)) => Ok(t),
            Ok(Slot::List(_)) => Err(self.nameless(KernelError::unsupported("a list as a result"))),
            Err(e) => Err(self.nameless(e)),
        }
    }

    /// Returns a value as a tensor or list that outlives the step.
    fn any(&self, v: ValueNo, frame: &Frame<'_>) -> Result<Slot, KernelError> {
        if let Place::Slot(slot) = self.values[v].place
            && let Some(value) = &frame.slots[slot]
        {
            return Ok(value.clone());
        }
        self.view(v, frame)?.to_tensor_in(&frame.memory).map(Slot::Tensor)
    }

    fn truth(&self, v: ValueNo, frame: &Frame<'_>) -> Result<bool, KernelError> {
        let view = self.view(v, frame)?;
        match (view.dtype(), view.bytes()) {
            (DType::Bool, &[bit]) => Ok(bit != 0),
            _ => Err(KernelError::invalid("the condition is not one bool")),
        }
    }

    fn state<'f>(&'f self, v: ValueNo, frame: &'f Frame<'_>) -> Result<&'f Tensor, KernelError> {
        let name = self.state_name(v)?;
        let tensor = frame.state.as_deref().and_then(|s| s.get(name));
        let tensor = tensor.ok_or_else(|| KernelError::invalid(format!("the state `{name}` is missing")))?;
        match self.state_type(v) {
            Some(ty) if tensor.ty().agrees(ty) => Ok(tensor),
            _ => Err(KernelError::invalid(format!("the state `{name}` is {}", tensor.ty()))),
        }
    }

    fn state_name(&self, v: ValueNo) -> Result<&str, KernelError> {
        match self.values[v].place {
            Place::State(i) => Ok(&self.states[i].name),
            _ => Err(KernelError::unsupported("a state that is not an input of the function")),
        }
    }

    fn state_type(&self, v: ValueNo) -> Option<&TensorType> {
        match &self.values[v].ty {
            Type::State(ty) => ty.as_tensor(),
            _ => None,
        }
    }

    fn nameless(&self, error: KernelError) -> RunError {
        RunError::Op { function: self.function.clone(), kind: "block".into(), name: String::new(), error }
    }
}

impl Work {
    /// The ops in the step, and the variant of the first op's kernel.
    fn ops(&self) -> String {
        match self {
            Work::Step { step, ops, .. } if step.variant.is_empty() => joined(ops),
            Work::Step { step, ops, .. } => format!("{} [{}]", joined(ops), step.variant),
            Work::Chain { ops, .. } => joined(ops),
            Work::Dynamic { kind, .. } => kind.name().into(),
            Work::Late(node) => node.kind.name().into(),
            Work::Cond { .. } => OpKind::Cond.name().into(),
            Work::While { .. } => OpKind::WhileLoop.name().into(),
            Work::ReadState { .. } => OpKind::ReadState.name().into(),
            Work::WriteState { .. } => OpKind::WriteState.name().into(),
        }
    }
}

fn joined(ops: &[OpKind]) -> String {
    ops.iter().map(|kind| kind.name()).collect::<Vec<_>>().join("+")
}

fn unsized_value(ty: &Type) -> KernelError {
    KernelError::invalid(format!("a value of type {ty} has no fixed size"))
}
