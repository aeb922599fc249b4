//! Computes a `linear` of the rows of a tensor before the loop that takes one row in each iteration.
//!
//! ```text
//!                                         all = linear(x = x, weight = w, bias = b)
//! while_loop (i from 0 to n):             while_loop (i from 0 to n):
//!     row = gather(x = x, indices = i)        row = gather(x = all, indices = i)
//!     y = linear(x = row, …)                  y = reshape(x = row)
//! ```
//!
//! That is how coremltools writes recurrent layers that Core ML does not have. One product of many rows takes a fraction
//! of the time of as many products of one row. The loop must count up to a known number, which must be at least half of
//! the number of rows: the rows that no iteration takes are computed for nothing.

use super::edit::Editor;
use crate::infer::Facts;
use crate::{
    Arg, BlockId, Evaluate, Function, Input, OpId, OpKind, Tensor, TensorType, Value, ValueId, param,
};

/// The largest rank that `linear` takes.
const MAX_RANK: usize = 3;

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let loops: Vec<OpId> = e.f.walk().into_iter().filter(|&op| e.is(op, OpKind::WhileLoop)).collect();
    if loops.is_empty() {
        return;
    }
    let facts = e.facts();
    for loop_op in loops {
        let &[cond, body] = &e.f[loop_op].blocks[..] else { continue };
        let Some(iterations) = iterations(e, loop_op, cond, body) else {
            e.skip(loop_op, "the number of iterations is not known");
            continue;
        };
        for op in e.f[body].ops.clone() {
            if e.is(op, OpKind::Linear) {
                hoist(e, &facts, loop_op, body, op, iterations);
            }
        }
    }
}

/// The number of iterations of a loop that adds 1 to a variable until it reaches a constant.
fn iterations(e: &Editor<'_>, loop_op: OpId, cond: BlockId, body: BlockId) -> Option<i64> {
    let &[go] = &e.f[cond].outputs[..] else { return None };
    let less = e.producer(go, OpKind::Less)?;
    let counter = e.value(less, param!(Less.x))?;
    let end = e.number(less, param!(Less.y))?;
    let number = e.f[cond].inputs.iter().position(|&v| v == counter)?;
    let next = e.producer(*e.f[body].outputs.get(number)?, OpKind::Add)?;
    let counts = e
        .operands(next)
        .any(|(x, other)| Some(&x) == e.f[body].inputs.get(number) && e.number(next, other) == Some(1.0));
    let start = match e.f[loop_op].args(param!(WhileLoop.loop_vars)).get(number)? {
        Arg::Const(c) => c.as_tensor()?,
        Arg::Value(v) => e.f.const_value(*v)?.as_tensor()?,
    };
    let start = start.to_i64().filter(|s| s.len() == 1)?[0];
    (counts && end.fract() == 0.0 && end.abs() < 1e9).then(|| (end as i64).saturating_sub(start))
}

fn hoist(
    e: &mut Editor<'_>,
    facts: &Facts,
    loop_op: OpId,
    body: BlockId,
    op: OpId,
    iterations: i64,
) -> Option<()> {
    // From the linear's input back to the row.
    let input = e.value(op, param!(Linear.x))?;
    let mut row = input;
    let gather = loop {
        if let Some(gather) = e.producer(row, OpKind::Gather) {
            break gather;
        }
        let shaped = [OpKind::Squeeze, OpKind::ExpandDims, OpKind::Reshape];
        let shape = shaped.into_iter().find_map(|kind| e.producer(row, kind))?;
        row = e.value(shape, "x")?;
    };
    if e.block_of(gather) != Some(body) {
        return None;
    }
    let x = e.value(gather, param!(Gather.x))?;
    if is_inside(e.f, body, x) {
        return None;
    }
    let fixed = |v: ValueId| facts.ty(e.f, v).as_tensor().and_then(TensorType::fixed_shape);
    let (rows, taken) = (fixed(x)?, fixed(input)?);
    let (&[n, ref rest @ ..], Some(&width)) = (&rows[..], taken.last()) else { return None };
    let first = |name| matches!(e.f[gather].args(name), []) || e.number(gather, name) == Some(0.0);
    let one = fixed(e.value(gather, param!(Gather.indices))?)?.iter().product::<usize>() == 1;
    if !one || !first(param!(Gather.axis)) || !first(param!(Gather.batch_dims)) {
        e.skip(op, "its input is not one of the first dimension");
        return None;
    }
    if rest.last() != Some(&width) || rest.iter().product::<usize>() != taken.iter().product::<usize>() {
        e.skip(op, "its input is not a whole row");
        return None;
    }
    if rows.len() > MAX_RANK || usize::try_from(iterations).ok()? < n.div_ceil(2) {
        e.skip(op, "the loop takes too few of the rows");
        return None;
    }
    let (weight, bias) = (param!(Linear.weight), param!(Linear.bias));
    let constants = [weight, bias].map(|name| e.tensor(op, name).cloned());
    let [Some(weights), biases] = constants else { return None };
    if biases.is_none() && !e.f[op].args(bias).is_empty() {
        return None;
    }
    // The products of all rows, before the loop.
    let out = e.f[op].outputs[0];
    let (result, name) = (facts.ty(e.f, out).as_tensor()?.clone(), e.f[out].name.clone());
    let shape = result.fixed_shape()?;
    let columns = *shape.last()?;
    let mut all = rows.clone();
    *all.last_mut()? = columns;
    let weights = e.new_const(loop_op, &format!("{name}_weight"), weights);
    let mut inputs = vec![Input::value(param!(Linear.x), x), Input::value(weight, weights)];
    if let Some(biases) = biases {
        inputs.push(Input::value(bias, e.new_const(loop_op, &format!("{name}_bias"), biases)));
    }
    let all_type = TensorType::fixed(result.dtype, &all);
    let all = e.new_op(loop_op, OpKind::Linear, inputs, &format!("{name}_all"), all_type.into());
    // In the loop, the row of the products.
    let inputs: Vec<Input> = e.f[gather]
        .inputs
        .iter()
        .map(|i| if i.name == param!(Gather.x) { Input::value(i.name.clone(), all) } else { i.clone() })
        .collect();
    let mut picked = fixed_of(facts, e.f, e.value(gather, param!(Gather.indices))?)?;
    picked.extend(&rest[..rest.len() - 1]);
    picked.push(columns);
    let picked = TensorType::fixed(result.dtype, &picked);
    let row = e.new_op(op, OpKind::Gather, inputs, &format!("{name}_row"), picked.into());
    let dims: Vec<i32> = shape.iter().map(|&n| i32::try_from(n)).collect::<Result<_, _>>().ok()?;
    let dims = Tensor::from_vec(&[dims.len()], dims).ok()?;
    let inputs =
        vec![Input::value(param!(Reshape.x), row), Input::constant(param!(Reshape.shape), Value::from(dims))];
    e.rewrite(op, OpKind::Reshape, inputs);
    Some(())
}

fn fixed_of(facts: &Facts, f: &Function, v: ValueId) -> Option<Vec<usize>> {
    facts.ty(f, v).as_tensor().and_then(TensorType::fixed_shape)
}

/// Whether a value is an input of a block, or comes from an op in it or in a block that is nested in it.
fn is_inside(f: &Function, block: BlockId, value: ValueId) -> bool {
    let within =
        |op: &OpId| f[*op].outputs.contains(&value) || f[*op].blocks.iter().any(|&b| is_inside(f, b, value));
    f[block].inputs.contains(&value) || f[block].ops.iter().any(within)
}
