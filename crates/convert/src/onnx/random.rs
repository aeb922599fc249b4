//! Random numbers. Their distribution is the one asked for; the numbers themselves differ from those of other engines.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, Input, OpKind, Value, ValueId, param};

use super::cast;
use super::compose::{V, one};
use super::elem::Elem;
use super::node::Node;
use crate::Error;
use crate::lower::{Result, i32_from, op};

const NOTE: &str =
    "random numbers have the distribution that the model asks for, but are other numbers than elsewhere";

/// The element type of the attribute, or else of the input, or fp32.
fn elem_of(n: &mut Node<'_, '_>, like: bool) -> Result<Elem> {
    match n.int("dtype")? {
        Some(code) => cast::elem_of(code),
        None if like && n.elem(0)?.is_float() => n.elem(0),
        None => Ok(Elem::Float),
    }
}

fn shape_of(n: &mut Node<'_, '_>, like: bool) -> Result<ValueId> {
    if like {
        let x = n.value(0)?;
        let sizes = n.sizes_of(x)?;
        return n.shape(&sizes);
    }
    let shape = n.ints("shape")?.ok_or_else(|| Error::malformed("`shape` is missing"))?;
    let shape: Vec<i32> = shape.iter().map(|&s| i32_from(s)).collect();
    Ok(n.int_vector(&shape))
}

/// A seed that the model gives makes runs repeatable.
fn seed_of(n: &mut Node<'_, '_>) -> Result<i32> {
    n.note(NOTE);
    Ok(n.float("seed")?.map_or(-1, |s| (s.abs() as i64 % 0x7fff_ffff) as i32))
}

pub(super) fn normal(n: &mut Node<'_, '_>, like: bool) -> Result<Vec<V>> {
    let (mean, deviation) = (n.float_or("mean", 0.0)?, n.float_or("scale", 1.0)?);
    generate(
        n,
        like,
        RandomNormal,
        [param!(RandomNormal.mean), param!(RandomNormal.stddev)],
        [mean, deviation],
    )
}

pub(super) fn uniform(n: &mut Node<'_, '_>, like: bool) -> Result<Vec<V>> {
    let (low, high) = (n.float_or("low", 0.0)?, n.float_or("high", 1.0)?);
    generate(n, like, RandomUniform, [param!(RandomUniform.low), param!(RandomUniform.high)], [low, high])
}

fn generate(
    n: &mut Node<'_, '_>,
    like: bool,
    kind: OpKind,
    names: [&str; 2],
    values: [f32; 2],
) -> Result<Vec<V>> {
    let elem = elem_of(n, like)?;
    let seed = seed_of(n)?;
    let shape = shape_of(n, like)?;
    let inputs = vec![
        Input::value(param!(RandomNormal.shape), shape),
        Input::constant(names[0], Value::float(values[0])),
        Input::constant(names[1], Value::float(values[1])),
        Input::constant(param!(RandomNormal.seed), Value::int(seed)),
    ];
    let y = n.op(kind, inputs)?;
    let y = n.cast(y, elem.carried()?)?;
    cast::finish(n, y, elem)
}

/// 1 with the probability that the input gives.
pub(super) fn bernoulli(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let elem = match n.int("dtype")? {
        Some(code) => cast::elem_of(code)?,
        None => x.elem,
    };
    let seed = seed_of(n)?;
    let sizes = n.sizes_of(x.id)?;
    let shape = n.shape(&sizes)?;
    let drawn = op!(n, RandomUniform, shape = shape, low = 0.0, high = 1.0, seed = seed)?;
    let probability = n.float_of(x.id)?;
    let hit = n.less(drawn, probability)?;
    let y = n.cast(hit, elem.carried()?)?;
    one(y, elem)
}

/// Draws of classes, whose log-probabilities are given up to a constant.
pub(super) fn multinomial(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let elem = match n.int("dtype")? {
        Some(code) => cast::elem_of(code)?,
        None => Elem::Int32,
    };
    let size = i32_from(n.int_or("sample_size", 1)?);
    let seed = seed_of(n)?;
    let y = op!(n, RandomCategorical, x = x.id, mode = "logits", size = size, seed = seed)?;
    let y = n.cast(y, DType::Int32)?;
    let y = n.cast(y, elem.carried()?)?;
    one(y, elem)
}
