//! Linear models and support vector machines.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use super::super::compose::{V, one};
use super::super::elem::Elem;
use super::super::node::Node;
use super::coupling::coupled;
use super::{FLOAT, Labels, Post, best, column, matrix};
use crate::Error;
use crate::lower::{Lowering, Result, op};

pub(in super::super) fn linear_regressor(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = matrix(n)?;
    let targets = usize::try_from(n.int_or("targets", 1)?).unwrap_or(0);
    let coefficients = n.floats("coefficients")?.unwrap_or_default().to_vec();
    let intercepts = n.floats("intercepts")?.unwrap_or_default().to_vec();
    let post = Post::read(n)?;
    let y = products(n, x, targets, coefficients, intercepts)?;
    let y = post.apply(n, y)?;
    one(y, Elem::Float)
}

/// x · coefficientsᵀ + intercepts
fn products(
    n: &mut Lowering,
    x: ValueId,
    rows: usize,
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
) -> Result<ValueId> {
    if rows == 0 || coefficients.is_empty() || !coefficients.len().is_multiple_of(rows) {
        return Err(Error::malformed(format!("{} coefficients for {rows} rows", coefficients.len())));
    }
    let columns = coefficients.len() / rows;
    let weight = n.float_tensor(&[rows, columns], coefficients, FLOAT)?;
    let y = op!(n, Linear, x = x, weight = weight)?;
    if intercepts.is_empty() {
        return Ok(y);
    }
    let bias = n.float_tensor(&[intercepts.len()], intercepts, FLOAT)?;
    n.add(y, bias)
}

pub(in super::super) fn linear_classifier(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = matrix(n)?;
    let labels = Labels::read(n, "classlabels_ints")?;
    let coefficients = n.floats("coefficients")?.unwrap_or_default().to_vec();
    let intercepts = n.floats("intercepts")?.unwrap_or_default().to_vec();
    n.int("multi_class")?;
    let post = Post::read(n)?;
    let features = n.size(x, 1)?;
    let rows = coefficients.len().checked_div(features).unwrap_or(0);
    let mut scores = products(n, x, rows, coefficients, intercepts)?;
    if rows == 1 && labels.count == 2 {
        let other = n.neg(scores)?;
        scores = n.concat(vec![other, scores], 1)?;
    }
    let scores = post.apply(n, scores)?;
    let label = if rows == 1 && labels.count < 2 {
        // One class or none of it.
        let limit = if post == Post::None { 0.0 } else { 0.5 };
        let hit = n.greater_equal(scores, limit)?;
        let hit = n.squeeze(hit, &[1])?;
        let label = labels.ints.as_ref().and_then(|l| l.first().copied()).unwrap_or(1);
        let id = n.select_as(hit, label as f64, 0.0, DType::Int32)?;
        V { id, elem: Elem::Int64 }
    } else {
        let index = best(n, scores)?;
        labels.of(n, index)?
    };
    Ok(vec![label, V { id: scores, elem: Elem::Float }])
}

/// Products of a support vector machine's kernel.
fn kernels(n: &mut Node<'_, '_>, x: ValueId, vectors: Vec<f32>, count: usize) -> Result<ValueId> {
    let params = n.floats("kernel_params")?.unwrap_or_default();
    let at = |i: usize| params.get(i).copied().map_or(0.0, f64::from);
    let (gamma, coef0, degree) = (at(0), at(1), at(2));
    let kernel = n.text_or("kernel_type", "LINEAR")?;
    if count == 0 || !vectors.len().is_multiple_of(count) {
        return Err(Error::malformed("support vectors of different lengths"));
    }
    let size = vectors.len() / count;
    match kernel {
        "RBF" => {
            // Differences first: squares and products would cancel.
            let table = n.float_tensor(&[1, count, size], vectors, FLOAT)?;
            let wide = n.expand_dims(x, &[1])?;
            let difference = n.sub(wide, table)?;
            let square = n.mul(difference, difference)?;
            let sum = n.sum(square, &[2], false)?;
            let scaled = n.mul(sum, -gamma)?;
            n.un(Exp, scaled)
        }
        "LINEAR" | "POLY" | "SIGMOID" => {
            let weight = n.float_tensor(&[count, size], vectors, FLOAT)?;
            let dot = op!(n, Linear, x = x, weight = weight)?;
            if kernel == "LINEAR" {
                return Ok(dot);
            }
            let scaled = n.mul(dot, gamma)?;
            let moved = n.add(scaled, coef0)?;
            if kernel == "POLY" { n.pow(moved, degree) } else { n.un(Tanh, moved) }
        }
        other => Err(Error::malformed(format!("the kernel `{other}`"))),
    }
}

pub(in super::super) fn svm_regressor(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = matrix(n)?;
    let supports = usize::try_from(n.int_or("n_supports", 0)?).unwrap_or(0);
    let vectors = n.floats("support_vectors")?.unwrap_or_default().to_vec();
    let coefficients = n.floats("coefficients")?.unwrap_or_default().to_vec();
    let rho = n.floats("rho")?.unwrap_or_default().first().copied().unwrap_or(0.0);
    let one_class = n.flag("one_class", false)?;
    n.int("n_targets")?;
    let post = Post::read(n)?;
    let terms = if supports > 0 {
        kernels(n, x, vectors, supports)?
    } else {
        n.text("kernel_type")?;
        n.floats("kernel_params")?;
        x
    };
    let y = products(n, terms, 1, coefficients, vec![rho])?;
    let y = if one_class {
        let inside = n.greater(y, 0.0)?;
        n.select_as(inside, 1.0, -1.0, FLOAT)?
    } else {
        post.apply(n, y)?
    };
    one(y, Elem::Float)
}

