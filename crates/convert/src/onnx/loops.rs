//! `Loop` and `Scan`.
//!
//! A loop whose number of iterations is known and small is unrolled: its shapes may then change from iteration to iteration, and what
//! it computes from the iteration's number is folded. Others become a `while_loop`, whose variables are the number of the
//! iteration, the condition if it can change, the carried tensors, and a list for each scan output.

use milwright_formats::onnx::proto::GraphProto;
use milwright_mil::{BlockId, DType, Dim, Input, OpKind, Tensor, TensorType, Type, Value, ValueId, param};

use super::control::{open, subgraph};
use super::elem::Elem;
use super::graph::Importer;
use super::item::{Item, Val};
use super::node::Node;
use crate::Error;
use crate::lower::{Result, Size, op};

/// The most nodes that unrolling a loop may make, if it does not have to be unrolled.
const MAX_UNROLLED: usize = 2000;
/// The most nodes that unrolling a loop may make that carries sequences, which only unrolling resolves.
const MAX_FORCED: usize = 1 << 15;

/// What one iteration gives.
struct Iteration {
    /// Whether another iteration follows; `None` if that depends on the number of iterations only.
    goes_on: Option<Val>,
    state: Vec<Item>,
    scans: Vec<Val>,
}

/// What a loop repeats.
type Body<'b, 'm> = dyn FnMut(&mut Importer<'m>, ValueId, ValueId, Vec<Item>) -> Result<Iteration> + 'b;

/// `Loop`.
pub(super) fn repeat<'m>(n: &mut Node<'_, 'm>) -> Result<Vec<Item>> {
    let graph = n.graph("body")?;
    let limit =
        if n.has(0) { n.known_ints(0).map(|v| v.first().copied().unwrap_or(0)) } else { Some(i64::MAX) };
    let condition =
        if n.has(1) { n.known(1).map(|t| t.to_f64().first().is_some_and(|&x| x != 0.0)) } else { Some(true) };
    let state = n.inputs.get(2..).unwrap_or_default().iter().cloned().collect::<Option<Vec<Item>>>();
    let state = state.ok_or_else(|| Error::malformed("one of its inputs is left out"))?;
    if graph.output.len() <= state.len() {
        return Err(Error::malformed("its body has too few outputs"));
    }
    let carried = state.len();
    let mut body = |importer: &mut Importer<'m>, iteration: ValueId, condition: ValueId, state: Vec<Item>| {
        let iteration = Item::Tensor(Val::new(Elem::Int64, iteration));
        let condition = Item::Tensor(Val::new(Elem::Bool, condition));
        let inputs = [iteration, condition].into_iter().chain(state).collect();
        let mut results = subgraph(importer, graph, inputs)?.into_iter();
        let goes_on = results.next().ok_or_else(|| Error::malformed("its body has no outputs"))?;
        let goes_on = Some(tensor(&goes_on)?);
        let state: Vec<Item> = results.by_ref().take(carried).collect();
        let scans = results.map(|item| tensor(&item)).collect::<Result<Vec<Val>>>()?;
        Ok(Iteration { goes_on, state, scans })
    };
    if condition == Some(false) || limit.is_some_and(|l| l <= 0) {
        return no_turns(n, &mut body, state);
    }
    if condition == Some(true)
        && let Some(limit) = limit.filter(|&l| l < i64::MAX)
        && let Some(unrolled) = unrolled(n, &mut body, size_of(graph), limit, &state)?
    {
        return finished(n, unrolled);
    }
    let limit = match limit {
        Some(i64::MAX) => None,
        Some(known) => Some(n.constant(Tensor::scalar(i32::try_from(known).unwrap_or(i32::MAX)))),
        None => {
            let limit = n.value(0)?;
            Some(n.scalar(limit)?)
        }
    };
    let condition = match condition {
        Some(_) => None,
        None => {
            let condition = n.value(1)?;
            let condition = n.bool_of(condition)?;
            Some(n.scalar(condition)?)
        }
    };
    let iteration = while_loop(n, &mut body, limit, condition, state)?;
    Ok(iteration.state.into_iter().chain(iteration.scans.into_iter().map(Item::Tensor)).collect())
}

