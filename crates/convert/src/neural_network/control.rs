//! Control flow: lowers lists of layers, branches and loops.

use std::collections::{BTreeSet, HashSet};

use milwright_formats::proto::neural_network_layer::Layer;
use milwright_formats::proto::{
    BranchLayerParams, CustomLayerParams, LoopLayerParams, NeuralNetwork, NeuralNetworkLayer,
};
use milwright_mil::{BlockId, DType, Dim, Input, OpKind, TensorType, Type, ValueId, param};

use super::net::Net;
use super::table;
use crate::Error;
use crate::lower::{Mark, Result, op, take, tensor_of};

/// The most layers that are lowered. The layers of a loop's body count in every attempt, so nested loops multiply.
const MAX_LOWERED: usize = 1 << 18;
/// Names, which no network can use, for whether this iteration of the loop was left, and for whether the loop was.
const TURN_LEFT: &str = "\0turn left";
const LOOP_LEFT: &str = "\0loop left";
/// Conditions treat magnitudes up to this as zero.
const NEARLY_ZERO: f32 = 1e-6;

impl Net {
    /// Lowers layers one by one. Records layers that cannot be lowered, and skips those that need their results.
    pub fn lower(&mut self, layers: &[NeuralNetworkLayer]) {
        for (i, layer) in layers.iter().enumerate() {
            if layer.input.iter().any(|name| self.faulty.contains(name)) {
                self.faulty.extend(layer.output.iter().cloned());
            } else if let Err(error) = self.lower_layer(layer) {
                self.faulty.extend(layer.output.iter().cloned());
                self.faults.add(error.at(format!("layer `{}` ({})", layer.name, table::kind(layer))));
            }
            if may_leave(layer) {
                self.lower_unless_left(&layers[i + 1..]);
                return;
            }
        }
    }

    /// Lowers the layers after a layer that may leave the loop's iteration.
    fn lower_unless_left(&mut self, layers: &[NeuralNetworkLayer]) {
        let Some(&left) = self.scope.get(TURN_LEFT) else { return };
        let lowered = self.condition(left).and_then(|left| choose(self, left, [&[], layers]));
        if let Err(error) = lowered {
            self.faults.add(error);
        }
    }

    /// Returns one error for all layers that could not be lowered.
    pub fn check(&mut self) -> Result<()> {
        self.faults.check("layers")
    }

    fn lower_layer(&mut self, layer: &NeuralNetworkLayer) -> Result<()> {
        self.lowered += 1;
        if self.lowered > MAX_LOWERED {
            return Err(Error::unsupported("loops are nested too deep, or there are too many layers"));
        }
        let undefined = |name: &String| Error::malformed(format!("its input `{name}` is not defined before"));
        let resolve = |name: &String| self.scope.get(name).copied().ok_or_else(|| undefined(name));
        let inputs = layer.input.iter().map(resolve).collect::<Result<Vec<_>>>()?;
        let params = layer.layer.as_ref().ok_or_else(|| Error::unsupported("its kind is not known"))?;
        self.label = layer.output.first().unwrap_or(&layer.name).clone();
        self.outputs = layer.output.len();
        let results = table::lower(self, params, &inputs)?;
        if results.len() < layer.output.len() {
            let (found, wanted) = (results.len(), layer.output.len());
            return Err(Error::malformed(format!("has {wanted} outputs, where there are {found}")));
        }
        if self.checks_shapes {
            self.check_shapes(layer, &results)?;
        }
        for (name, value) in layer.output.iter().zip(results) {
            self.faulty.remove(name);
            let value = self.vector(value)?;
            self.scope.define(name, value);
        }
        Ok(())
    }

    /// Checks that results have the shapes that the layer says they have; unknown sizes match any.
    fn check_shapes(&self, layer: &NeuralNetworkLayer, results: &[ValueId]) -> Result<()> {
        for (declared, &value) in layer.output_tensor.iter().zip(results) {
            let found = &self.ty(value)?.shape;
            let same = |(dim, &size): (&Dim, &i64)| dim.fixed().is_none_or(|n| i64::try_from(n) == Ok(size));
            if found.len() != declared.dim_value.len() || !found.iter().zip(&declared.dim_value).all(same) {
                return Err(Error::unsupported(format!(
                    "it is understood as giving the type {}, where the model says that the shape is {:?}",
                    self.ty(value)?,
                    declared.dim_value
                )));
            }
        }
        Ok(())
    }

