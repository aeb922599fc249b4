//! Turns a [`Plan`]'s plain data into steps that can run. Nothing in a plan is trusted: every index and range is
//! checked here, so that running need not check them again.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;

use milwright_mil::ops::{ArgView, Known, OpView};
use milwright_mil::{DType, Tensor, Type};

use super::{Block, Executable, Loaded, Value, Work};
use crate::chain::{Chain, Source, Stage};
use crate::convert::to_f32;
use crate::index::Walk;
use crate::kernel::{Map, Operand, tensor_types};
use crate::memory::{ALIGN, exceeds};
use crate::plan::{self, Graph, Node, Place, Plan, ValueNo};
use crate::{KernelError, Packed, PlanError, Pool, Prepared, View, eager, kernels};

/// The deepest nesting of a plan's blocks.
const MAX_NESTING: usize = 64;
/// The most slots that a plan may have for each of its values.
const MAX_SLOTS: usize = 1;

pub(super) fn load(memory: u64, plan: &Plan, pool: Pool) -> Result<Executable, PlanError> {
    let Graph { inputs, outputs, states, .. } = &plan.graph;
    let graph = &plan.graph;
    let opset = graph.opset().ok_or_else(|| bad("its opset is not known"))?;
    if graph.arena > memory {
        return Err(bad(&exceeds(graph.arena, 0, memory).to_string()));
    }
    if graph.slots as usize > MAX_SLOTS * graph.values.len() {
        return Err(bad("it wants too much memory"));
    }
    let arena = usize::try_from(graph.arena).map_err(|_| bad("it wants too much memory"))?;
    let values = graph.values.iter().map(|v| value(v, graph)).collect::<Result<Vec<_>, _>>()?;
    let ports = inputs.iter().map(|p| (p, true)).chain(outputs.iter().map(|p| (p, false)));
    for (port, input) in ports.chain(states.iter().map(|p| (p, true))) {
        let value = values.get(port.value.index()).ok_or_else(|| bad("a feature is no value"))?;
        let entry = matches!(value.place, Place::Input(_) | Place::State(_));
        if input != entry && input {
            return Err(bad("an input is not at its place"));
        }
    }
    let constants: Vec<_> = graph.constants.iter().map(|c| c.tensor(&plan.data)).collect();
    for (c, t) in graph.constants.iter().zip(&constants) {
        let there = !matches!(c, plan::Constant::Packed(..) | plan::Constant::Other);
        if there && t.is_none() {
            return Err(bad("a constant is cut short"));
        }
    }
    let mut executable = Executable {
        function: graph.function.clone(),
        opset,
        inputs: inputs.clone(),
        outputs: outputs.clone(),
        states: states.clone(),
        values,
        constants,
        body: Vec::new(),
        slots: graph.slots as usize,
        arena,
        memory,
        idle: Mutex::default(),
        pool,
    };
    executable.body = Loader { e: &executable, plan }.steps(&graph.body, 0)?;
    Ok(executable)
}

fn value(v: &plan::Value, graph: &Graph) -> Result<Value, PlanError> {
    let ty = v.ty.to_type().ok_or_else(|| bad("a type is not known"))?;
    let tensor = ty.as_tensor().and_then(|t| Some((t.dtype, t.fixed_shape()?)));
    let bytes = ty.as_tensor().and_then(|t| t.dtype.byte_len(t.elements()?));
    let exists = match v.place {
        Place::Fused => true,
        Place::Input(i) => i.index() < graph.inputs.len(),
        Place::State(i) => i.index() < graph.states.len(),
        Place::Constant(c) => c.index() < graph.constants.len(),
        Place::Slot(s) => s.0 < graph.slots,
        Place::Arena(_) => bytes.is_some(),
    };
    let range = match v.place {
        Place::Arena(start) => range(start, bytes.unwrap_or(0) as u64, graph.arena),
        _ => Some(0..0),
    };
    match range {
        Some(range) if exists => Ok(Value { ty, place: v.place, tensor, range }),
        _ => Err(bad("a value is out of range")),
    }
}

fn apart(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start
}