fn tensor(item: &Item) -> Result<Val> {
    match item {
        Item::Tensor(val) => Ok(val.clone()),
        _ => Err(Error::unsupported("a loop collects something else than tensors")),
    }
}

/// The results of a loop that was unrolled: the state, and the scan outputs stacked.
fn finished(importer: &mut Importer<'_>, unrolled: Unrolled) -> Result<Vec<Item>> {
    let mut results = unrolled.state;
    for scan in unrolled.scans {
        results.push(Item::Tensor(stacked(importer, &scan)?));
    }
    Ok(results)
}

/// Stacks the tensors of all iterations along a new first dimension.
fn stacked(importer: &mut Importer<'_>, vals: &[Val]) -> Result<Val> {
    let first = vals.first().ok_or_else(|| Error::malformed("there is nothing to stack"))?;
    let mut parts = Vec::with_capacity(vals.len());
    for val in vals {
        let value = importer.value_of(val)?;
        parts.push(op!(importer, ExpandDims, x = value, axes = &[0][..])?);
    }
    let value = match parts[..] {
        [only] => only,
        _ => op!(importer, Concat, values = parts, axis = 0)?,
    };
    Ok(Val::new(first.elem, value))
}

/// A loop without iterations: the state stays, and the scan outputs have no elements.
fn no_turns<'m>(importer: &mut Importer<'m>, body: &mut Body<'_, 'm>, state: Vec<Item>) -> Result<Vec<Item>> {
    // An iteration that is thrown away tells the types.
    let (_, outer) = importer.builder.enter();
    let iteration = importer.constant(Tensor::scalar(0i32));
    let condition = importer.constant(bool_of(true));
    let probe = body(importer, iteration, condition, state.clone());
    let types = probe.and_then(|probe| {
        let types = probe.scans.iter().map(|val| {
            let value = importer.value_of(val)?;
            Ok((val.elem, importer.ty(value)?.clone()))
        });
        types.collect::<Result<Vec<_>>>()
    });
    importer.builder.leave(outer, Vec::new());
    let mut results = state;
    for (elem, ty) in types? {
        // A size that only an iteration would know is that of nothing.
        let sizes = ty.shape.iter().map(|d| Size::Fixed(d.fixed().unwrap_or(0)));
        let sizes: Vec<Size> = [Size::Fixed(0)].into_iter().chain(sizes).collect();
        let shape = importer.shape(&sizes)?;
        results.push(Item::Tensor(Val::new(elem, importer.filled(shape, ty.dtype, 0.0)?)));
    }
    Ok(results)
}

fn bool_of(is: bool) -> Tensor {
    Tensor::from_bools(&[], &[is]).expect("one element fits a scalar")
}

/// The results of all iterations.
struct Unrolled {
    state: Vec<Item>,
    /// For each scan output, the tensors of all iterations.
    scans: Vec<Vec<Val>>,
}

/// Unrolls a loop, if that is allowed and its condition is known in every iteration.
fn unrolled<'m>(
    importer: &mut Importer<'m>,
    body: &mut Body<'_, 'm>,
    cost: usize,
    limit: i64,
    state: &[Item],
) -> Result<Option<Unrolled>> {
    let limit = usize::try_from(limit).unwrap_or(0);
    let must = state.iter().any(|item| !matches!(item, Item::Tensor(_)));
    let most = if must { MAX_FORCED } else { MAX_UNROLLED };
    if limit.saturating_mul(cost.max(1)) > most {
        return Ok(None);
    }
    // Whether the condition is known is seen in a first iteration that is thrown away.
    let (_, outer) = importer.builder.enter();
    let known = iteration_of(importer, body, 0, state.to_vec())
        .map(|iteration| known_condition(importer, &iteration).is_some());
    importer.builder.leave(outer, Vec::new());
    if !known? {
        return Ok(None);
    }
    let mut state = state.to_vec();
    let mut scans: Vec<Vec<Val>> = Vec::new();
    for i in 0..limit {
        let iteration = iteration_of(importer, body, i, state)?;
        let goes_on = known_condition(importer, &iteration);
        if scans.is_empty() {
            scans = iteration.scans.iter().map(|_| Vec::new()).collect();
        }
        scans.iter_mut().zip(iteration.scans).for_each(|(all, val)| all.push(val));
        state = iteration.state;
        match goes_on {
            Some(true) => {}
            Some(false) => break,
            None => return Ok(None),
        }
    }
    Ok(Some(Unrolled { state, scans }))
}