    /// Converts a value to one bool, with the network's idea of truth.
    fn condition(&mut self, value: ValueId) -> Result<ValueId> {
        let value = self.scalar(value)?;
        if self.ty(value)?.dtype == DType::Bool {
            return Ok(value);
        }
        let value = self.float_of(value)?;
        let size = op!(self, Abs, x = value)?;
        op!(self, Greater, x = size, y = NEARLY_ZERO)
    }
}

pub(super) fn copy(x: &[ValueId]) -> Result<ValueId> {
    take(x).map(|[x]| x)
}

pub(super) fn branch(n: &mut Net, x: &[ValueId], p: &BranchLayerParams) -> Result<Vec<ValueId>> {
    let [condition] = take(x)?;
    let condition = n.condition(condition)?;
    fn layers(network: &Option<NeuralNetwork>) -> &[NeuralNetworkLayer] {
        network.as_ref().map_or(&[], |n| &n.layers)
    }
    choose(n, condition, [layers(&p.if_branch), layers(&p.else_branch)])?;
    Ok(Vec::new())
}

/// Runs the first layers if a bool is true, else the second layers.
fn choose(n: &mut Net, condition: ValueId, branches: [&[NeuralNetworkLayer]; 2]) -> Result<()> {
    let label = n.label.clone();
    let mut blocks = Vec::with_capacity(2);
    for layers in branches {
        let mark = n.scope.mark();
        let (block, outer) = n.builder.enter();
        n.lower(layers);
        // Converts in the block that defines the values.
        let floats = floats_since(n, mark);
        let mut given = n.scope.undo(mark);
        n.builder.leave(outer, Vec::new());
        given.extend(floats?);
        blocks.push((block, given));
    }
    n.label = label;
    // Names are visible afterwards only if they have a value whichever branch runs.
    let mut names = Vec::new();
    let mut outputs: [Vec<ValueId>; 2] = Default::default();
    let all: Vec<String> = blocks[0].1.keys().chain(blocks[1].1.keys()).cloned().collect();
    let mut seen = HashSet::new();
    for name in all {
        if !seen.insert(name.clone()) {
            continue;
        }
        let mut values = Vec::with_capacity(2);
        for (_, given) in &blocks {
            match given.get(&name).or_else(|| n.scope.get(&name)).copied() {
                Some(value) => values.push(n.float_of(value)?),
                None => break,
            }
        }
        if let [a, b] = values[..] {
            outputs[0].push(a);
            outputs[1].push(b);
            names.push(name);
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let blocks: Vec<BlockId> = blocks.into_iter().map(|(block, _)| block).collect();
    for (&block, outputs) in blocks.iter().zip(outputs) {
        n.builder.set_outputs(block, outputs);
    }
    let inputs = vec![Input::value(param!(Cond.pred), condition)];
    let results = n.ops_with_blocks(OpKind::Cond, inputs, blocks)?;
    names.iter().zip(results).for_each(|(name, value)| n.scope.define(name, value));
    Ok(())
}

/// Returns the definitions since a point of the journal, as floats.
fn floats_since(n: &mut Net, mark: Mark) -> Result<Vec<(String, ValueId)>> {
    let names: BTreeSet<String> = n.scope.defined_since(mark).map(str::to_owned).collect();
    let mut floats = Vec::with_capacity(names.len());
    for name in names {
        if let Some(&value) = n.scope.get(&name) {
            floats.push((name, n.float_of(value)?));
        }
    }
    Ok(floats)
}

pub(super) fn repeat(n: &mut Net, x: &[ValueId], p: &LoopLayerParams) -> Result<Vec<ValueId>> {
    let label = n.label.clone();
    let body = p.body_network.as_ref().ok_or_else(|| Error::malformed("the loop has no body"))?;
    let tested = condition_network(p);
    let limit = match x {
        [] if tested.is_some() && p.max_loop_iterations == 0 => None,
        [] => Some(n.int_vector(&[i32::try_from(p.max_loop_iterations).unwrap_or(i32::MAX)])),
        [limit] => Some(n.int_of(*limit)?),
        _ => return Err(Error::malformed(format!("takes at most one input, not {}", x.len()))),
    };
    let limit = limit.map(|limit| n.scalar(limit)).transpose()?;
    let faults = n.faults.count();
    let leaves = body.layers.iter().any(may_leave);
    let outside = [TURN_LEFT, LOOP_LEFT].map(|name| n.scope.get(name).copied());
    if leaves {
        let not_left = n.constant(tensor_of(&[1], vec![0f32])?);
        n.scope.define(LOOP_LEFT, not_left);
    }
    // The condition is computed before the first iteration and at the end of each.
    if let Some(condition) = tested {
        n.lower(&condition.layers);
    }
    let mut written = HashSet::new();
    tested.into_iter().chain([body]).for_each(|network| collect_outputs(&network.layers, &mut written));
    let mut names: Vec<String> = written.into_iter().filter(|name| n.scope.contains(name)).cloned().collect();
    if leaves {
        names.push(LOOP_LEFT.to_owned());
    }
    names.sort();
    if n.faults.count() > faults {
        return Ok(Vec::new());
    }
    n.label = label;
    let mut first = Vec::with_capacity(names.len());
    for name in &names {
        let value = n.value_of(name)?;
        first.push(n.float_of(value)?);
    }
    let mut types = Vec::with_capacity(names.len());
    for &value in &first {
        types.push(n.ty(value)?.clone());
    }
    // Shapes may change between iterations. Sizes that do become unknown in the next attempt.
    for attempt in 0..3 {
        let (blocks, after) = loop_blocks(n, p, body, &names, &types, limit)?;
        if n.faults.count() > faults {
            return Ok(Vec::new());
        }
        let stable = types.iter().zip(&after).all(|(a, b)| a == b);
        if !stable && attempt < 2 {
            for (ty, after) in types.iter_mut().zip(&after) {
                open(ty, after, attempt == 1)?;
            }
            continue;
        }
        let name = format!("{}_turn", n.label);
        let start = n.builder.constant(&name, milwright_mil::Value::int(0));
        let inputs = vec![Input::values(param!(WhileLoop.loop_vars), [start].into_iter().chain(first))];
        let results = n.ops_with_blocks(OpKind::WhileLoop, inputs, blocks)?;
        names.iter().zip(&results[1..]).for_each(|(name, &value)| n.scope.define(name, value));
        break;
    }
    // An enclosing loop has its own values for these names.
    for (name, value) in [TURN_LEFT, LOOP_LEFT].into_iter().zip(outside) {
        if let Some(value) = value {
            n.scope.define(name, value);
        }
    }
    Ok(Vec::new())
}

/// Returns the network that computes the condition. One that is empty and does not name its result counts as none.
fn condition_network(p: &LoopLayerParams) -> Option<&NeuralNetwork> {
    p.condition_network.as_ref().filter(|network| !network.layers.is_empty() || !p.condition_var.is_empty())
}

/// Lowers the condition and the body of a loop, whose variables are a counter and `names`. Also returns the types of
/// the variables after an iteration.
fn loop_blocks(
    n: &mut Net,
    p: &LoopLayerParams,
    body: &NeuralNetwork,
    names: &[String],
    types: &[TensorType],
    limit: Option<ValueId>,
) -> Result<(Vec<BlockId>, Vec<TensorType>)> {
    let (label, tested) = (n.label.clone(), condition_network(p));
    let (test, outer) = n.builder.enter();
    let turn = n.builder.block_input(&format!("{label}_turn"), Type::scalar(DType::Int32));
    let mut goes_on = match limit {
        Some(limit) => Some(op!(n, Less, x = turn, y = limit)?),
        None => None,
    };
    for (name, ty) in names.iter().zip(types) {
        let value = n.builder.block_input(name, ty.clone().into());
        if name == LOOP_LEFT {
            let left = n.condition(value)?;
            let stays = op!(n, LogicalNot, x = left)?;
            goes_on = Some(match goes_on {
                Some(other) => op!(n, LogicalAnd, x = stays, y = other)?,
                None => stays,
            });
        }
        if tested.is_some() && *name == p.condition_var {
            let condition = n.condition(value)?;
            goes_on = Some(match goes_on {
                Some(other) => op!(n, LogicalAnd, x = condition, y = other)?,
                None => condition,
            });
        }
    }
    n.builder.leave(outer, goes_on.into_iter().collect());
    if goes_on.is_none() || (tested.is_some() && !names.contains(&p.condition_var)) {
        return Err(Error::malformed(format!("its condition `{}` is not computed", p.condition_var)));
    }

    let mark = n.scope.mark();
    let (block, outer) = n.builder.enter();
    let turn = n.builder.block_input(&format!("{label}_turn"), Type::scalar(DType::Int32));
    for (name, ty) in names.iter().zip(types) {
        let value = n.builder.block_input(name, ty.clone().into());
        n.scope.define(name, value);
    }
    if names.iter().any(|name| name == LOOP_LEFT) {
        let not_left = n.constant(tensor_of(&[1], vec![0f32])?);
        n.scope.define(TURN_LEFT, not_left);
    }
    n.lower(&body.layers);
    if let Some(condition) = tested {
        n.lower(&condition.layers);
    }
    n.label = label;
    let mut outputs = vec![op!(n, Add, x = turn, y = 1)?];
    let mut after = Vec::with_capacity(names.len());
    for name in names {
        let value = n.value_of(name)?;
        let value = n.float_of(value)?;
        after.push(n.ty(value)?.clone());
        outputs.push(value);
    }
    n.scope.undo(mark);
    n.builder.leave(outer, outputs);
    Ok((vec![test, block], after))
}

/// Makes sizes unknown that differ after an iteration, or all sizes.
fn open(ty: &mut TensorType, after: &TensorType, all: bool) -> Result<()> {
    if ty.rank() != after.rank() {
        let (a, b) = (ty.rank(), after.rank());
        return Err(Error::unsupported(format!("a tensor of rank {a} has rank {b} after an iteration")));
    }
    for (size, after) in ty.shape.iter_mut().zip(&after.shape) {
        if all || size != after {
            *size = Dim::Unknown;
        }
    }
    Ok(())
}

/// Collects every name that layers, or layers of networks inside them, define. The decoder limits how deep they nest.
fn collect_outputs<'a>(layers: &'a [NeuralNetworkLayer], names: &mut HashSet<&'a String>) {
    for layer in layers {
        names.extend(&layer.output);
        let nested = match &layer.layer {
            Some(Layer::Branch(p)) => [&p.if_branch, &p.else_branch],
            Some(Layer::Loop(p)) => [&p.condition_network, &p.body_network],
            _ => continue,
        };
        nested.into_iter().flatten().for_each(|network| collect_outputs(&network.layers, names));
    }
}

/// Leaves the iteration, or the loop.
pub(super) fn leave(n: &mut Net, whole_loop: bool) -> Result<Vec<ValueId>> {
    if !n.scope.contains(TURN_LEFT) {
        return Err(Error::malformed("there is no loop around it"));
    }
    let left = n.constant(tensor_of(&[1], vec![1f32])?);
    n.scope.define(TURN_LEFT, left);
    if whole_loop {
        n.scope.define(LOOP_LEFT, left);
    }
    Ok(Vec::new())
}

/// Whether a layer may leave the iteration of its loop. The decoder limits how deep networks nest.
fn may_leave(layer: &NeuralNetworkLayer) -> bool {
    match &layer.layer {
        Some(Layer::LoopBreak(_) | Layer::LoopContinue(_)) => true,
        Some(Layer::Branch(p)) => {
            [&p.if_branch, &p.else_branch].into_iter().flatten().any(|n| n.layers.iter().any(may_leave))
        }
        _ => false,
    }
}

pub(super) fn custom(_: &mut Net, _: &[ValueId], p: &CustomLayerParams) -> Result<ValueId> {
    let message = format!("a custom layer of the class `{}`", p.class_name);
    Err(Error::unsupported(message).with_hint(
        "a custom layer is code of the app that the model was made for: convert the model without it",
    ))
}
