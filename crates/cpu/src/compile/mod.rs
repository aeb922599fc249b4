//! Compiles a function to a [`Plan`].
//!
//! 1. Run the graph passes of `milwright-mil`.
//! 2. Infer types from the given input shapes, and run every op whose inputs are known.
//! 3. Drop ops that no output needs.
//! 4. Prepare each op and pack its constants. This shows whether the op is a step, an element-wise function, a mere
//!    change of shape, or an op whose shapes are only known at run time.
//! 5. Fuse element-wise functions with each other and with the step before them ([`fuse`]).
//! 6. Give every value a place in memory ([`memory`]).

mod constants;
mod fuse;
mod lifetimes;
mod memory;

use std::collections::{HashMap, HashSet};

use milwright_mil::engine::CompileFault;
use milwright_mil::infer::{Facts, infer};
use milwright_mil::ops::{Effect, Inferred, Known, OpView};
use milwright_mil::{
    Arg, BlockId, Checked, DType, Dim, Evaluate, Function, OpId, OpKind, Tensor, TensorType, Type, ValueId,
    param, passes,
};

use crate::memory::exceeds;
use crate::plan::{
    Block, Graph, InputNo, Node, PackedData, Place, Plan, Port, SlotNo, StateNo, Ty, Value, ValueNo, Work,
};
use crate::{CompileError, CompileOptions, Eager, KernelError, Memory, Packed, Prepared, Support, kernels};
use constants::Constants;
use lifetimes::{Lifetimes, each, each_mut, root};
use memory::Buffer;

/// Compiles a function for the given shapes of its inputs. Inputs that `shapes` does not name have the shape that the
/// function declares.
///
/// # Errors
/// There is no such function, an input has no fixed shape, or an op cannot be run.
pub fn compile(program: &Checked, function: &str, shapes: &[(&str, &[usize])]) -> Result<Plan, CompileError> {
    compile_with(program, function, shapes, CompileOptions::default())
}

/// Like [`compile`], within limits.
///
/// # Errors
/// As `compile`; also if a run would take more memory than allowed, or compiling was cancelled.
pub fn compile_with(
    program: &Checked,
    function: &str,
    shapes: &[(&str, &[usize])],
    options: CompileOptions<'_>,
) -> Result<Plan, CompileError> {
    let error = |message: String, hint| CompileError {
        function: function.into(),
        op: None,
        message,
        hint,
        cause: CompileFault::Program,
    };
    let folding = Folding(options);
    let f = program.functions.get(function).ok_or_else(|| {
        let names = program.functions.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        error(format!("there is no such function; the program has: {names}"), None)
    })?;
    let optimized = optimize(program, function, &folding);
    folding.go_on(function)?;
    let f = optimized.as_ref().and_then(|p| p.functions.get(function)).unwrap_or(f);
    let types = f.inputs.iter().map(|&v| input_type(f, v, shapes)).collect::<Result<Vec<_>, _>>();
    let types =
        types.map_err(|m| error(m, Some("give the shape of every input whose dimensions are flexible")))?;
    if let Some((name, _)) = shapes.iter().find(|(n, _)| !f.inputs.iter().any(|&v| f[v].name == *n)) {
        let names = f.inputs.iter().map(|&v| f[v].name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(error(format!("there is no input `{name}`; the inputs are: {names}"), None));
    }
    let (mut facts, errors) = infer(f, &types, Some(&folding));
    folding.go_on(function)?;
    if let Some(e) = errors.first() {
        let op = Some((f[e.op].kind, op_name(f, e.op)));
        return Err(CompileError {
            function: function.into(),
            op,
            message: e.to_string(),
            hint: None,
            cause: CompileFault::Shapes,
        });
    }
    expand(f, &mut facts, &folding);
    let mut lower = Lower {
        name: function,
        f,
        facts: &facts,
        live: live(f, &facts),
        graph: Graph { function: function.into(), opset: f.opset.text_name().into(), ..Graph::default() },
        ids: HashMap::new(),
        constants: Constants::default(),
        aliases: HashMap::new(),
        updates: HashMap::new(),
        folding,
    };
    lower.function()?;
    let Lower { mut graph, constants, .. } = lower;
    let memory = |e: KernelError| CompileError { cause: CompileFault::Memory, ..error(e.to_string(), None) };
    let data = constants.finish(&mut graph).map_err(memory)?;
    Ok(Plan { graph, data })
}

/// Runs ops on constants, within the memory limit, until compiling is cancelled.
#[derive(Clone, Copy)]
struct Folding<'a>(CompileOptions<'a>);

