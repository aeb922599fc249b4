//! Probabilities of a support vector machine for several classes, from those of each pair.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, Input, Tensor, Type, ValueId, param};

use crate::Error;
use crate::lower::{Lowering, Result, op};

/// The iteration ends after this many turns at the latest.
const TURNS: f64 = 100.0;

/// The probabilities of the classes, [samples, classes], that fit those of the pairs best: the iteration of libsvm, which
/// ONNX Runtime has, too. It stops once a sample's error is small, so that its result is not the limit.
///
/// `pairs` has, for each pair of classes i < j in order, the probability [samples, 1] of i.
pub(super) fn coupled(n: &mut Lowering, classes: usize, pairs: &[ValueId]) -> Result<ValueId> {
    let matrix = matrix(n, classes, pairs)?;
    let first = pairs.first().ok_or_else(|| Error::malformed("probabilities of a single class"))?;
    let zeros = n.mul(*first, 0.0)?;
    let even = n.add(zeros, 1.0 / classes as f64)?;
    let start = n.concat(vec![even; classes], 1)?;
    let zero = n.constant(Tensor::scalar(0i32));
    let one = n.constant(Tensor::scalar(1i32));

    let ty = Type::Tensor(n.ty(start)?.clone());
    let scalar = || Type::scalar(DType::Int32);
    let (cond, outer) = n.builder.enter();
    let turn = n.builder.block_input("turn", scalar());
    let moving = n.builder.block_input("moving", scalar());
    n.builder.block_input("p", ty.clone());
    let left = n.less(turn, TURNS)?;
    let moves = n.greater(moving, 0.0)?;
    let more = op!(n, LogicalAnd, x = left, y = moves)?;
    n.builder.leave(outer, vec![more]);

    let (body, outer) = n.builder.enter();
    let turn = n.builder.block_input("turn", scalar());
    n.builder.block_input("moving", scalar());
    let p = n.builder.block_input("p", ty);
    let (next, moving) = step(n, classes, matrix, p)?;
    let turn = n.add(turn, 1.0)?;
    n.builder.leave(outer, vec![turn, moving, next]);

    let inputs = vec![Input::values(param!(WhileLoop.loop_vars), vec![zero, one, start])];
    let label = n.label.clone();
    let results = n.builder.op_with_blocks(WhileLoop, &label, inputs, vec![cond, body])?;
    results.get(2).copied().ok_or_else(|| Error::malformed("a loop without results"))
}

/// The matrix of the quadratic form that is least for the wanted probabilities: [samples, classes, classes].
fn matrix(n: &mut Lowering, classes: usize, pairs: &[ValueId]) -> Result<ValueId> {
    // The probability of i against j.
    let mut of = vec![vec![None; classes]; classes];
    let every_pair = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j)));
    let mut given = pairs.iter();
    for (i, j) in every_pair {
        let p = *given.next().ok_or_else(|| Error::malformed("too few pairs of classes"))?;
        of[i][j] = Some(p);
        of[j][i] = Some(n.sub(1.0, p)?);
    }
    let get = |i: usize, j: usize| of[i][j].ok_or_else(|| Error::malformed("a pair of one class"));
    let mut rows = Vec::with_capacity(classes);
    for i in 0..classes {
        let mut row = Vec::with_capacity(classes);
        for j in 0..classes {
            row.push(if i == j {
                let mut sum = None;
                for k in (0..classes).filter(|&k| k != i) {
                    let r = get(k, i)?;
                    let square = n.mul(r, r)?;
                    sum = Some(match sum {
                        Some(sum) => n.add(sum, square)?,
                        None => square,
                    });
                }
                sum.ok_or_else(|| Error::malformed("probabilities of a single class"))?
            } else {
                let product = n.mul(get(j, i)?, get(i, j)?)?;
                n.neg(product)?
            });
        }
        let row = n.concat(row, 1)?;
        rows.push(n.expand_dims(row, &[1])?);
    }
    n.concat(rows, 1)
}

/// One turn for all samples; those that are done stay. Also says how many (0 or more) are not done.
fn step(n: &mut Lowering, classes: usize, matrix: ValueId, p: ValueId) -> Result<(ValueId, ValueId)> {
    let wide = n.expand_dims(p, &[1])?;
    let terms = n.mul(matrix, wide)?;
    let mut q = n.sum(terms, &[2], false)?;
    let terms = n.mul(p, q)?;
    let mut total = n.sum(terms, &[1], true)?;
    let error = n.sub(q, total)?;
    let error = n.un(Abs, error)?;
    let error = n.reduce(ReduceMax, error, &[1], true)?;
    let moves = n.greater_equal(error, 0.005 / classes as f64)?;
    let mut next = p;
    for t in 0..classes {
        let at = t as i32;
        let row = n.cut(matrix, 1, at, Some(at + 1))?;
        let row = n.squeeze(row, &[1])?;
        let diagonal = super::column(n, row, at)?;
        let own = super::column(n, q, at)?;
        let apart = n.sub(total, own)?;
        let change = n.div(apart, diagonal)?;
        let scale = n.add(change, 1.0)?;
        let unit = (0..classes).map(|k| f32::from(u8::from(k == t))).collect();
        let unit = n.float_tensor(&[1, classes], unit, super::FLOAT)?;
        let moved = n.mul(unit, change)?;
        let moved = n.add(next, moved)?;
        next = n.div(moved, scale)?;
        let a = n.mul(change, diagonal)?;
        let b = n.mul(own, 2.0)?;
        let ab = n.add(a, b)?;
        let more = n.mul(change, ab)?;
        total = n.add(total, more)?;
        total = n.div(total, scale)?;
        total = n.div(total, scale)?;
        let more = n.mul(row, change)?;
        q = n.add(q, more)?;
        q = n.div(q, scale)?;
    }
    let next = n.select(moves, next, p)?;
    let moves = n.cast(moves, DType::Int32)?;
    let moves = n.sum(moves, &[0, 1], false)?;
    Ok((next, moves))
}