fn iteration_of<'m>(
    importer: &mut Importer<'m>,
    body: &mut Body<'_, 'm>,
    i: usize,
    state: Vec<Item>,
) -> Result<Iteration> {
    let number = i32::try_from(i).map_err(|_| Error::unsupported("a loop of too many iterations"))?;
    let iteration = importer.constant(Tensor::scalar(number));
    let condition = importer.constant(bool_of(true));
    body(importer, iteration, condition, state)
}

/// Whether the loop goes on after an iteration, if that is known.
fn known_condition(importer: &Importer<'_>, iteration: &Iteration) -> Option<bool> {
    match &iteration.goes_on {
        None => Some(true),
        Some(val) => importer.known_of(val)?.to_f64().first().map(|&x| x != 0.0),
    }
}

/// The number of nodes of a graph, with those of graphs inside. The decoder limits how deep they nest.
fn size_of(graph: &GraphProto) -> usize {
    let inner = |a: &milwright_formats::onnx::proto::AttributeProto| a.g.as_deref().map_or(0, size_of);
    graph.node.iter().map(|node| 1 + node.attribute.iter().map(inner).sum::<usize>()).sum()
}

/// The blocks of one attempt at a `while_loop`, and what its body gives.
struct Attempt {
    blocks: Vec<BlockId>,
    /// The types of the carried tensors after an iteration.
    after: Vec<TensorType>,
    scans: Vec<(Elem, TensorType)>,
    /// Whether the condition is true after every iteration.
    always: bool,
}

/// The variables of a `while_loop`.
struct Variables {
    limit: Option<ValueId>,
    has_condition: bool,
    elems: Vec<Elem>,
    types: Vec<TensorType>,
    /// The types of the scan outputs, once they are known.
    scans: Option<Vec<(Elem, TensorType)>>,
}

fn while_loop<'m>(
    importer: &mut Importer<'m>,
    body: &mut Body<'_, 'm>,
    limit: Option<ValueId>,
    condition: Option<ValueId>,
    state: Vec<Item>,
) -> Result<Iteration> {
    let label = importer.label.clone();
    let mut first = Vec::with_capacity(state.len());
    let mut variables =
        Variables { limit, has_condition: true, elems: Vec::new(), types: Vec::new(), scans: None };
    for item in &state {
        let Item::Tensor(val) = item else {
            return Err(Error::unsupported(
                "it carries a sequence or an optional through a number of iterations that is not known, or is large",
            )
            .with_hint("freeze the input that the number of iterations depends on, with `--freeze NAME=FILE`"));
        };
        let value = importer.value_of(val)?;
        first.push(value);
        variables.elems.push(val.elem);
        variables.types.push(importer.ty(value)?.clone());
    }
    // The first attempt finds the types of scan outputs, and whether the condition ever changes. Shapes may change
    // between iterations: sizes that do become unknown in the next attempt.
    for attempt in 0..4 {
        let made = blocks(importer, body, &variables, &label)?;
        let stable = variables.types.iter().zip(&made.after).all(|(a, b)| a == b);
        let drops_condition = variables.has_condition && made.always && condition.is_none();
        let knows_scans = variables.scans.as_ref().is_some_and(|known| *known == made.scans);
        if attempt < 3 && (!stable || drops_condition || !knows_scans) {
            if drops_condition && limit.is_none() {
                return Err(Error::malformed(
                    "the loop never ends: it has no number of iterations, and its condition is always true",
                ));
            }
            variables.has_condition &= !drops_condition;
            if !stable {
                for (ty, after) in variables.types.iter_mut().zip(&made.after) {
                    open(ty, after, attempt == 2)?;
                }
            }
            variables.scans = Some(made.scans);
            continue;
        }
        return run(importer, variables, condition, first, made, &label);
    }
    unreachable!("the last attempt is taken")
}

