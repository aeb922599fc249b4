//! Replaces activations that were decomposed into simpler ops.
//!
//! ```text
//! silu                   x * sigmoid(x)
//! gelu, exact            0.5 * x * (1 + erf(x / sqrt(2)))
//! gelu, by tanh          0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))
//! gelu, by sigmoid       x * sigmoid(1.702 * x)
//! ```
//!
//! Factors may come in any order, constants may be multiplied together, and `x / sqrt(2)` may be `x * 0.7071`.

use super::Editor;
use super::edit::{close, float_dtype};
use crate::{Evaluate, Input, OpId, OpKind, Value, ValueId, param};

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    for op in e.f.walk() {
        if !matches!(e.f[op].kind, OpKind::Mul | OpKind::RealDiv) || e.f[op].outputs.len() != 1 {
            continue;
        }
        let Some((x, kind, mode)) = activation(e, op) else { continue };
        let output = e.f[op].outputs[0];
        if float_dtype(&e.f[output].ty).is_none() || e.f[x].ty != e.f[output].ty {
            e.skip(op, "an activation keeps the type of its input");
            continue;
        }
        let mut inputs = vec![Input::value(param!(Gelu.x), x)];
        if let Some(mode) = mode {
            let name = format!("{}_mode", e.f[output].name);
            let mode = e.new_const(op, &name, Value::string(mode));
            inputs.push(Input::value(param!(Gelu.mode), mode));
        }
        e.rewrite(op, kind, inputs);
    }
}

/// Returns the input, op and mode of the activation whose last op is `op`.
fn activation(e: &Editor<'_>, op: OpId) -> Option<(ValueId, OpKind, Option<&'static str>)> {
    let product = Product::ending_in(e, op)?;
    let &[a, b] = product.factors.as_slice() else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
        if let Some(sigmoid) = e.producer(gate, OpKind::Sigmoid) {
            let inner = Product::of(e, e.value(sigmoid, param!(Sigmoid.x))?);
            return match inner.factors == [x] && close(product.constant, 1.0) {
                true if close(inner.constant, 1.0) => Some((x, OpKind::Silu, None)),
                true if close(inner.constant, 1.702) => {
                    Some((x, OpKind::Gelu, Some("SIGMOID_APPROXIMATION")))
                }
                _ => None,
            };
        }
        if !close(product.constant, 0.5) {
            return None;
        }
        let gate = plus_one(e, gate)?;
        if let Some(erf) = e.producer(gate, OpKind::Erf) {
            let inner = Product::of(e, e.value(erf, param!(Erf.x))?);
            let fits = inner.factors == [x] && close(inner.constant, std::f64::consts::FRAC_1_SQRT_2);
            return fits.then_some((x, OpKind::Gelu, Some("EXACT")));
        }
        let tanh = e.producer(gate, OpKind::Tanh)?;
        let inner = Product::of(e, e.value(tanh, param!(Tanh.x))?);
        let slope = (2.0 / std::f64::consts::PI).sqrt();
        let fits = close(inner.constant, slope) && cubic(e, &inner.factors, x);
        fits.then_some((x, OpKind::Gelu, Some("TANH_APPROXIMATION")))
    })
}

/// Whether the factors are `x + 0.044715 * x^3`, or `x` and `1 + 0.044715 * x^2`.
fn cubic(e: &Editor<'_>, factors: &[ValueId], x: ValueId) -> bool {
    let power = |value: ValueId, n: usize| {
        let p = Product::of(e, value);
        close(p.constant, 0.044715) && p.factors == vec![x; n]
    };
    match *factors {
        [sum] => e.producer(sum, OpKind::Add).is_some_and(|add| {
            let mut operands = e.operands(add);
            operands.any(|(v, other)| v == x && e.value(add, other).is_some_and(|p| power(p, 3)))
        }),
        [a, b] => [(a, b), (b, a)]
            .into_iter()
            .any(|(v, sum)| v == x && plus_one(e, sum).is_some_and(|p| power(p, 2))),
        _ => false,
    }
}

/// Returns the value that 1 is added to.
fn plus_one(e: &Editor<'_>, value: ValueId) -> Option<ValueId> {
    let add = e.producer(value, OpKind::Add)?;
    e.operands(add).find(|(_, other)| e.number(add, other) == Some(1.0)).map(|(v, _)| v)
}

/// A product of one constant and several values.
struct Product {
    constant: f64,
    factors: Vec<ValueId>,
}

/// The most factors of a product; `MAX_STEPS` is the most ops to look at. Activations have few.
const MAX_FACTORS: usize = 8;
const MAX_STEPS: usize = 16;

impl Product {
    /// Takes a value apart into the factors of a product.
    fn of(e: &Editor<'_>, value: ValueId) -> Product {
        let mut product = Product { constant: 1.0, factors: Vec::new() };
        let mut todo = vec![value];
        let mut steps = 0;
        while let Some(value) = todo.pop() {
            let stop = steps == MAX_STEPS || todo.len() + product.factors.len() > MAX_FACTORS;
            if stop || !product.expand(e, value, &mut todo) {
                product.factors.push(value);
            } else {
                steps += 1;
            }
        }
        product
    }

    /// Returns the factors of an op's result, even if the result has several uses.
    fn ending_in(e: &Editor<'_>, op: OpId) -> Option<Product> {
        let &output = e.f[op].outputs.first()?;
        Some(Product::of(e, output)).filter(|p| p.factors != [output])
    }

    /// Replaces one value by its factors, if it is a product.
    fn expand(&mut self, e: &Editor<'_>, value: ValueId, todo: &mut Vec<ValueId>) -> bool {
        if let Some(op) = e.producer(value, OpKind::Mul) {
            if let Some((rest, other)) = e.operands(op).find(|(_, other)| e.number(op, other).is_some()) {
                self.constant *= e.number(op, other).unwrap_or(1.0);
                todo.push(rest);
                return true;
            }
            let (Some(x), Some(y)) = (e.value(op, "x"), e.value(op, "y")) else { return false };
            todo.extend([y, x]);
            true
        } else if let Some(op) = e.producer(value, OpKind::RealDiv) {
            let (Some(x), Some(n)) = (e.value(op, "x"), e.number(op, "y")) else { return false };
            self.constant /= n;
            todo.push(x);
            true
        } else if let Some(op) = e.producer(value, OpKind::Square) {
            let Some(x) = e.value(op, "x") else { return false };
            todo.extend([x, x]);
            true
        } else if let Some(op) = e.producer(value, OpKind::Pow) {
            let (Some(x), Some(n)) = (e.value(op, "x"), e.number(op, "y")) else { return false };
            if n != 2.0 && n != 3.0 {
                return false;
            }
            todo.extend(vec![x; n as usize]);
            true
        } else {
            false
        }
    }
}
