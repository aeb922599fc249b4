//! Types and known values of a whole function, from the types of its inputs.

use std::borrow::Cow;

use crate::ops::{ArgView, Effect, InferError, Inferred, Known, MAX_PARTIAL, OpView};
use crate::{Arg, BlockId, Evaluate, Function, OpId, OpKind, Type, Value, ValueId, ValueMap};

/// What inference found out about a function's values.
#[derive(Clone, Debug)]
pub struct Facts {
    types: ValueMap<Option<Type>>,
    known: ValueMap<Option<Known>>,
}

/// An op whose types could not be inferred.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct OpError {
    /// The op.
    pub op: OpId,
    /// Why.
    pub error: InferError,
}

impl Facts {
    pub(crate) fn new() -> Facts {
        Facts { types: ValueMap::new(None), known: ValueMap::new(None) }
    }

    /// The inferred type of a value, or the declared one where nothing was inferred.
    pub fn ty<'a>(&'a self, function: &'a Function, value: ValueId) -> &'a Type {
        self.types[value].as_ref().unwrap_or(&function[value].ty)
    }

    /// What is known of a value before the function runs.
    pub fn known(&self, value: ValueId) -> Option<&Known> {
        self.known[value].as_ref()
    }

    /// The whole value, where it is known.
    pub fn value(&self, value: ValueId) -> Option<&Value> {
        match self.known(value)? {
            Known::Value(v) => Some(v),
            Known::Partial(_) => None,
        }
    }

    /// Notes what a value is, as inference would. Long partial vectors are forgotten: a shape is never that long,
    /// and each op could double them.
    pub fn set(&mut self, value: ValueId, inferred: Inferred) {
        self.types[value] = Some(inferred.ty);
        self.known[value] =
            inferred.known.filter(|k| !matches!(k, Known::Partial(v) if v.len() > MAX_PARTIAL));
    }

    /// An op with what is known of its inputs.
    ///
    /// # Errors
    /// The op is newer than the function's opset.
    pub fn view<'a>(&'a self, function: &'a Function, op: OpId) -> Result<OpView<'a>, InferError> {
        let mut view = self.view_args(function, op)?;
        let block_outputs =
            |b: &BlockId| function[*b].outputs.iter().map(|v| self.ty(function, *v).clone()).collect();
        view.outputs = view.op.outputs.iter().map(|o| &function[*o].ty).collect();
        view.block_outputs = view.op.blocks.iter().map(block_outputs).collect();
        Ok(view)
    }

    /// [`view`](Facts::view) without the types of nested blocks' and the op's own outputs.
    pub(crate) fn view_args<'a>(
        &'a self,
        function: &'a Function,
        op: OpId,
    ) -> Result<OpView<'a>, InferError> {
        let op = &function[op];
        let version = op.kind.version(function.opset).ok_or_else(|| {
            let first = op.kind.versions().first().map_or("a later opset", |v| v.opset.text_name());
            InferError(format!("needs {first}, but the function's opset is {}", function.opset))
        })?;
        let arg = |a: &'a Arg| match a {
            Arg::Value(v) => {
                ArgView { ty: Cow::Borrowed(self.ty(function, *v)), known: self.known(*v).map(Cow::Borrowed) }
            }
            Arg::Const(c) => {
                ArgView { ty: Cow::Owned(c.ty()), known: Some(Cow::Owned(Known::Value(c.clone()))) }
            }
        };
        Ok(OpView {
            kind: op.kind,
            version,
            op,
            args: op.inputs.iter().map(|i| (i.name.as_str(), i.args.iter().map(arg).collect())).collect(),
            outputs: Vec::new(),
            block_outputs: Vec::new(),
        })
    }
}

/// Infers the types of every value in reach of the body. `inputs` replace the declared types of the function's
/// inputs, in order; declared types stand where it is empty. With an engine, ops on known inputs are run.
///
/// Inference goes on after an op that does not check: its outputs keep their declared types.
pub fn infer(function: &Function, inputs: &[Type], engine: Option<&dyn Evaluate>) -> (Facts, Vec<OpError>) {
    let mut facts = Facts::new();
    for (&value, ty) in function.inputs.iter().zip(inputs) {
        facts.types[value] = Some(ty.clone());
    }
    let mut errors = Vec::new();
    infer_block(function, function.body, engine, &mut facts, &mut errors);
    (facts, errors)
}

fn infer_block(
    function: &Function,
    block: BlockId,
    engine: Option<&dyn Evaluate>,
    facts: &mut Facts,
    errors: &mut Vec<OpError>,
) {
    for &op in &function[block].ops {
        // The depth of nesting is bounded by whoever built the program (see the verifier's limit).
        for &nested in &function[op].blocks {
            infer_block(function, nested, engine, facts, errors);
        }
        match infer_op(function, op, engine, facts) {
            Ok(outputs) => {
                for (&value, inferred) in function[op].outputs.iter().zip(outputs) {
                    facts.set(value, inferred);
                }
            }
            Err(error) => errors.push(OpError { op, error }),
        }
    }
}

/// Infers the outputs of one op, from the facts of its inputs.
pub(crate) fn infer_op(
    function: &Function,
    op: OpId,
    engine: Option<&dyn Evaluate>,
    facts: &Facts,
) -> Result<Vec<Inferred>, InferError> {
    let view = facts.view(function, op)?;
    let mut outputs = view.kind.infer(&view)?;
    let all_known = || view.args.iter().flat_map(|(_, a)| a).all(|a| a.value().is_some());
    if let Some(engine) = engine
        && view.kind != OpKind::Const
        && view.kind.effect() == Effect::None
        && view.op.blocks.is_empty()
        && all_known()
    {
        let types: Vec<Type> = outputs.iter().map(|o| o.ty.clone()).collect();
        if let Ok(tensors) = engine.evaluate(&view, &types) {
            for (output, tensor) in outputs.iter_mut().zip(tensors) {
                *output = Inferred {
                    ty: Type::Tensor(tensor.ty()),
                    known: Some(Known::Value(Value::Tensor(tensor))),
                };
            }
        }
    }
    Ok(outputs)
}