/// Lowers the test and the body of a loop.
fn blocks<'m>(
    importer: &mut Importer<'m>,
    body: &mut Body<'_, 'm>,
    variables: &Variables,
    label: &str,
) -> Result<Attempt> {
    let (test, outer) = importer.builder.enter();
    let made = test_block(importer, variables, label);
    importer.builder.leave(outer, made?.into_iter().collect());
    let (block, outer) = importer.builder.enter();
    let made = body_block(importer, body, variables, label);
    match made {
        Ok((outputs, after, scans, always)) => {
            importer.builder.leave(outer, outputs);
            Ok(Attempt { blocks: vec![test, block], after, scans, always })
        }
        Err(error) => {
            importer.builder.leave(outer, Vec::new());
            Err(error)
        }
    }
}

/// The inputs of a block of the loop: the number of the iteration, the condition, the carried tensors and the lists.
fn block_inputs(
    importer: &mut Importer<'_>,
    variables: &Variables,
    label: &str,
) -> (ValueId, Option<ValueId>, Vec<ValueId>, Vec<ValueId>) {
    let iteration = importer.builder.block_input(&format!("{label}_iteration"), Type::scalar(DType::Int32));
    let condition = variables
        .has_condition
        .then(|| importer.builder.block_input(&format!("{label}_goes_on"), Type::scalar(DType::Bool)));
    let state =
        variables.types.iter().map(|ty| importer.builder.block_input(label, ty.clone().into())).collect();
    let scans = variables.scans.iter().flatten();
    let lists = scans
        .map(|(_, ty)| {
            let ty = Type::List(Box::new(element(ty).into()), Dim::Unknown);
            importer.builder.block_input(&format!("{label}_list"), ty)
        })
        .collect();
    (iteration, condition, state, lists)
}

fn test_block(importer: &mut Importer<'_>, variables: &Variables, label: &str) -> Result<Option<ValueId>> {
    let (iteration, condition, _, _) = block_inputs(importer, variables, label);
    let in_limit = match variables.limit {
        Some(limit) => Some(op!(importer, Less, x = iteration, y = limit)?),
        None => None,
    };
    Ok(match (in_limit, condition) {
        (Some(a), Some(b)) => Some(op!(importer, LogicalAnd, x = a, y = b)?),
        (Some(a), None) => Some(a),
        // An output may not be an input of its own block.
        (None, Some(b)) => Some(op!(importer, Identity, x = b)?),
        (None, None) => None,
    })
}

type Outputs = (Vec<ValueId>, Vec<TensorType>, Vec<(Elem, TensorType)>, bool);

fn body_block<'m>(
    importer: &mut Importer<'m>,
    body: &mut Body<'_, 'm>,
    variables: &Variables,
    label: &str,
) -> Result<Outputs> {
    let (iteration, condition, state, lists) = block_inputs(importer, variables, label);
    let inner = match condition {
        Some(condition) => condition,
        None => importer.constant(bool_of(true)),
    };
    let items =
        variables.elems.iter().zip(&state).map(|(&elem, &v)| Item::Tensor(Val::new(elem, v))).collect();
    let made = body(importer, iteration, inner, items)?;
    label.clone_into(&mut importer.label);
    let mut outputs = vec![op!(importer, Add, x = iteration, y = 1)?];
    let mut always = true;
    if let Some(goes_on) = &made.goes_on {
        let known = known_condition(importer, &made);
        let value = importer.value_of(goes_on)?;
        always = known == Some(true) || Some(value) == condition;
        if condition.is_some() {
            let value = importer.bool_of(value)?;
            let value = importer.scalar(value)?;
            outputs.push(op!(importer, Identity, x = value)?);
        }
    } else if condition.is_some() {
        outputs.push(inner);
    }
    if made.state.len() != variables.types.len() {
        return Err(Error::malformed("its body does not give as much as it takes"));
    }
    let mut after = Vec::with_capacity(made.state.len());
    for (item, ty) in made.state.iter().zip(&variables.types) {
        let value = importer.value_of(&tensor(item)?)?;
        let mut value = importer.cast(value, ty.dtype)?;
        if state.contains(&value) || importer.builder.known(value).is_some() {
            value = op!(importer, Identity, x = value)?;
        }
        after.push(importer.ty(value)?.clone());
        outputs.push(value);
    }
    let mut scans = Vec::with_capacity(made.scans.len());
    for (i, val) in made.scans.iter().enumerate() {
        let mut value = importer.value_of(val)?;
        let ty = importer.ty(value)?.clone();
        if ty.rank() == 0 {
            // Lists hold no scalars.
            value = op!(importer, ExpandDims, x = value, axes = &[0][..])?;
        }
        scans.push((val.elem, ty));
        if let Some(&list) = lists.get(i) {
            outputs.push(op!(importer, ListWrite, ls = list, index = iteration, value = value)?);
        }
    }
    Ok((outputs, after, scans, always))
}

