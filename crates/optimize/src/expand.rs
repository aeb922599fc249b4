//! Expands compressed weights.

use std::collections::HashMap;

use milwright_mil::infer::Facts;
use milwright_mil::ops::{Inferred, Known};
use milwright_mil::{Arg, Evaluate, Function, OpId, OpKind, Tensor, Type, Value, ValueId};

use crate::{Error, Store};

/// Replaces the compressed constants of a function (`constexpr_*` ops) by what they stand for, under the same names.
/// Ops that only other `constexpr_*` ops used are left for the elimination of dead ops.
///
/// # Errors
/// The store fails, or an op cannot be evaluated.
pub fn expand(function: &mut Function, engine: &dyn Evaluate, store: &mut dyn Store) -> Result<(), Error> {
    let ops = function.walk();
    let mut used: HashMap<ValueId, bool> = HashMap::new();
    for &op in &ops {
        let outside = !function[op].kind.is_constexpr();
        function[op].values().for_each(|v| *used.entry(v).or_default() |= outside);
        for &block in &function[op].blocks {
            function[block].outputs.iter().for_each(|&v| _ = used.insert(v, true));
        }
    }
    function[function.body].outputs.iter().for_each(|&v| _ = used.insert(v, true));
    let mut made: HashMap<ValueId, Tensor> = HashMap::new();
    for op in ops {
        if !function[op].kind.is_constexpr() {
            continue;
        }
        let results = evaluate(function, op, engine, &made).map_err(|why| {
            Error::Config(format!("the weight `{}` cannot be expanded: {why}", function[op].name()))
        })?;
        let outputs = function[op].outputs.clone();
        match (&outputs[..], &results[..]) {
            (&[output], [tensor]) if used.get(&output) == Some(&true) => {
                let tensor = store.store(tensor.clone())?;
                let data = &mut function[op];
                data.kind = OpKind::Const;
                data.inputs.clear();
                data.attributes.insert("val".into(), Value::Tensor(tensor));
            }
            _ => made.extend(outputs.into_iter().zip(results)),
        }
    }
    Ok(())
}

fn evaluate(
    function: &Function,
    op: OpId,
    engine: &dyn Evaluate,
    made: &HashMap<ValueId, Tensor>,
) -> Result<Vec<Tensor>, String> {
    let mut facts = Facts::new();
    for arg in function[op].inputs.iter().flat_map(|i| &i.args) {
        let Arg::Value(value) = arg else { continue };
        let known = made
            .get(value)
            .map(|t| Value::Tensor(t.clone()))
            .or_else(|| function.const_value(*value).cloned());
        if let Some(known) = known {
            facts.set(*value, Inferred { ty: known.ty(), known: Some(Known::Value(known)) });
        }
    }
    let types: Vec<Type> = function[op].outputs.iter().map(|&o| function[o].ty.clone()).collect();
    let view = facts.view(function, op).map_err(|e| e.to_string())?;
    engine.evaluate(&view, &types)
}

/// What is known about a weight without running the program.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightInfo {
    /// The function that it is in.
    pub function: String,
    /// The name of the constant, or of the op that expands it.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// The element type, after expansion.
    pub dtype: milwright_mil::DType,
    /// How it is stored: `dense`, or the name of the op that expands it, without `constexpr_`.
    pub form: String,
    /// The share of elements with a magnitude of at most 1e-12.
    pub sparsity: f64,
    /// The number of distinct values.
    pub unique_values: usize,
    /// The ops that use it, in order: type, name, and the constants bound to parameters.
    pub users: Vec<WeightUser>,
}

/// An op that uses a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightUser {
    /// The op's type.
    pub op_type: String,
    /// The op's name.
    pub name: String,
    /// The constants that it uses, by parameter.
    pub constants: Vec<(String, String)>,
}

/// Describes the weights of a function: constants, and compressed ones as they are when expanded, with at least
/// `min_elements` elements.
///
/// # Errors
/// A compressed weight cannot be expanded.
pub fn describe(
    name: &str,
    function: &Function,
    min_elements: usize,
    engine: &dyn Evaluate,
) -> Result<Vec<WeightInfo>, Error> {
    let ops = function.walk();
    let mut users: HashMap<ValueId, Vec<OpId>> = HashMap::new();
    for &op in &ops {
        function[op].values().for_each(|v| users.entry(v).or_default().push(op));
    }
    let mut made: HashMap<ValueId, Tensor> = HashMap::new();
    let mut found = Vec::new();
    for &op in &ops {
        let is_constexpr = function[op].kind.is_constexpr();
        let Some(&output) = function[op].outputs.last() else { continue };
        let users = users.get(&output).map_or(&[][..], Vec::as_slice);
        let feeds_constexpr = users.iter().any(|&u| function[u].kind.is_constexpr());
        let tensor = if is_constexpr {
            let large =
                function[output].ty.as_tensor().and_then(|t| t.elements()).is_none_or(|n| n >= min_elements);
            if !large && !feeds_constexpr {
                continue;
            }
            let results = evaluate(function, op, engine, &made).map_err(|why| {
                Error::Config(format!("the weight `{}` cannot be expanded: {why}", function[op].name()))
            })?;
            if feeds_constexpr {
                made.extend(function[op].outputs.iter().copied().zip(results));
                continue;
            }
            results.into_iter().next_back()
        } else {
            function.const_value(output).and_then(Value::as_tensor).cloned()
        };
        let Some(tensor) =
            tensor.filter(|t| t.elements() >= min_elements && !users.is_empty() && !feeds_constexpr)
        else {
            continue;
        };
        let values = tensor.to_f64();
        if values.is_empty() {
            continue;
        }
        let zeros = values.iter().filter(|x| x.abs() <= 1e-12).count();
        let mut sorted: Vec<u64> = values.iter().map(|x| (x + 0.0).to_bits()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let constant = |(name, value): (&str, ValueId)| {
            let op = function.defining_op(value)?;
            let is_constant = function[op].kind == OpKind::Const || function[op].kind.is_constexpr();
            is_constant.then(|| (name.to_owned(), function[value].name.clone()))
        };
        let user = |&user: &OpId| {
            let op = &function[user];
            let single = op.inputs.iter().filter_map(|i| match &i.args[..] {
                [Arg::Value(v)] => Some((i.name.as_str(), *v)),
                _ => None,
            });
            WeightUser {
                op_type: op.kind.name().to_owned(),
                name: op.name().to_owned(),
                constants: single.filter_map(constant).collect(),
            }
        };
        let kind = function[op].kind.name();
        found.push(WeightInfo {
            function: name.to_owned(),
            name: function[output].name.clone(),
            shape: tensor.shape().to_vec(),
            dtype: tensor.dtype(),
            form: if is_constexpr {
                kind.trim_start_matches("constexpr_").to_owned()
            } else {
                "dense".to_owned()
            },
            sparsity: zeros as f64 / values.len() as f64,
            unique_values: sorted.len(),
            users: users.iter().map(user).collect(),
        });
    }
    Ok(found)
}
