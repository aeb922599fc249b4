//! Inference of types and known values for a whole function, from the types of its inputs.

use std::borrow::Cow;

use crate::ops::{ArgView, Effect, InferError, Inferred, Known, MAX_PARTIAL, OpView};
use crate::types::size_fits;
use crate::{
    Arg, BlockId, DType, Evaluate, Function, OpId, OpKind, Tensor, TensorType, Type, Value, ValueId, ValueMap,
};

/// The results of inference for a function's values.
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
    /// The reason.
    pub error: InferError,
}

impl Default for Facts {
    fn default() -> Facts {
        Facts::new()
    }
}

impl Facts {
    /// Facts about no value yet.
    pub fn new() -> Facts {
        Facts { types: ValueMap::new(None), known: ValueMap::new(None) }
    }

    /// The inferred type of a value, or the declared type if none was inferred.
    pub fn ty<'a>(&'a self, function: &'a Function, value: ValueId) -> &'a Type {
        self.types[value].as_ref().unwrap_or(&function[value].ty)
    }

    /// The part of a value that is known before the function runs.
    pub fn known(&self, value: ValueId) -> Option<&Known> {
        self.known[value].as_ref()
    }

    /// The whole value, if it is known.
    pub fn value(&self, value: ValueId) -> Option<&Value> {
        match self.known(value)? {
            Known::Value(v) => Some(v),
            Known::Partial(_) => None,
        }
    }

    /// Records the facts about a value, as inference would. Turns a fully known shape into a constant. Forgets long
    /// partly known vectors: a shape is never that long, and each op could double their length.
    pub fn set(&mut self, value: ValueId, inferred: Inferred) {
        let Inferred { ty, known } = inferred;
        self.known[value] = match known {
            Some(Known::Partial(v)) if v.len() > MAX_PARTIAL => None,
            Some(Known::Partial(v)) => Some(complete(&ty, &v).unwrap_or(Known::Partial(v))),
            known => known,
        };
        self.types[value] = Some(ty);
    }

    /// Returns an op with the facts about its inputs.
    ///
    /// # Errors
    /// The op is newer than the function's opset.
    pub fn view<'a>(&'a self, function: &'a Function, op: OpId) -> Result<OpView<'a>, InferError> {
        let mut view = self.view_args(function, op)?;
        let block_outputs =
            |b: &BlockId| function[*b].outputs.iter().map(|v| self.ty(function, *v).clone()).collect();
        view.outputs = function[op].outputs.iter().map(|o| &function[*o].ty).collect();
        view.block_outputs = function[op].blocks.iter().map(block_outputs).collect();
        Ok(view)
    }

    /// Like [`view`](Facts::view), without the types of the op's outputs and of nested blocks' outputs.
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
            constant: op.attributes.get("val"),
            args: op.inputs.iter().map(|i| (i.name.as_str(), i.args.iter().map(arg).collect())).collect(),
            outputs: Vec::new(),
            block_outputs: Vec::new(),
        })
    }
}

/// Turns a vector of elements into an int32 tensor, if all elements are known.
fn complete(ty: &Type, elements: &[Option<i64>]) -> Option<Known> {
    let ty = ty.as_tensor().filter(|t| t.dtype == DType::Int32)?;
    let elements = elements.iter().map(|e| i32::try_from((*e)?).ok()).collect::<Option<Vec<i32>>>()?;
    let tensor = Tensor::from_vec(&ty.fixed_shape()?, elements).ok()?;
    Some(Known::Value(Value::Tensor(tensor)))
}

/// Inference runs an op only if its outputs have at most this many elements, and until all of them together have
/// `MAX_FOLDED_TOTAL`. It runs ops to find constants and shapes, not to do a program's work.
const MAX_FOLDED: usize = 1 << 20;
const MAX_FOLDED_TOTAL: usize = 1 << 26;