impl Evaluate for Folding<'_> {
    fn evaluate(&self, op: &OpView<'_>, outputs: &[Type]) -> Result<Vec<Tensor>, String> {
        if self.0.cancel.is_some_and(|cancel| cancel()) {
            return Err("it was cancelled".into());
        }
        Eager.evaluate_within(op, outputs, &Memory::new(self.0.memory, 0))
    }
}

impl Folding<'_> {
    /// Fails if compiling was cancelled.
    fn go_on(&self, function: &str) -> Result<(), CompileError> {
        if self.0.cancel.is_some_and(|cancel| cancel()) {
            let (message, cause) = ("it was cancelled".into(), CompileFault::Cancelled);
            return Err(CompileError { function: function.into(), op: None, message, hint: None, cause });
        }
        Ok(())
    }
}

/// Replaces compressed constants by plain ones, so that they are expanded once and packed like any weight. A constant
/// that cannot be expanded stays; lowering refuses it later, with its name.
fn expand(f: &Function, facts: &mut Facts, folding: &Folding<'_>) {
    for id in f.walk() {
        if !f[id].kind.is_constexpr() {
            continue;
        }
        let types: Vec<Type> = f[id].outputs.iter().map(|&v| facts.ty(f, v).clone()).collect();
        let Ok(view) = facts.view(f, id) else { continue };
        let Ok(tensors) = folding.evaluate(&view, &types) else { continue };
        for (&value, tensor) in f[id].outputs.iter().zip(tensors) {
            let ty = Type::Tensor(tensor.ty());
            facts.set(value, Inferred { ty, known: Some(Known::Value(tensor.into())) });
        }
    }
}

/// Runs all graph passes. Returns `None` if a pass has a bug: a bug in a pass must not keep a model from running.
fn optimize(program: &Checked, name: &str, folding: &Folding<'_>) -> Option<Checked> {
    let all: Vec<passes::Pass> = passes::ALL.iter().chain(passes::ENGINE).copied().collect();
    let optimized = passes::run(program.only(name)?, &all, Some(folding));
    optimized.inspect_err(|error| tracing::warn!(%error, "compiling without passes")).ok().map(|(p, _)| p)
}

fn input_type(f: &Function, value: ValueId, shapes: &[(&str, &[usize])]) -> Result<Type, String> {
    let v = &f[value];
    let Some(declared) = v.ty.as_tensor() else { return Ok(v.ty.clone()) };
    let mut ty = declared.clone();
    if let Some((_, shape)) = shapes.iter().find(|(n, _)| *n == v.name) {
        ty.shape = shape.iter().map(|&n| Dim::Fixed(n)).collect();
        if !ty.agrees(declared) {
            return Err(format!(
                "input `{}` is declared as {declared}; the shape {shape:?} does not fit",
                v.name
            ));
        }
    }
    if ty.fixed_shape().is_none() {
        return Err(format!("input `{}` is declared as {declared}, which leaves its shape open", v.name));
    }
    ty.elements().ok_or_else(|| format!("input `{}` is too large: {ty}", v.name))?;
    Ok(ty.into())
}

