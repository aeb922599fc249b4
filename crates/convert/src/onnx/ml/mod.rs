//! Classical models: ai.onnx.ml.

mod coupling;
mod features;
mod linear;
mod tree;

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

pub(super) use features::*;
pub(super) use linear::*;
pub(super) use tree::*;

use super::compose::V;
use super::elem::Elem;
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, op};

/// What is done with scores in the end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Post {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Post {
    fn read(n: &mut Node<'_, '_>) -> Result<Post> {
        Ok(match n.text_or("post_transform", "NONE")? {
            "NONE" => Post::None,
            "SOFTMAX" => Post::Softmax,
            "LOGISTIC" => Post::Logistic,
            "SOFTMAX_ZERO" => Post::SoftmaxZero,
            "PROBIT" => Post::Probit,
            other => return Err(Error::malformed(format!("the transform `{other}`"))),
        })
    }

    /// Transforms scores of [samples, classes].
    fn apply(self, n: &mut Lowering, x: ValueId) -> Result<ValueId> {
        match self {
            Post::None => Ok(x),
            Post::Softmax => op!(n, Softmax, x = x, axis = -1),
            Post::Logistic => n.un(Sigmoid, x),
            // A softmax in which scores of zero stay zero.
            Post::SoftmaxZero => {
                let top = n.reduce(ReduceMax, x, &[1], true)?;
                let shifted = n.sub(x, top)?;
                let powers = n.un(Exp, shifted)?;
                let negated = n.neg(top)?;
                let base = n.un(Exp, negated)?;
                let small = n.mul(x, base)?;
                let a = n.un(Abs, x)?;
                let counted = n.greater(a, 1e-7)?;
                let parts = n.select(counted, powers, small)?;
                let sum = n.sum(parts, &[1], true)?;
                let none = n.equal(sum, 0.0)?;
                let safe = n.select(none, 1.0, sum)?;
                let y = n.div(parts, safe)?;
                n.select(none, 0.5, y)
            }
            // √2 · erf⁻¹(2x - 1), in the approximation that the standard's tools use.
            Post::Probit => {
                let twice = n.mul(x, 2.0)?;
                let t = n.sub(twice, 1.0)?;
                let square = n.mul(t, t)?;
                let rest = n.sub(1.0, square)?;
                let log = n.log(rest)?;
                let v = n.mul(log, 0.5)?;
                let v = n.add(v, 2.0 / (std::f64::consts::PI * 0.147))?;
                let v2 = n.mul(log, 1.0 / 0.147)?;
                let vv = n.mul(v, v)?;
                let inner = n.sub(vv, v2)?;
                let root = n.un(Sqrt, inner)?;
                let y = n.sub(root, v)?;
                let y = n.un(Sqrt, y)?;
                let sign = n.un(Sign, t)?;
                let y = n.mul(y, sign)?;
                n.mul(y, std::f64::consts::SQRT_2)
            }
        }
    }
}

/// The labels of a classifier.
struct Labels {
    ints: Option<Vec<i64>>,
    count: usize,
}

impl Labels {
    /// Reads the labels by the attributes that the op has for them. Strings can only stay outside of the model.
    fn read(n: &mut Node<'_, '_>, ints: &'static str) -> Result<Labels> {
        let strings = n.texts("classlabels_strings")?.unwrap_or_default();
        let ints = n.ints(ints)?.map(<[i64]>::to_vec).filter(|l| !l.is_empty());
        if !strings.is_empty() && n.wants(0) {
            return Err(Error::unsupported("class labels that are strings").with_hint(
                "Core ML has no strings inside a model: export the labels as numbers (skl2onnx: \
                 options={id(model): {'nocl': True, 'zipmap': False}}), and look their names up in the app",
            ));
        }
        let count = ints.as_ref().map_or(strings.len(), Vec::len);
        Ok(Labels { ints, count })
    }

    /// The labels of indices of classes.
    fn of(&self, n: &mut Lowering, index: ValueId) -> Result<V> {
        let id = match &self.ints {
            Some(ints) => {
                let narrow: Option<Vec<i32>> = ints.iter().map(|&i| i32::try_from(i).ok()).collect();
                let narrow = narrow.ok_or_else(|| Error::unsupported("class labels beyond int32"))?;
                let table = n.int_vector(&narrow);
                n.gather(table, index, 0)?
            }
            None => index,
        };
        Ok(V { id, elem: Elem::Int64 })
    }
}

/// The input as fp32 [samples, features].
fn matrix(n: &mut Node<'_, '_>) -> Result<ValueId> {
    let x = n.value(0)?;
    let x = n.float_of(x)?;
    match n.rank(x)? {
        1 => n.expand_dims(x, &[0]),
        2 => Ok(x),
        rank => Err(Error::malformed(format!("features of {rank} dimensions"))),
    }
}

/// The class with the highest score.
fn best(n: &mut Lowering, scores: ValueId) -> Result<ValueId> {
    op!(n, ReduceArgmax, x = scores, axis = 1, keep_dims = false)
}

fn column(n: &mut Lowering, x: ValueId, i: i32) -> Result<ValueId> {
    n.cut(x, 1, i, Some(i + 1))
}

const FLOAT: DType = DType::Fp32;