/// Pushes the loop, and returns its results.
fn run(
    importer: &mut Importer<'_>,
    variables: Variables,
    condition: Option<ValueId>,
    first: Vec<ValueId>,
    made: Attempt,
    label: &str,
) -> Result<Iteration> {
    label.clone_into(&mut importer.label);
    let mut vars = vec![importer.constant(Tensor::scalar(0i32))];
    if variables.has_condition {
        vars.push(match condition {
            Some(condition) => condition,
            None => importer.constant(bool_of(true)),
        });
    }
    vars.extend(&first);
    for (_, ty) in &made.scans {
        vars.push(list(importer, ty)?);
    }
    let skipped = 1 + usize::from(variables.has_condition);
    let inputs = vec![Input::values(param!(WhileLoop.loop_vars), vars)];
    let results = importer.ops_with_blocks(OpKind::WhileLoop, inputs, made.blocks)?;
    let iterations = results[0];
    let (state, lists) = results[skipped..].split_at(first.len());
    let state =
        variables.elems.iter().zip(state).map(|(&elem, &v)| Item::Tensor(Val::new(elem, v))).collect();
    let mut scans = Vec::with_capacity(lists.len());
    for ((elem, ty), &list) in made.scans.iter().zip(lists) {
        let all = op!(importer, Range1d, start = 0, end = iterations, step = 1)?;
        let mut stacked = op!(importer, ListGather, ls = list, indices = all)?;
        if ty.rank() == 0 {
            stacked = op!(importer, Squeeze, x = stacked, axes = &[1][..])?;
        }
        scans.push(Val::new(*elem, stacked));
    }
    Ok(Iteration { goes_on: None, state, scans })
}

/// The most dimensions of an element of a list.
const MAX_LIST_RANK: usize = 4;

/// What a list holds for values of a type: no scalars, but vectors of one element.
fn element(ty: &TensorType) -> TensorType {
    match ty.rank() {
        0 => TensorType::fixed(ty.dtype, &[1]),
        _ => ty.clone(),
    }
}

/// An empty list that grows.
fn list(importer: &mut Importer<'_>, ty: &TensorType) -> Result<ValueId> {
    if ty.rank() > MAX_LIST_RANK {
        return Err(Error::unsupported(format!("a loop that collects tensors of {} dimensions", ty.rank()))
            .with_hint(format!("lists hold tensors of at most {MAX_LIST_RANK} dimensions")));
    }
    let size = |(i, d): (usize, &Dim)| match d.fixed().and_then(|n| i32::try_from(n).ok()) {
        Some(n) => Value::int(n),
        None => Value::string(format!("size{i}")),
    };
    let mut shape = Input::constant(param!(MakeList.elem_shape), Value::int(0));
    shape.args = element(ty).shape.iter().enumerate().map(size).map(milwright_mil::Arg::Const).collect();
    let inputs = vec![
        Input::constant(param!(MakeList.init_length), Value::int(1)),
        Input::constant(param!(MakeList.dynamic_length), Value::bool(true)),
        shape,
        Input::constant(param!(MakeList.dtype), Value::string(ty.dtype.name())),
    ];
    importer.op(OpKind::MakeList, inputs)
}