/// The ops that outputs need, and the ops that change a state.
fn live(f: &Function, facts: &Facts) -> HashSet<OpId> {
    fn has_effect(f: &Function, op: OpId) -> bool {
        f[op].kind.effect() == Effect::State
            || f[op].blocks.iter().any(|&b| f[b].ops.iter().any(|&o| has_effect(f, o)))
    }
    fn mark(
        f: &Function,
        facts: &Facts,
        block: BlockId,
        needed: &mut HashSet<ValueId>,
        live: &mut HashSet<OpId>,
    ) {
        needed.extend(f[block].outputs.iter().copied());
        for &id in f[block].ops.iter().rev() {
            let op = &f[id];
            let used = op.outputs.iter().any(|o| needed.contains(o) && facts.value(*o).is_none());
            if used || has_effect(f, id) {
                live.insert(id);
                needed.extend(op.values());
                op.blocks.iter().for_each(|&b| mark(f, facts, b, needed, live));
            }
        }
    }
    let (mut needed, mut live) = (HashSet::new(), HashSet::new());
    mark(f, facts, f.body, &mut needed, &mut live);
    live
}

struct Lower<'a> {
    name: &'a str,
    f: &'a Function,
    facts: &'a Facts,
    live: HashSet<OpId>,
    graph: Graph,
    ids: HashMap<ValueId, ValueNo>,
    constants: Constants,
    /// Values that are another value in another shape.
    aliases: HashMap<ValueNo, ValueNo>,
    /// Results of ops that can update an operand in place, and that operand.
    updates: HashMap<ValueNo, ValueNo>,
    folding: Folding<'a>,
}

/// Ops that compute with `f32` weights. Their fp16 weights are widened once, by the compiler, instead of in each run.
const WIDENED: &[OpKind] = &[OpKind::Conv, OpKind::ConvTranspose, OpKind::Linear, OpKind::Matmul];

/// An op, before fusion.
struct Item {
    name: String,
    class: Class,
    /// The step of the op.
    work: Work,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    /// An element-wise function, which can be fused.
    Map,
    /// A step: its bytes of scratch memory, and whether it takes an epilogue.
    Step(usize, bool),
    /// Any other step. It is never fused.
    Other,
}

