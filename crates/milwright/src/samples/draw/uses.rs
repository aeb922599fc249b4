//! What the inputs of a program are used for: which tables they index, and of what they are bounds.

use std::collections::{BTreeSet, HashMap};

use milwright_mil::infer::Facts;
use milwright_mil::{Arg, Dim, Function, Op, OpId, OpKind, ValueId};

use super::{Drawn, Range, Values};

/// The ops of a program in order of execution, and where each value is used.
pub(super) struct Uses {
    ops: Vec<OpId>,
    places: HashMap<ValueId, Vec<usize>>,
}

impl Uses {
    pub(super) fn of(program: &Function) -> Uses {
        let ops = program.walk();
        let mut places: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for (at, &op) in ops.iter().enumerate() {
            for value in program[op].values() {
                places.entry(value).or_default().push(at);
            }
        }
        Uses { ops, places }
    }

    fn of_value(&self, value: ValueId) -> impl Iterator<Item = usize> {
        self.places.get(&value).into_iter().flatten().copied()
    }
}

/// The number of integers, starting at 0, that an input may have so that they are valid rows of every table that it
/// indexes (by `gather` and `scatter`), and valid classes (of `one_hot`). The search follows casts, reshapes, and sums
/// and products with constants.
pub(super) fn table_size(program: &Function, facts: &Facts, uses: &Uses, input: ValueId) -> Option<usize> {
    // For each value that depends on the input, the factor and the summand.
    let mut reached: HashMap<ValueId, (f64, f64)> = HashMap::from([(input, (1.0, 0.0))]);
    let mut smallest: Option<usize> = None;
    let mut next: BTreeSet<usize> = uses.of_value(input).collect();
    while let Some(place) = next.pop_first() {
        let op = &program[uses.ops[place]];
        let found = |name: &str| op.value(name).and_then(|v| reached.get(&v)).copied();
        let size = |name: &str| {
            op.value(name).and_then(|v| facts.ty(program, v).as_tensor()).map(|t| t.shape.clone())
        };
        let constant = |name: &str| constant(program, facts, op, name);
        let axis = |rank: usize| {
            let axis = constant("axis").map_or(0, |c| c[0] as i64);
            usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok()
        };
        let row = |shape: Vec<Dim>| shape.get(axis(shape.len())?)?.fixed();
        // The table is what is read from, or written to.
        let writes = matches!(op.kind, OpKind::Scatter | OpKind::ScatterAlongAxis | OpKind::ScatterNd);
        let table = if writes { "data" } else { "x" };
        let (at, rows) = match op.kind {
            OpKind::Gather | OpKind::GatherAlongAxis | OpKind::Scatter | OpKind::ScatterAlongAxis => {
                (found("indices"), size(table).and_then(row))
            }
            OpKind::GatherNd | OpKind::ScatterNd => {
                let count = size("indices").and_then(|s| s.last()?.fixed()).unwrap_or(1);
                let from = constant("batch_dims").map_or(0, |c| c[0] as usize);
                let sizes =
                    size(table).map(|s| s.into_iter().skip(from).take(count).filter_map(Dim::fixed).min());
                (found("indices"), sizes.flatten())
            }
            OpKind::OneHot => (found("indices"), constant("one_hot_vector_size").map(|c| c[0] as usize)),
            _ => (None, None),
        };
        if let (Some((factor, summand)), Some(rows)) = (at, rows) {
            let most = ((rows as f64 - 1.0 - summand) / factor).floor() + 1.0;
            let most = if most >= 1.0 { most as usize } else { 1 };
            smallest = Some(smallest.map_or(most, |s| s.min(most)));
        }
        let of_x = found("x");
        let y = constant("y").map(|c| c.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        let now = match (op.kind, of_x, y) {
            (OpKind::Add, Some((f, s)), Some(y)) => Some((f, s + y)),
            (OpKind::Sub, Some((f, s)), Some(y)) => Some((f, s - y)),
            (OpKind::Mul, Some((f, s)), Some(y)) if y > 0.0 => Some((f * y, s * y)),
            (OpKind::FloorDiv | OpKind::RealDiv, Some((f, s)), Some(y)) if y > 0.0 => Some((f / y, s / y)),
            // What is read from a table of indices is an index.
            (OpKind::Gather | OpKind::GatherAlongAxis | OpKind::GatherNd, of_x, _) => of_x,
            // Ops that pass their elements on.
            (
                OpKind::Cast
                | OpKind::Reshape
                | OpKind::ExpandDims
                | OpKind::Squeeze
                | OpKind::Transpose
                | OpKind::Identity
                | OpKind::SliceByIndex
                | OpKind::SliceBySize
                | OpKind::Concat
                | OpKind::Stack
                | OpKind::Split
                | OpKind::Tile
                | OpKind::GreaterEqual
                | OpKind::Select
                | OpKind::Add,
                ..,
            ) => {
                // Of an index and what it is where it is negative, the index itself: none is drawn below 0.
                let all = op.values().filter_map(|v| reached.get(&v)).copied();
                all.min_by(|a, b| a.1.total_cmp(&b.1))
            }
            _ => None,
        };
        if let Some(now) = now {
            reached.extend(op.outputs.iter().map(|&v| (v, now)));
            next.extend(op.outputs.iter().flat_map(|&v| uses.of_value(v)).filter(|&user| user > place));
        }
    }
    smallest
}

/// The elements of a constant argument, at least one.
fn constant(program: &Function, facts: &Facts, op: &Op, name: &str) -> Option<Vec<f64>> {
    let value = match op.args(name) {
        [Arg::Const(value)] => value,
        [Arg::Value(v)] => program.const_value(*v).or_else(|| facts.value(*v))?,
        _ => return None,
    };
    Some(value.as_tensor()?.to_f64()).filter(|c| !c.is_empty())
}

/// Draws single real numbers that a table of the model is compared with, such as the lowest and the highest frequency that
/// count, so that they let a good part of it through: lower bounds from the lower half of the table, upper ones from the
/// upper half. Others would leave nothing, and outputs that do not depend on the inputs.
pub(super) fn bounds(program: &Function, inputs: &mut [Drawn]) {
    let is_single = |input: &Drawn| input.values == Values::Unit && input.shape.iter().all(|&n| n == 1);
    if !inputs.iter().any(is_single) {
        return;
    }
    let uses = Uses::of(program);
    for input in inputs.iter_mut().filter(|input| is_single(input)) {
        let Some(value) = program.inputs.iter().copied().find(|&v| program[v].name == input.name) else {
            continue;
        };
        if let Some(range) = bound(program, &uses, value) {
            input.values = Values::Bound(range);
            input.others.iter_mut().for_each(|other| other.1 = Values::Bound(range));
        }
    }
}

/// The half of a constant table that a value is a bound of.
fn bound(program: &Function, uses: &Uses, input: ValueId) -> Option<Range> {
    let mut reached = BTreeSet::from([input]);
    let mut next: BTreeSet<usize> = uses.of_value(input).collect();
    while let Some(place) = next.pop_first() {
        let op = &program[uses.ops[place]];
        let is = |name: &str| op.value(name).is_some_and(|v| reached.contains(&v));
        let table = |name: &str| {
            let values =
                program.const_value(op.value(name)?)?.as_tensor().filter(|t| t.elements() > 1)?.to_f64();
            let (low, high) =
                values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
            (low.is_finite() && high.is_finite() && low < high).then_some((low, high))
        };
        // Whether the table has to be above the value.
        let above = match op.kind {
            OpKind::Greater | OpKind::GreaterEqual => Some(true),
            OpKind::Less | OpKind::LessEqual => Some(false),
            _ => None,
        };
        let found = above.and_then(|above| match (is("x"), is("y")) {
            (false, true) => Some((table("x")?, above)),
            (true, false) => Some((table("y")?, !above)),
            _ => None,
        });
        if let Some(((low, high), is_lower)) = found {
            let middle = (low + high) / 2.0;
            return Some(if is_lower { (low, middle) } else { (middle, high) });
        }
        let passes = matches!(
            op.kind,
            OpKind::Cast
                | OpKind::Reshape
                | OpKind::ExpandDims
                | OpKind::Squeeze
                | OpKind::Identity
                | OpKind::Tile
        );
        if passes {
            reached.extend(&op.outputs);
            next.extend(op.outputs.iter().flat_map(|&v| uses.of_value(v)).filter(|&user| user > place));
        }
    }
    None
}