/// Infers the types of every value within reach of the body. `inputs` replace the declared types of the function's
/// inputs, in order; if it is empty, the declared types count. With an engine, ops on known inputs are run, except for
/// compressed constants (`constexpr_*`) and ops with large outputs.
///
/// Inference continues after an op with an error: the op's outputs keep their declared types.
pub fn infer(function: &Function, inputs: &[Type], engine: Option<&dyn Evaluate>) -> (Facts, Vec<OpError>) {
    let mut facts = Facts::new();
    for (&value, ty) in function.inputs.iter().zip(inputs) {
        facts.types[value] = Some(ty.clone());
    }
    let mut errors = Vec::new();
    let mut folder = Folder { engine, budget: MAX_FOLDED_TOTAL };
    infer_block(function, function.body, &mut folder, &mut facts, &mut errors);
    (facts, errors)
}

/// Runs ops on known inputs until the budget is used up.
struct Folder<'e> {
    engine: Option<&'e dyn Evaluate>,
    budget: usize,
}

fn infer_block(
    function: &Function,
    block: BlockId,
    folder: &mut Folder<'_>,
    facts: &mut Facts,
    errors: &mut Vec<OpError>,
) {
    for &op in &function[block].ops {
        // The depth of nesting was limited when the program was built (see the verifier's limit).
        for &nested in &function[op].blocks {
            infer_block(function, nested, folder, facts, errors);
        }
        match infer_op(function, op, facts) {
            Ok(mut outputs) => {
                folder.fold(function, op, facts, &mut outputs);
                for (&value, inferred) in function[op].outputs.iter().zip(outputs) {
                    facts.set(value, inferred);
                }
            }
            Err(error) => errors.push(OpError { op, error }),
        }
    }
}

/// Infers the element types of an op's outputs from its inputs' declared types; `None` where they do not follow.
pub fn output_dtypes(function: &Function, op: OpId) -> Option<Vec<Option<DType>>> {
    let found = infer_op(function, op, &Facts::new()).ok()?;
    Some(found.iter().map(|inferred| Some(inferred.ty.as_tensor()?.dtype)).collect())
}

/// Infers the outputs of one op, from the facts of its inputs.
pub(crate) fn infer_op(function: &Function, op: OpId, facts: &Facts) -> Result<Vec<Inferred>, InferError> {
    let view = facts.view(function, op)?;
    // Some ops compute with sizes as signed numbers.
    if let Some((name, _)) = view.args.iter().find(|(_, args)| args.iter().any(|a| !size_fits(&a.ty))) {
        return Err(InferError(format!("its input `{name}` is too large")));
    }
    view.kind.infer(&view)
}

impl Folder<'_> {
    /// Replaces inferred outputs by those that the engine computes, if it can and may.
    fn fold(&mut self, function: &Function, op: OpId, facts: &Facts, outputs: &mut [Inferred]) -> Option<()> {
        let engine = self.engine?;
        let kind = function[op].kind;
        let pure = kind.effect() == Effect::None && function[op].blocks.is_empty();
        let known = |a: &Arg| match a {
            Arg::Value(v) => facts.value(*v).is_some(),
            Arg::Const(_) => true,
        };
        let all_known = || function[op].inputs.iter().flat_map(|i| &i.args).all(known);
        let done = || outputs.iter().all(|o| matches!(o.known, Some(Known::Value(_))));
        if kind == OpKind::Const || kind.is_constexpr() || !pure || !all_known() || done() {
            return None;
        }
        let types: Vec<Type> = outputs.iter().map(|o| o.ty.clone()).collect();
        let sizes = types.iter().map(|t| t.as_tensor().map_or(Some(0), TensorType::elements));
        let size = sizes.sum::<Option<usize>>().filter(|&n| n <= MAX_FOLDED)?;
        self.budget = self.budget.checked_sub(size)?;
        let tensors = engine.evaluate(&facts.view(function, op).ok()?, &types).ok()?;
        for (output, tensor) in outputs.iter_mut().zip(tensors) {
            *output =
                Inferred { ty: Type::Tensor(tensor.ty()), known: Some(Known::Value(Value::Tensor(tensor))) };
        }
        Some(())
    }
}