pub(in super::super) fn svm_classifier(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = matrix(n)?;
    let labels = Labels::read(n, "classlabels_ints")?;
    let per_class: Vec<usize> = n
        .ints("vectors_per_class")?
        .unwrap_or_default()
        .iter()
        .map(|&c| usize::try_from(c).unwrap_or(0))
        .collect();
    let vectors = n.floats("support_vectors")?.unwrap_or_default().to_vec();
    let coefficients = n.floats("coefficients")?.unwrap_or_default().to_vec();
    let rho = n.floats("rho")?.unwrap_or_default().to_vec();
    let (a, b) = (n.floats("prob_a")?.unwrap_or_default(), n.floats("prob_b")?.unwrap_or_default());
    let (a, b) = (a.to_vec(), b.to_vec());
    let post = Post::read(n)?;
    let classes = labels.count.max(1);
    let count: usize = per_class.iter().sum();
    let positive = coefficients.iter().all(|&c| c >= 0.0);
    if count == 0 {
        n.text("kernel_type")?;
        n.floats("kernel_params")?;
        let offset = rho.first().copied().unwrap_or(0.0);
        let scores = products(n, x, classes, coefficients, vec![offset; classes])?;
        let index = best(n, scores)?;
        let scores = post.apply(n, scores)?;
        let label = labels.of(n, index)?;
        return Ok(vec![label, V { id: scores, elem: Elem::Float }]);
    }
    if per_class.len() != classes || coefficients.len() != (classes - 1) * count {
        return Err(Error::malformed("the coefficients do not fit the classes"));
    }
    let kernels = kernels(n, x, vectors, count)?;
    // A row of coefficients for each pair of classes.
    let starts: Vec<usize> =
        per_class.iter().scan(0, |at, &c| Some(std::mem::replace(at, *at + c))).collect();
    let mut rows = Vec::new();
    let mut pairs = Vec::new();
    for i in 0..classes {
        for j in i + 1..classes {
            let mut row = vec![0f32; count];
            for k in starts[i]..starts[i] + per_class[i] {
                row[k] += coefficients[(j - 1) * count + k];
            }
            for k in starts[j]..starts[j] + per_class[j] {
                row[k] += coefficients[i * count + k];
            }
            rows.extend(row);
            pairs.push((i, j));
        }
    }
    if rho.len() < pairs.len() {
        return Err(Error::malformed("too few numbers in `rho`"));
    }
    let duels = products(n, kernels, pairs.len(), rows, rho[..pairs.len()].to_vec())?;
    // Each duel is a vote for one of the two.
    let won = n.greater(duels, 0.0)?;
    let won = n.cast(won, FLOAT)?;
    let (mut ups, mut base) = (vec![0f32; pairs.len() * classes], vec![0f32; classes]);
    for (p, &(i, j)) in pairs.iter().enumerate() {
        ups[i * pairs.len() + p] = 1.0;
        ups[j * pairs.len() + p] = -1.0;
        base[j] += 1.0;
    }
    let votes = products(n, won, classes, ups, base)?;
    let winner = best(n, votes)?;
    let label = labels.of(n, winner)?;
    if !a.is_empty() {
        if a.len() != pairs.len() || b.len() != pairs.len() {
            return Err(Error::malformed("`prob_a` and `prob_b` do not fit the classes"));
        }
        // 1 - sigmoid(a · score + b), away from 0 and 1.
        let (a, b) = (n.float_tensor(&[a.len()], a, FLOAT)?, n.float_tensor(&[b.len()], b, FLOAT)?);
        let scaled = n.mul(duels, a)?;
        let moved = n.add(scaled, b)?;
        let sigmoid = n.un(Sigmoid, moved)?;
        let p = n.sub(1.0, sigmoid)?;
        let p = n.max(p, 1e-7)?;
        let p = n.min(p, 1.0 - 1e-7)?;
        let mut each = Vec::with_capacity(pairs.len());
        for i in 0..pairs.len() {
            each.push(column(n, p, i as i32)?);
        }
        let scores = coupled(n, classes, &each)?;
        let scores = post.apply(n, scores)?;
        return Ok(vec![label, V { id: scores, elem: Elem::Float }]);
    }
    let scores = if pairs.len() == 1 {
        // One number stands for two classes.
        let score = column(n, duels, 0)?;
        let other = n.neg(score)?;
        let both = n.concat(vec![other, score], 1)?;
        post.apply(n, both)?
    } else {
        post.apply(n, duels)?
    };
    let label = if pairs.len() == 1 && positive && labels.ints.is_some() {
        // With positive weights alone, the class of the vote counts only from one half on.
        let top = n.reduce(ReduceMax, votes, &[1], false)?;
        let sure = n.greater_equal(top, 0.5)?;
        let second = labels.ints.as_ref().map_or(1, |l| l[1]);
        let id = n.select(sure, second as f64, label.id)?;
        V { id, elem: Elem::Int64 }
    } else {
        label
    };
    Ok(vec![label, V { id: scores, elem: Elem::Float }])
}