/// Returns the range of `size` bytes from `start`, if it is aligned and within `len` bytes.
fn range(start: u64, size: u64, len: u64) -> Option<Range<usize>> {
    let end = start.checked_add(size).filter(|&end| end <= len)?;
    start.is_multiple_of(64).then_some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

struct Loader<'a> {
    e: &'a Executable,
    plan: &'a Plan,
}

impl Loader<'_> {
    fn steps(&self, steps: &[plan::Step], depth: usize) -> Result<Vec<Loaded>, PlanError> {
        if depth > MAX_NESTING {
            return Err(bad("its blocks nest too deeply"));
        }
        steps.iter().map(|s| self.step(s, depth)).collect()
    }

    fn step(&self, step: &plan::Step, depth: usize) -> Result<Loaded, PlanError> {
        if step.work.values().iter().any(|&v| v.index() >= self.e.values.len()) {
            return Err(bad("a step reads a value that does not exist"));
        }
        let (start, size) = step.scratch;
        let scratch =
            range(start, size, self.plan.graph.arena).ok_or_else(|| bad("scratch memory is out of range"))?;
        let work = match &step.work {
            plan::Work::Op { op, epilogue } => self.op(op, epilogue, &scratch)?,
            plan::Work::Chain(nodes) => {
                let output =
                    *nodes.last().and_then(|n| n.outputs.first()).ok_or_else(|| bad("a chain is empty"))?;
                let (chain, inputs) = self.chain(nodes, None, output)?;
                self.check_overlap(&inputs, &[output], &scratch)?;
                Work::Chain { chain, ops: nodes.iter().map(|node| node.kind).collect(), inputs, output }
            }
            plan::Work::Late(node) => Work::Late(node.clone()),
            plan::Work::Cond { pred, branches: [a, b], outputs } => {
                let branches = [self.block(a, depth)?, self.block(b, depth)?];
                for branch in &branches {
                    self.check_copies(&branch.outputs, outputs)?;
                }
                Work::Cond { pred: *pred, branches, outputs: outputs.clone() }
            }
            plan::Work::While { init, cond, body, outputs } => {
                let (cond, body) = (self.block(cond, depth)?, self.block(body, depth)?);
                for variables in [&cond.inputs, &body.inputs] {
                    let place = |v: &ValueNo| self.e.values[*v].place;
                    let shared = |(a, b): (&ValueNo, &ValueNo)| {
                        place(a) == place(b)
                            || ![a, b].into_iter().any(|v| matches!(place(v), Place::Arena(_)))
                    };
                    let types = |(a, b): (&ValueNo, &ValueNo)| {
                        !matches!(place(b), Place::Arena(_))
                            || self.e.values[*a].tensor == self.e.values[*b].tensor
                    };
                    let all = || variables.iter().zip(outputs);
                    if variables.len() != outputs.len() || !all().all(shared) || !all().all(types) {
                        return Err(bad("a loop's variables are not at one place"));
                    }
                }
                self.check_copies(init, outputs)?;
                let hazard = self.check_copies(&body.outputs, outputs)?;
                Work::While { init: init.clone(), cond, body, outputs: outputs.clone(), hazard }
            }
            plan::Work::ReadState { state, output } => {
                let sizes = self.e.state_type(*state).and_then(|t| t.fixed_shape().map(|s| (t.dtype, s)));
                if sizes.is_none() || sizes != self.e.values[*output].tensor {
                    return Err(bad("a state is read as something else"));
                }
                Work::ReadState { state: *state, output: *output }
            }
            plan::Work::WriteState { state, value } => Work::WriteState { state: *state, value: *value },
        };
        let temporary = match &work {
            Work::Step { inputs, outputs, .. } => eager::temporary(
                inputs.iter().chain(outputs).filter_map(|&v| self.shape(v).ok()).map(|s| s.iter().product()),
            ),
            _ => 0,
        };
        Ok(Loaded { name: step.name.clone(), work, scratch, temporary })
    }

    fn block(&self, block: &plan::Block, depth: usize) -> Result<Block, PlanError> {
        self.check_written(&block.inputs)?;
        let inputs = block.inputs.clone();
        Ok(Block { inputs, steps: self.steps(&block.steps, depth + 1)?, outputs: block.outputs.clone() })
    }

    /// Checks that values have places that can be written: in the arena, or slots.
    fn check_written(&self, values: &[ValueNo]) -> Result<(), PlanError> {
        let place = |&v: &ValueNo| matches!(self.e.values[v].place, Place::Arena(_) | Place::Slot(_));
        if values.iter().all(place) { Ok(()) } else { Err(bad("a value has no place")) }
    }

    /// Checks that values can be copied to others. Returns whether a copy would overwrite what a later one reads.
    fn check_copies(&self, from: &[ValueNo], to: &[ValueNo]) -> Result<bool, PlanError> {
        self.check_written(to)?;
        let value = |v: ValueNo| &self.e.values[v];
        let in_arena = |v: ValueNo| matches!(value(v).place, Place::Arena(_));
        let mut hazard = false;
        for (i, (&a, &b)) in from.iter().zip(to).enumerate() {
            if in_arena(b) && (value(a).tensor.is_none() || value(a).tensor != value(b).tensor) {
                return Err(bad("a value is copied to one of another type"));
            }
            if !in_arena(a) {
                continue;
            }
            for (j, &other) in to.iter().enumerate().filter(|(_, v)| in_arena(**v)) {
                let (x, y) = (&value(a).range, &value(other).range);
                if !apart(x, y) {
                    hazard |= i != j;
                    if x != y {
                        return Err(bad("a value is copied to where it lies in part"));
                    }
                }
            }
        }
        if from.len() == to.len() { Ok(hazard) } else { Err(bad("a block has too few results")) }
    }

    fn in_slots(&self, values: &[ValueNo]) -> Result<Vec<ValueNo>, PlanError> {
        let slot = |&v: &ValueNo| matches!(self.e.values[v].place, Place::Slot(_));
        if values.iter().all(slot) { Ok(values.to_vec()) } else { Err(bad("a value has no slot")) }
    }

    fn op(&self, op: &Node, epilogue: &[Node], scratch: &Range<usize>) -> Result<Work, PlanError> {
        let kind = op.kind;
        let mut inputs = flat(op);
        for &(slot, wide) in &op.widened {
            let slot = inputs.get_mut(slot as usize).ok_or_else(|| bad("an op lost an input"))?;
            if self.shape(*slot)? != self.shape(wide)? {
                return Err(bad("a constant has another shape than it should"));
            }
            *slot = wide;
        }
        let (mut outputs, types) = (op.outputs.clone(), self.types(&op.outputs)?);
        Ok(match self.prepare(op)? {
            Prepared::Step(step) => {
                if step.scratch > scratch.len() {
                    return Err(bad("scratch memory is too small"));
                }
                let mut ops = vec![kind];
                let epilogue = match epilogue.last() {
                    None => None,
                    Some(last) => {
                        let result = outputs[0];
                        outputs = last.outputs.clone();
                        let (chain, inputs) = self.chain(epilogue, Some(result), outputs[0])?;
                        ops.extend(epilogue.iter().map(|node| node.kind));
                        if !step.epilogue || self.types(&outputs)? != types {
                            return Err(bad("a step has an epilogue that it cannot run"));
                        }
                        self.check_overlap(&inputs, &outputs, scratch)?;
                        Some((chain, inputs, dtype(&types[0])?))
                    }
                };
                let updated = self.updated(&step, &inputs, &outputs, epilogue.is_none());
                let read: Vec<ValueNo> =
                    inputs.iter().enumerate().filter(|(i, _)| Some(*i) != updated).map(|(_, v)| *v).collect();
                self.check_overlap(&read, &outputs, scratch)?;
                Work::Step { step, ops, inputs, outputs, epilogue, updated }
            }
            Prepared::Dynamic(run) if epilogue.is_empty() => {
                Work::Dynamic { run, kind, inputs, outputs: self.in_slots(&outputs)? }
            }
            // A kernel decides the same way at compile time and at load time, so another result means damage.
            _ => return Err(bad("an op is not what it was when it was compiled")),
        })
    }

    /// The input whose place output 0 takes, if the step can do that.
    fn updated(
        &self,
        step: &crate::Step,
        inputs: &[ValueNo],
        outputs: &[ValueNo],
        alone: bool,
    ) -> Option<usize> {
        let slot = step.updates.filter(|_| alone && outputs.len() == 1)?;
        let (from, to) = (&self.e.values[*inputs.get(slot)?], &self.e.values[outputs[0]]);
        let same = matches!(to.place, Place::Arena(_)) && from.place == to.place && from.tensor == to.tensor;
        same.then_some(slot)
    }

    /// Makes a chain of element-wise ops; also returns the values that it reads. `result` is the result of the step
    /// whose epilogue the chain is, if it is one.
    fn chain(
        &self,
        nodes: &[Node],
        result: Option<ValueNo>,
        output: ValueNo,
    ) -> Result<(Chain, Vec<ValueNo>), PlanError> {
        let place = self.e.values[output].place;
        let shape = self.shape(output)?;
        let mut chain = Chain::default();
        let mut inputs: Vec<ValueNo> = Vec::new();
        let mut stages: HashMap<ValueNo, usize> = HashMap::new();
        for node in nodes {
            let Prepared::Map(Map { simple, run, operands }) = self.prepare(node)? else {
                return Err(bad("an op is not what it was when it was compiled"));
            };
            let slots = flat(node);
            let mut sources = smallvec::SmallVec::new();
            for operand in operands {
                sources.push(match operand {
                    Operand::Constant(t) => {
                        let walk = broadcast(t.shape(), &shape)?;
                        Source::Constant(t, walk)
                    }
                    Operand::Slot(slot) => {
                        let v = *slots.get(slot).ok_or_else(|| bad("an op lost an input"))?;
                        let value = &self.e.values[v];
                        let in_place = matches!(place, Place::Arena(_)) && value.place == place;
                        let walk = broadcast(&self.shape(v)?, &shape)?;
                        if let Some(&stage) = stages.get(&v) {
                            Source::Stage(stage)
                        } else if Some(v) == result || (result.is_none() && in_place) {
                            if !walk.is_dense()
                                || value.tensor.as_ref().map(|t| t.0)
                                    != self.e.values[output].tensor.as_ref().map(|t| t.0)
                            {
                                return Err(bad("an operand cannot be updated in place"));
                            }
                            Source::Output
                        } else if let Some(number) = self.number(v) {
                            Source::Constant(number, walk)
                        } else {
                            let at = inputs.iter().position(|&i| i == v).unwrap_or_else(|| {
                                inputs.push(v);
                                inputs.len() - 1
                            });
                            Source::Input(at, walk)
                        }
                    }
                });
            }
            let out = *node.outputs.first().ok_or_else(|| bad("an op has no result"))?;
            let types = self.types(&[out])?;
            let dtype = dtype(&types[0])?;
            if self.shape(out)? != shape || !dtype.is_float() || sources.len() > crate::chain::MAX_OPERANDS {
                return Err(bad("the ops of a chain do not fit each other"));
            }
            stages.insert(out, chain.push(Stage { simple, run, sources, dtype }));
        }
        chain.seal();
        Ok((chain, inputs))
    }

    /// A constant of one element, as fp32.
    fn number(&self, v: ValueNo) -> Option<Tensor> {
        let Place::Constant(c) = self.e.values[v].place else { return None };
        let constant = self.e.constants[c].as_ref()?;
        let float = matches!(constant.dtype(), DType::Fp16 | DType::Fp32);
        let number = (float && constant.elements() == 1).then(|| to_f32(&View::from(constant))[0])?;
        Some(Tensor::scalar(number))
    }

    /// Prepares the kernel of an op.
    fn prepare(&self, node: &Node) -> Result<Prepared, PlanError> {
        let kind = node.kind;
        let version = kind.version(self.e.opset).ok_or_else(|| bad("an op is newer than the opset"))?;
        let arg = |&v: &ValueNo| {
            let value = &self.e.values[v];
            let known = match value.place {
                Place::Constant(c) => self.e.constants[c].as_ref(),
                _ => None,
            };
            ArgView {
                ty: Cow::Borrowed(&value.ty),
                known: known.map(|t| Cow::Owned(Known::Value(t.clone().into()))),
            }
        };
        let view = OpView {
            kind,
            version,
            constant: None,
            args: node.args.iter().map(|(n, a)| (n.as_str(), a.iter().map(arg).collect())).collect(),
            outputs: node.outputs.iter().map(|&v| &self.e.values[v].ty).collect(),
            block_outputs: Vec::new(),
        };
        let types = self.types(&node.outputs)?;
        let failed = |e: KernelError| bad(&format!("{}: {e}", kind.name()));
        // Kernels trust what inference has checked.
        let inferred = kind.infer(&view).map_err(|e| failed(e.into()))?;
        if inferred.len() != types.len() || !inferred.iter().zip(&types).all(|(i, t)| i.ty.agrees(t)) {
            return Err(bad("an op has results of other types than it should"));
        }
        let outputs = tensor_types(&types).map_err(failed)?;
        let prepared = match &node.packed {
            None => kernels::prepare(&view, &outputs),
            Some(p) => {
                let start = usize::try_from(p.offset).unwrap_or(usize::MAX);
                let end = usize::try_from(p.len).ok().and_then(|len| start.checked_add(len));
                let end = end
                    .filter(|&end| end <= self.plan.data.len() && start.is_multiple_of(ALIGN))
                    .ok_or_else(|| bad("weights are cut short"))?;
                let slots = p.slots.iter().map(|&s| s as usize).collect();
                let packed =
                    Packed { params: p.params.clone(), data: self.plan.data.slice(start..end), slots };
                kernels::prepare_packed(&view, &outputs, packed)
            }
        };
        prepared.map_err(failed)
    }

    /// Checks that no step writes to memory that it also reads, or writes twice.
    fn check_overlap(
        &self,
        inputs: &[ValueNo],
        outputs: &[ValueNo],
        scratch: &Range<usize>,
    ) -> Result<(), PlanError> {
        let in_arena = |v: &ValueNo| matches!(self.e.values[*v].place, Place::Arena(_));
        let range = |v: &ValueNo| self.e.values[*v].range.clone();
        let written: Vec<_> =
            outputs.iter().filter(|v| in_arena(v)).map(range).chain([scratch.clone()]).collect();
        let reads = inputs.iter().filter(|v| in_arena(v)).map(range);
        let fits = reads.into_iter().all(|r| written.iter().all(|w| apart(&r, w)))
            && written.iter().enumerate().all(|(i, a)| written[i + 1..].iter().all(|b| apart(a, b)));
        let placed =
            outputs.iter().all(|v| matches!(self.e.values[*v].place, Place::Arena(_) | Place::Slot(_)));
        if fits && placed { Ok(()) } else { Err(bad("a step would overwrite what it reads")) }
    }

    fn shape(&self, v: ValueNo) -> Result<Vec<usize>, PlanError> {
        let tensor = self.e.values[v].tensor.as_ref();
        tensor.map(|(_, shape)| shape.clone()).ok_or_else(|| bad("an op needs a fixed shape"))
    }

    fn types(&self, values: &[ValueNo]) -> Result<Vec<Type>, PlanError> {
        let fixed = |&v: &ValueNo| self.e.values[v].tensor.as_ref().map(|_| self.e.values[v].ty.clone());
        let types: Option<Vec<_>> = values.iter().map(fixed).collect();
        types.filter(|t| !t.is_empty()).ok_or_else(|| bad("an op needs a fixed shape"))
    }
}

fn flat(node: &Node) -> Vec<ValueNo> {
    node.args.iter().flat_map(|(_, a)| a.iter().copied()).collect()
}

fn dtype(ty: &Type) -> Result<DType, PlanError> {
    ty.as_tensor().map(|t| t.dtype).ok_or_else(|| bad("an op has no tensor as its result"))
}

fn broadcast(from: &[usize], to: &[usize]) -> Result<Walk, PlanError> {
    let skip = to.len().checked_sub(from.len());
    let fits = skip.is_some_and(|skip| from.iter().zip(&to[skip..]).all(|(&a, &b)| a == b || a == 1));
    if fits { Ok(Walk::broadcast(from, to)) } else { Err(bad("an operand does not fit the result")) }
}

fn bad(what: &str) -> PlanError {
    PlanError(what.to_owned())
}