impl Lower<'_> {
    fn function(&mut self) -> Result<(), CompileError> {
        for &v in &self.f.inputs {
            let state = matches!(self.facts.ty(self.f, v), Type::State(_));
            let ports = if state { &self.graph.states } else { &self.graph.inputs };
            let number = ports.len() as u32;
            self.check_size(v).map_err(|e| CompileError {
                function: self.name.into(),
                op: None,
                message: format!("`{}`: {e}", self.f[v].name),
                hint: None,
                cause: CompileFault::Memory,
            })?;
            let value = self.value(
                v,
                if state { Place::State(StateNo(number)) } else { Place::Input(InputNo(number)) },
            )?;
            let port = Port { name: self.f[v].name.clone(), value };
            if state { &mut self.graph.states } else { &mut self.graph.inputs }.push(port);
        }
        let body = &self.f[self.f.body];
        let items = self.block(self.f.body)?;
        for &v in &body.outputs {
            let value = self.read(v)?;
            self.graph.outputs.push(Port { name: self.f[v].name.clone(), value });
        }
        let outputs: Vec<ValueNo> = self.graph.outputs.iter().map(|p| p.value).collect();
        self.graph.body = fuse::fuse(items, &outputs, &self.aliases, &mut self.graph.values);
        self.place(&outputs)
    }

    /// Lowers the ops of a block.
    fn block(&mut self, block: BlockId) -> Result<Vec<Item>, CompileError> {
        let f = self.f;
        let mut items = Vec::new();
        for &op in &f[block].ops {
            if self.live.contains(&op)
                && let Some(item) = self.op(op)?
            {
                items.push(item);
            }
        }
        Ok(items)
    }

    /// Lowers a nested block. Its inputs are the `variables` of a loop, under names of their own.
    fn nested(&mut self, block: BlockId, variables: &[ValueNo]) -> Result<Block, CompileError> {
        let f = self.f;
        let mut inputs = Vec::with_capacity(variables.len());
        for (&v, &variable) in f[block].inputs.iter().zip(variables) {
            let in_arena = matches!(self.graph.values[variable].place, Place::Arena(_));
            inputs.push(if in_arena { self.value(v, Place::Arena(0))? } else { self.slot(v)? });
            if in_arena {
                self.aliases.insert(inputs[inputs.len() - 1], variable);
            }
        }
        let items = self.block(block)?;
        let outputs = f[block].outputs.iter().map(|&v| self.read(v)).collect::<Result<Vec<_>, _>>()?;
        let steps = fuse::fuse(items, &outputs, &self.aliases, &mut self.graph.values);
        Ok(Block { inputs, steps, outputs })
    }

    /// Adds a value for the result of a branch or a loop: in the arena if it and all values that it is copied from or
    /// shared with have one type and a fixed shape, else in a slot.
    fn result(&mut self, v: ValueId, others: &[Option<&ValueId>]) -> Result<ValueNo, CompileError> {
        let ty = Ty::from_type(self.facts.ty(self.f, v));
        let same = others.iter().all(|o| o.is_some_and(|&o| Ty::from_type(self.facts.ty(self.f, o)) == ty));
        if same { self.output(v) } else { self.slot(v) }
    }

    /// Lowers an op; `None` if the op needs no step.
    fn op(&mut self, id: OpId) -> Result<Option<Item>, CompileError> {
        let op = &self.f[id];
        let name = op_name(self.f, id);
        self.folding.go_on(self.name)?;
        for &v in &op.outputs {
            self.check_size(v).map_err(|e| self.error(id, e))?;
        }
        let other = |work| Ok(Some(Item { name: name.clone(), class: Class::Other, work }));
        match (op.kind, op.blocks.as_slice()) {
            (OpKind::Cond, &[then, otherwise]) => {
                let pred = self.bound(id, param!(Cond.pred))?;
                let branches = [self.nested(then, &[])?, self.nested(otherwise, &[])?];
                let mut outputs = Vec::with_capacity(op.outputs.len());
                for (i, &v) in op.outputs.iter().enumerate() {
                    let results = [then, otherwise].map(|b| self.f[b].outputs.get(i));
                    outputs.push(self.result(v, &results)?);
                }
                return other(Work::Cond { pred, branches, outputs });
            }
            (OpKind::WhileLoop, &[cond, body]) => {
                let init: Vec<ValueNo> = self.args(id)?.into_iter().flat_map(|(_, a)| a).collect();
                let mut outputs = Vec::with_capacity(op.outputs.len());
                for (i, &v) in op.outputs.iter().enumerate() {
                    let f = self.f;
                    let ty = Ty::from_type(self.facts.ty(f, v));
                    let first = init.get(i).is_some_and(|&v| Some(&self.graph.values[v].ty) == ty.as_ref());
                    let shared = [f[cond].inputs.get(i), f[body].inputs.get(i), f[body].outputs.get(i)];
                    outputs.push(if first { self.result(v, &shared)? } else { self.slot(v)? });
                }
                let (cond, body) = (self.nested(cond, &outputs)?, self.nested(body, &outputs)?);
                return other(Work::While { init, cond, body, outputs });
            }
            (OpKind::ReadState, _) => {
                let state = self.bound(id, param!(ReadState.input))?;
                let output = self.output(op.outputs[0])?;
                return other(Work::ReadState { state, output });
            }
            (OpKind::WriteState, _) => {
                let (state, value) =
                    (self.bound(id, param!(WriteState.input))?, self.bound(id, param!(WriteState.data))?);
                return other(Work::WriteState { state, value });
            }
            _ => {}
        }
        match kernels::support(op.kind) {
            Support::No(reason) => {
                return Err(self.error(id, KernelError::unsupported(reason)));
            }
            Support::Kernel | Support::Engine => {}
        }
        let view = self.facts.view(self.f, id).map_err(|e| self.error(id, e.into()))?;
        let mut args = self.args(id)?;
        let flat: Vec<ValueNo> = args.iter().flat_map(|(_, a)| a.iter().copied()).collect();
        let output_type = |v: &ValueId| match self.facts.ty(self.f, *v) {
            Type::Tensor(t) if t.elements().is_some() => Some(t.clone()),
            _ => None,
        };
        let outputs: Option<Vec<_>> = op.outputs.iter().map(output_type).collect();
        let known = flat.iter().all(|&v| self.fixed(v));
        let Some(outputs) = outputs.filter(|_| known && kernels::support(op.kind) == Support::Kernel) else {
            return other(self.late(id, args)?);
        };
        let failed = |e| self.error(id, e);
        let packed = match self.compressed(id, &view, &outputs) {
            Some(packed) => Some(packed),
            None => kernels::pack(&view, &outputs).map_err(failed)?,
        };
        let prepared = match packed.clone() {
            Some(p) => kernels::prepare_packed(&view, &outputs, p),
            None => kernels::prepare(&view, &outputs),
        };
        let mut updates = None;
        let class = match prepared.map_err(failed)? {
            Prepared::Alias(slot) if !matches!(self.graph.values[flat[slot]].place, Place::Slot(_)) => {
                let place = self.graph.values[flat[slot]].place;
                let out = self.value(op.outputs[0], place)?;
                self.aliases.insert(out, flat[slot]);
                return Ok(None);
            }
            Prepared::Alias(_) | Prepared::Dynamic(_) => {
                return other(self.late(id, args)?);
            }
            Prepared::Map(map)
                if !outputs[0].dtype.is_float() || map.operands.len() > crate::chain::MAX_OPERANDS =>
            {
                return Err(failed(KernelError::unsupported(format!(
                    "as an element-wise function of {}",
                    outputs[0]
                ))));
            }
            Prepared::Map(_) => Class::Map,
            Prepared::Step(step) => {
                updates = step.updates;
                Class::Step(step.scratch, step.epilogue)
            }
        };
        let packed = packed.map(|p| {
            for arg in args.iter_mut().flat_map(|(_, a)| a).enumerate().filter(|(i, _)| p.slots.contains(i)) {
                *arg.1 = self.constants.packed(&mut self.graph, *arg.1);
            }
            let slots = p.slots.iter().map(|&s| s as u32).collect();
            let len = p.data.len() as u64;
            PackedData { params: p.params, offset: self.constants.data(p.data), len, slots }
        });
        let mut widened = Vec::new();
        if packed.is_none() && matches!(class, Class::Step(..)) && WIDENED.contains(&op.kind) {
            for (slot, arg) in args.iter_mut().flat_map(|(_, a)| a).enumerate() {
                if let Some(wide) = self.constants.widened(&mut self.graph, *arg) {
                    widened.push((slot as u32, wide));
                    *arg = self.constants.packed(&mut self.graph, *arg);
                }
            }
        }
        let outputs = op.outputs.iter().map(|&v| self.output(v)).collect::<Result<Vec<_>, _>>()?;
        if let (Some(slot), &[out]) = (updates, &outputs[..]) {
            self.updates.insert(out, flat[slot]);
        }
        let node = Node { kind: op.kind, args, outputs, packed, widened };
        Ok(Some(Item { name, class, work: Work::Op { op: node, epilogue: Vec::new() } }))
    }

    /// Packs the weight of a `linear` in its compressed form, if it has one that the kernel reads.
    fn compressed(&self, id: OpId, view: &OpView<'_>, outputs: &[TensorType]) -> Option<Packed> {
        let op = Some(id).filter(|&id| self.f[id].kind == OpKind::Linear)?;
        let weight = self.f.defining_op(self.f[op].value(param!(Linear.weight))?)?;
        kernels::linear::compressed::pack(view, &self.facts.view(self.f, weight).ok()?, outputs)
    }

    /// Makes the step of an op that is prepared at run time, because its shapes are only known then.
    fn late(&mut self, id: OpId, args: Vec<(String, Vec<ValueNo>)>) -> Result<Work, CompileError> {
        let op = &self.f[id];
        let outputs = op.outputs.iter().map(|&v| self.slot(v)).collect::<Result<_, _>>()?;
        Ok(Work::Late(Node { kind: op.kind, args, outputs, packed: None, widened: Vec::new() }))
    }

    /// Whether a value is a tensor of known shape, or a constant.
    fn fixed(&self, value: ValueNo) -> bool {
        let value = &self.graph.values[value];
        matches!(value.place, Place::Constant(_))
            || matches!(&value.ty, Ty::Tensor(_, shape) if shape.iter().all(Option::is_some))
    }

    /// The parameters of an op and the values bound to them.
    fn args(&mut self, id: OpId) -> Result<Vec<(String, Vec<ValueNo>)>, CompileError> {
        let f = self.f;
        let mut all = Vec::with_capacity(f[id].inputs.len());
        for input in &f[id].inputs {
            let mut values = Vec::with_capacity(input.args.len());
            for arg in &input.args {
                values.push(match arg {
                    Arg::Value(v) => self.read(*v)?,
                    Arg::Const(c) => self.constants.value(&mut self.graph, c),
                });
            }
            all.push((input.name.clone(), values));
        }
        Ok(all)
    }

    fn bound(&mut self, id: OpId, name: &str) -> Result<ValueNo, CompileError> {
        let args = self.args(id)?;
        let found = args.iter().find(|(n, _)| n == name).and_then(|(_, a)| a.first().copied());
        found.ok_or_else(|| self.error(id, KernelError::invalid(format!("input `{name}` is missing"))))
    }

    /// The number of a value that a step reads: if the value is known, the number of its constant.
    fn read(&mut self, v: ValueId) -> Result<ValueNo, CompileError> {
        if let Some(&id) = self.ids.get(&v) {
            return Ok(id);
        }
        let id = match self.facts.value(v) {
            Some(known) => self.constants.value(&mut self.graph, known),
            None => return self.slot(v),
        };
        self.ids.insert(v, id);
        Ok(id)
    }

    /// Adds a value for an op's result: in the arena if its size is known, else in a slot.
    fn output(&mut self, v: ValueId) -> Result<ValueNo, CompileError> {
        let sized = match self.facts.ty(self.f, v) {
            Type::Tensor(t) => t.elements().is_some_and(|n| t.dtype.byte_len(n).is_some()),
            _ => false,
        };
        if sized { self.value(v, Place::Arena(0)) } else { self.slot(v) }
    }

    fn slot(&mut self, v: ValueId) -> Result<ValueNo, CompileError> {
        let slot = SlotNo(self.graph.slots);
        self.graph.slots += 1;
        self.value(v, Place::Slot(slot))
    }

    fn value(&mut self, v: ValueId, place: Place) -> Result<ValueNo, CompileError> {
        let ty = self.facts.ty(self.f, v);
        let ty = Ty::from_type(ty).ok_or_else(|| CompileError {
            function: self.name.into(),
            op: self.f.defining_op(v).map(|op| (self.f[op].kind, op_name(self.f, op))),
            message: format!("`{}` is of type {ty}, which this engine does not run", self.f[v].name),
            hint: None,
            cause: CompileFault::Program,
        })?;
        let id = ValueNo(self.graph.values.len() as u32);
        self.graph.values.push(Value { ty, place });
        self.ids.insert(v, id);
        Ok(id)
    }

    /// Gives every value of known size its place in the arena.
    fn place(&mut self, outputs: &[ValueNo]) -> Result<(), CompileError> {
        let values = &mut self.graph.values;
        let mut lifetimes = Lifetimes::of(&self.graph.body, values, &self.aliases);
        lifetimes.touch(outputs, lifetimes.end);
        let Lifetimes { numbers, mut spans, mut order, variables, .. } = lifetimes;
        // Chains, and ops that can, update an operand in place if no later step reads the operand, or if the result is
        // the next value of a loop's variable.
        let at = numbers.clone();
        let mut numbers = numbers.into_iter();
        each(&self.graph.body, &mut |step| {
            let i = numbers.next().expect("every step has a number");
            let (out, read): (ValueNo, Vec<ValueNo>) = match &step.work {
                Work::Chain(nodes) => {
                    let out = nodes.last().expect("a chain has nodes").outputs[0];
                    let args = nodes.iter().flat_map(|n| n.args.iter().flat_map(|(_, a)| a.iter().copied()));
                    (out, args.collect())
                }
                Work::Op { op, epilogue } if epilogue.is_empty() => {
                    let Some(&updated) = op.outputs.first().and_then(|out| self.updates.get(out)) else {
                        return;
                    };
                    let args: Vec<ValueNo> = op.args.iter().flat_map(|(_, a)| a.iter().copied()).collect();
                    let r = root(&self.aliases, updated);
                    if args.iter().filter(|&&v| root(&self.aliases, v) == r).count() != 1 {
                        return;
                    }
                    let out = op.outputs[0];
                    let next = variables.get(&r).is_some_and(|variable| {
                        variable.last == i && root(&self.aliases, variable.next) == out
                    });
                    if next && values[updated].ty == values[out].ty {
                        spans.remove(&out);
                        order.retain(|&o| o != out);
                        self.aliases.insert(out, r);
                        return;
                    }
                    (out, vec![updated])
                }
                _ => return,
            };
            let fits = |&v: &ValueNo| {
                let r = root(&self.aliases, v);
                let same = |v: ValueNo| values[v].ty == values[out].ty;
                spans.get(&r).is_some_and(|s| s.1 == i && s.0 < i)
                    && matches!(values[v].place, Place::Arena(_))
                    && read.iter().all(|&w| root(&self.aliases, w) != r || same(w))
            };
            if let Some(&v) = read.iter().find(|v| fits(v)) {
                let r = root(&self.aliases, v);
                let last = spans.remove(&out).map_or(i, |s| s.1);
                order.retain(|&o| o != out);
                spans.entry(r).and_modify(|s| s.1 = last);
                self.aliases.insert(out, r);
            }
        });
        let size = |v: ValueNo| match values[v].ty.to_type() {
            Some(Type::Tensor(t)) => t.elements().and_then(|n| t.dtype.byte_len(n)),
            _ => None,
        };
        let too_large = |message: String| CompileError {
            function: self.name.into(),
            op: None,
            message,
            hint: None,
            cause: CompileFault::Memory,
        };
        let unfit = || too_large("its intermediate results do not fit in memory".into());
        let mut buffers = Vec::with_capacity(order.len());
        for &v in &order {
            let (first, last) = spans[&v];
            buffers.push(Buffer { size: size(v).ok_or_else(unfit)? as u64, first, last });
        }
        let mut at = at.into_iter();
        each(&self.graph.body, &mut |step| {
            let i = at.next().expect("every step has a number");
            if step.scratch.1 > 0 {
                buffers.push(Buffer { size: step.scratch.1, first: i, last: i });
            }
        });
        let (offsets, arena) = memory::place(&buffers).ok_or_else(unfit)?;
        let limit = self.folding.0.memory;
        // Outputs are copied out of the arena.
        let copied = outputs.iter().filter(|&&v| matches!(values[v].place, Place::Arena(_)));
        let needed = copied.filter_map(|&v| size(v)).fold(arena, |sum, n| sum.saturating_add(n as u64));
        if needed > limit {
            let largest = order.iter().zip(&buffers).max_by_key(|(_, b)| b.size).map(|(v, _)| *v);
            let made = self.ids.iter().find(|(_, id)| Some(**id) == largest);
            let op = made.and_then(|(&v, _)| self.f.defining_op(v));
            let message = format!("with all that is kept beside it, {}", exceeds(needed, 0, limit));
            let op = op.map(|op| (self.f[op].kind, op_name(self.f, op)));
            return Err(CompileError { op, ..too_large(message) });
        }
        self.graph.arena = arena;
        for (&v, &offset) in order.iter().zip(&offsets) {
            values[v].place = Place::Arena(offset);
        }
        let mut scratch = offsets[order.len()..].iter();
        each_mut(&mut self.graph.body, &mut |step| {
            if step.scratch.1 > 0 {
                step.scratch.0 = *scratch.next().expect("every scratch buffer has an offset");
            }
        });
        for &v in self.aliases.keys() {
            if !matches!(values[v].place, Place::Fused) {
                values[v].place = values[root(&self.aliases, v)].place;
            }
        }
        Ok(())
    }

    /// Refuses a value that is larger than the whole memory limit, before anything of its size is allocated.
    fn check_size(&self, v: ValueId) -> Result<(), KernelError> {
        let ty = match self.facts.ty(self.f, v) {
            Type::Tensor(t) => t,
            Type::State(t) => match &**t {
                Type::Tensor(t) => t,
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        if ty.dtype == DType::String || ty.fixed_shape().is_none() {
            return Ok(());
        }
        let limit = self.folding.0.memory;
        match ty.elements().and_then(|n| ty.dtype.byte_len(n)) {
            Some(bytes) if bytes as u64 > limit => Err(exceeds(bytes as u64, 0, limit)),
            Some(_) => Ok(()),
            None => Err(KernelError::Memory(format!("a value of type {ty} is too large"))),
        }
    }

    fn error(&self, op: OpId, e: KernelError) -> CompileError {
        let hint = match e {
            KernelError::Unsupported(_) => Some("run the model on another backend, or replace this op"),
            _ => None,
        };
        let op = Some((self.f[op].kind, op_name(self.f, op)));
        let cause = match e {
            KernelError::Unsupported(_) => CompileFault::Unsupported,
            KernelError::Memory(_) => CompileFault::Memory,
            _ => CompileFault::Shapes,
        };
        CompileError { function: self.name.into(), op, message: e.to_string(), hint, cause }
    }
}

impl Work {
    /// Every value that the step reads or writes, including those in nested blocks.
    pub(crate) fn values(&self) -> Vec<ValueNo> {
        fn node(n: &Node, all: &mut Vec<ValueNo>) {
            all.extend(n.args.iter().flat_map(|(_, a)| a).chain(&n.outputs));
            all.extend(n.widened.iter().map(|(_, v)| v));
        }
        fn block(b: &Block, all: &mut Vec<ValueNo>) {
            all.extend(b.inputs.iter().chain(&b.outputs));
            b.steps.iter().for_each(|s| work(&s.work, all));
        }
        fn work(w: &Work, all: &mut Vec<ValueNo>) {
            match w {
                Work::Op { op, epilogue } => {
                    node(op, all);
                    epilogue.iter().for_each(|n| node(n, all));
                }
                Work::Chain(nodes) => nodes.iter().for_each(|n| node(n, all)),
                Work::Late(n) => node(n, all),
                Work::Cond { pred, branches, outputs } => {
                    all.push(*pred);
                    branches.iter().for_each(|b| block(b, all));
                    all.extend(outputs);
                }
                Work::While { init, cond, body, outputs } => {
                    all.extend(init.iter().chain(outputs));
                    block(cond, all);
                    block(body, all);
                }
                Work::ReadState { state, output } => all.extend([*state, *output]),
                Work::WriteState { state, value } => all.extend([*state, *value]),
            }
        }
        let mut all = Vec::new();
        work(self, &mut all);
        all
    }
}

/// The name of an op: its `name` attribute, or that of its first result.
fn op_name(f: &Function, op: OpId) -> String {
    match (f[op].name(), f[op].outputs.first()) {
        ("", Some(&v)) => f[v].name.clone(),
        (name, _) => name.into(),
    }
}