/// A step: of the number of the iteration and what is carried, what is carried on and what is stacked.
pub(super) type Step<'s, 'm> =
    dyn FnMut(&mut Importer<'m>, ValueId, Vec<Val>) -> Result<(Vec<Val>, Vec<Val>)> + 's;

/// Repeats steps that carry tensors and each give some, which are stacked along a new first dimension. `cost` is about
/// how many nodes a step is worth, and `iterations` the number of steps, if it is known.
pub(super) fn steps<'m>(
    importer: &mut Importer<'m>,
    iterations: Option<usize>,
    length: ValueId,
    cost: usize,
    state: Vec<Val>,
    step: &mut Step<'_, 'm>,
) -> Result<(Vec<Val>, Vec<Val>)> {
    let carried = state.len();
    let mut body = |importer: &mut Importer<'m>, iteration: ValueId, _: ValueId, state: Vec<Item>| {
        let state = state.iter().map(tensor).collect::<Result<Vec<Val>>>()?;
        let (state, scans) = step(importer, iteration, state)?;
        Ok(Iteration { goes_on: None, state: state.into_iter().map(Item::Tensor).collect(), scans })
    };
    let state: Vec<Item> = state.into_iter().map(Item::Tensor).collect();
    let unrolled = match iterations.and_then(|t| i64::try_from(t).ok()).filter(|&t| t > 0) {
        Some(limit) => unrolled(importer, &mut body, cost, limit, &state)?,
        None => None,
    };
    let results = match (unrolled, iterations) {
        (Some(unrolled), _) => finished(importer, unrolled)?,
        (None, Some(0)) => no_turns(importer, &mut body, state)?,
        (None, _) => {
            let iteration = while_loop(importer, &mut body, Some(length), None, state)?;
            iteration.state.into_iter().chain(iteration.scans.into_iter().map(Item::Tensor)).collect()
        }
    };
    let mut vals = results.iter().map(tensor).collect::<Result<Vec<Val>>>()?;
    let scans = vals.split_off(carried);
    Ok((vals, scans))
}

/// `Scan`.
pub(super) fn scan<'m>(n: &mut Node<'_, 'm>) -> Result<Vec<Item>> {
    let graph = n.graph("body")?;
    let count = n.int("num_scan_inputs")?.and_then(|c| usize::try_from(c).ok());
    let count = count.ok_or_else(|| Error::malformed("its attribute `num_scan_inputs` is missing"))?;
    if n.opset < 9 {
        return batched_scan(n, graph, count);
    }
    let inputs = n.inputs.iter().cloned().collect::<Option<Vec<Item>>>();
    let inputs = inputs.ok_or_else(|| Error::malformed("one of its inputs is left out"))?;
    let numbers = |v: Option<&[i64]>| v.map(<[i64]>::to_vec).unwrap_or_default();
    let directions = Directions {
        input_axes: numbers(n.ints("scan_input_axes")?),
        input_reversed: numbers(n.ints("scan_input_directions")?),
        output_axes: numbers(n.ints("scan_output_axes")?),
        output_reversed: numbers(n.ints("scan_output_directions")?),
    };
    scanned(n, graph, inputs, count, &directions)
}

/// Along which axes a scan takes and puts, and which way.
#[derive(Default)]
struct Directions {
    input_axes: Vec<i64>,
    input_reversed: Vec<i64>,
    output_axes: Vec<i64>,
    output_reversed: Vec<i64>,
}

/// An input of a scan that is taken apart.
struct Taken {
    elem: Elem,
    value: ValueId,
    axis: usize,
    reversed: bool,
}

