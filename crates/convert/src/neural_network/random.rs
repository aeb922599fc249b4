//! Random numbers.

use milwright_formats::proto::CategoricalDistributionLayerParams;
use milwright_mil::{Input, OpKind, Value, ValueId, param};

use super::net::Net;
use crate::lower::{Result, i32_from, i32_of, op, take, with_rank};

/// The op and its parameters, without the shape.
type Distribution = (OpKind, Vec<Input>);

pub(super) fn normal(seed: i64, mean: f32, deviation: f32) -> Distribution {
    let (mean, deviation) = (Value::float(mean), Value::float(deviation));
    let inputs = vec![
        Input::constant(param!(RandomNormal.mean), mean),
        Input::constant(param!(RandomNormal.stddev), deviation),
        seeded(seed),
    ];
    (OpKind::RandomNormal, inputs)
}

pub(super) fn uniform(seed: i64, low: f32, high: f32) -> Distribution {
    let (low, high) = (Value::float(low), Value::float(high));
    (
        OpKind::RandomUniform,
        vec![
            Input::constant(param!(RandomUniform.low), low),
            Input::constant(param!(RandomUniform.high), high),
            seeded(seed),
        ],
    )
}

pub(super) fn bernoulli(seed: i64, prob: f32) -> Distribution {
    (
        OpKind::RandomBernoulli,
        vec![Input::constant(param!(RandomBernoulli.prob), Value::float(prob)), seeded(seed)],
    )
}

fn seeded(seed: i64) -> Input {
    Input::constant(param!(RandomNormal.seed), Value::int(i32_from(seed)))
}

pub(super) fn like(n: &mut Net, x: &[ValueId], distribution: Distribution) -> Result<ValueId> {
    let [x] = take(x)?;
    let shape = n.shape_of(x)?;
    draw(n, shape, distribution)
}

pub(super) fn fixed(n: &mut Net, shape: &[u64], distribution: Distribution) -> Result<ValueId> {
    let shape = shape.iter().map(|&d| i32_of(d)).collect::<Result<Vec<i32>>>()?;
    let shape = n.int_vector(&shape);
    draw(n, shape, distribution)
}

pub(super) fn dynamic(n: &mut Net, x: &[ValueId], distribution: Distribution) -> Result<ValueId> {
    let [shape] = take(x)?;
    let shape = n.int_of(shape)?;
    draw(n, shape, distribution)
}

fn draw(n: &mut Net, shape: ValueId, (kind, mut inputs): Distribution) -> Result<ValueId> {
    inputs.push(Input::value(param!(RandomNormal.shape), shape));
    n.op(kind, inputs)
}

pub(super) fn categorical(
    n: &mut Net,
    x: &[ValueId],
    p: &CategoricalDistributionLayerParams,
) -> Result<ValueId> {
    let [x] = take(x)?;
    let mut x = n.float_of(x)?;
    if p.is_logits && p.temperature != 0.0 && p.temperature != 1.0 {
        x = op!(n, Mul, x = x, y = 1.0 / p.temperature)?;
    }
    let mode = if p.is_logits { "logits" } else { "probs" };
    let (size, seed) = (i32_from(p.num_samples), i32_from(p.seed));
    with_rank(n, x, 2, |n, x| op!(n, RandomCategorical, x = x, mode = mode, size = size, seed = seed))
}