fn scanned<'m>(
    importer: &mut Importer<'m>,
    graph: &'m GraphProto,
    inputs: Vec<Item>,
    count: usize,
    directions: &Directions,
) -> Result<Vec<Item>> {
    let carried = inputs.len().checked_sub(count).filter(|_| count > 0);
    let carried = carried.ok_or_else(|| Error::malformed("it has too few inputs"))?;
    let at = |list: &[i64], i: usize| list.get(i).copied().unwrap_or(0);
    let mut taken = Vec::with_capacity(count);
    for (i, item) in inputs[carried..].iter().enumerate() {
        let val = tensor(item)?;
        let value = importer.value_of(&val)?;
        let axis = importer.axis(value, at(&directions.input_axes, i))?;
        taken.push(Taken { elem: val.elem, value, axis, reversed: at(&directions.input_reversed, i) == 1 });
    }
    let size = Size::Of(taken[0].value, taken[0].axis..taken[0].axis + 1);
    let iterations = importer.known_size(&size);
    let length = importer.shape(std::slice::from_ref(&size))?;
    let length = importer.scalar(length)?;
    let mut body = |importer: &mut Importer<'m>, iteration: ValueId, _: ValueId, state: Vec<Item>| {
        let mut inputs = state;
        for input in &taken {
            let mut index = iteration;
            if input.reversed {
                let last = op!(importer, Sub, x = length, y = 1)?;
                index = op!(importer, Sub, x = last, y = iteration)?;
            }
            let dtype = importer.ty(input.value)?.dtype;
            let x = importer.cast(input.value, if dtype == DType::Bool { DType::Int32 } else { dtype })?;
            let part = op!(importer, Gather, x = x, indices = index, axis = input.axis as i32)?;
            let part = importer.cast(part, dtype)?;
            inputs.push(Item::Tensor(Val::new(input.elem, part)));
        }
        let mut results = subgraph(importer, graph, inputs)?.into_iter();
        let state: Vec<Item> = results.by_ref().take(carried).collect();
        let scans = results.map(|item| tensor(&item)).collect::<Result<Vec<Val>>>()?;
        Ok(Iteration { goes_on: None, state, scans })
    };
    let state = inputs[..carried].to_vec();
    let unrolled = match iterations.and_then(|t| i64::try_from(t).ok()) {
        Some(0) => None,
        Some(limit) => unrolled(importer, &mut body, size_of(graph), limit, &state)?,
        None => None,
    };
    let mut results = match (unrolled, iterations) {
        (Some(unrolled), _) => finished(importer, unrolled)?,
        (None, Some(0)) => no_turns(importer, &mut body, state)?,
        (None, _) => {
            let iteration = while_loop(importer, &mut body, Some(length), None, state)?;
            iteration.state.into_iter().chain(iteration.scans.into_iter().map(Item::Tensor)).collect()
        }
    };
    for (i, item) in results[carried..].iter_mut().enumerate() {
        let val = tensor(item)?;
        let mut value = importer.value_of(&val)?;
        if at(&directions.output_reversed, i) == 1 {
            value = op!(importer, Reverse, x = value, axes = &[0][..])?;
        }
        let axis = importer.axis(value, at(&directions.output_axes, i))?;
        if axis != 0 {
            let rank = importer.rank(value)? as i32;
            let mut perm: Vec<i32> = (1..rank).collect();
            perm.insert(axis, 0);
            value = op!(importer, Transpose, x = value, perm = &perm[..])?;
        }
        *item = Item::Tensor(Val::new(val.elem, value));
    }
    Ok(results)
}

/// `Scan` of opset 8, whose inputs have a batch dimension first: each batch element is scanned on its own.
fn batched_scan<'m>(n: &mut Node<'_, 'm>, graph: &'m GraphProto, count: usize) -> Result<Vec<Item>> {
    if n.has(0) {
        return Err(Error::unsupported("it scans sequences of different lengths")
            .with_hint("export the model for opset 9 or later"));
    }
    let reversed = n.ints("directions")?.map(<[i64]>::to_vec).unwrap_or_default();
    let inputs = n.inputs.get(1..).unwrap_or_default().iter().cloned().collect::<Option<Vec<Item>>>();
    let inputs = inputs.ok_or_else(|| Error::malformed("one of its inputs is left out"))?;
    let directions = Directions { input_reversed: reversed, ..Directions::default() };
    let mut values = Vec::with_capacity(inputs.len());
    for item in &inputs {
        let val = tensor(item)?;
        let value = n.value_of(&val)?;
        values.push((val.elem, value));
    }
    let (_, first) = *values.first().ok_or_else(|| Error::malformed("it has no inputs"))?;
    let batch = n.size(first, 0)?;
    let mut all: Vec<Vec<Val>> = Vec::new();
    for i in 0..batch {
        let mut parts = Vec::with_capacity(values.len());
        for &(elem, value) in &values {
            let part = op!(n, Gather, x = value, indices = i as i32, axis = 0)?;
            parts.push(Item::Tensor(Val::new(elem, part)));
        }
        let results = scanned(n, graph, parts, count, &directions)?;
        if all.is_empty() {
            all = results.iter().map(|_| Vec::new()).collect();
        }
        for (all, item) in all.iter_mut().zip(&results) {
            all.push(tensor(item)?);
        }
    }
    all.iter().map(|vals| stacked(n, vals).map(Item::Tensor)).collect()
}
