//! Runs one op on given tensors.

use milwright_mil::ops::{ArgView, Known, OpView};
use milwright_mil::{DType, Evaluate, OpKind, Opset, Tensor, TensorType, Type, Value};
use std::borrow::Cow;

use crate::chain::{Chain, Source, Stage};
use crate::index::{Walk, count};
use crate::kernel::{Map, Operand, concrete, tensor_types};
use crate::memory::ask_for;
use crate::{KernelError, Memory, Pool, Prepared, Run, View, ViewMut, kernels};

/// Runs ops on constants, for inference and constant folding.
#[derive(Clone, Copy, Debug, Default)]
pub struct Eager;

impl Evaluate for Eager {
    fn evaluate(&self, op: &OpView<'_>, outputs: &[Type]) -> Result<Vec<Tensor>, String> {
        self.evaluate_within(op, outputs, &Memory::default())
    }
}

impl Eager {
    /// Like [`evaluate`](Evaluate::evaluate), within a memory budget.
    pub(crate) fn evaluate_within(
        self,
        op: &OpView<'_>,
        outputs: &[Type],
        memory: &Memory,
    ) -> Result<Vec<Tensor>, String> {
        let known = |a: &ArgView<'_>| a.value().and_then(Value::as_tensor).cloned();
        let inputs: Option<Vec<Tensor>> = op.args.iter().flat_map(|(_, a)| a).map(known).collect();
        let inputs = inputs.ok_or("its inputs are not tensors")?;
        let outputs = tensor_types(outputs).map_err(|e| e.to_string())?;
        run(op, &inputs, &outputs, &Pool::inline(), memory).map_err(|e| e.to_string())
    }
}

/// Runs an op on named inputs: infers its output types, prepares its kernel and runs it. `known` says which inputs the
/// kernel sees as constants when it is prepared.
///
/// # Errors
/// The inputs do not fit, or the op cannot be run.
pub fn run_op(
    kind: OpKind,
    opset: Opset,
    inputs: &[(&str, &[Tensor])],
    known: impl Fn(&str) -> bool,
) -> Result<Vec<Tensor>, KernelError> {
    let version = kind
        .version(opset)
        .ok_or_else(|| KernelError::invalid(format!("`{}` is newer than {opset}", kind.name())))?;
    let arg = |name: &str, t: &Tensor| ArgView {
        ty: Cow::Owned(t.ty().into()),
        known: known(name).then(|| Cow::Owned(Known::Value(t.clone().into()))),
    };
    let args = inputs.iter().map(|(n, ts)| (*n, ts.iter().map(|t| arg(n, t)).collect())).collect();
    let view = OpView { kind, version, constant: None, args, outputs: Vec::new(), block_outputs: Vec::new() };
    let types: Vec<Type> = kind.infer(&view)?.into_iter().map(|i| i.ty).collect();
    let tensors: Vec<Tensor> = inputs.iter().flat_map(|(_, ts)| ts.iter().cloned()).collect();
    run(&view, &tensors, &tensor_types(&types)?, &Pool::inline(), &Memory::default())
}

/// Prepares and runs an op on tensors, one for each slot.
///
/// # Errors
/// The op cannot be run.
pub fn run(
    op: &OpView<'_>,
    inputs: &[Tensor],
    outputs: &[TensorType],
    pool: &Pool,
    memory: &Memory,
) -> Result<Vec<Tensor>, KernelError> {
    let views: Vec<View<'_>> = inputs.iter().map(View::from).collect();
    ask_for(temporary(
        inputs.iter().map(Tensor::elements).chain(outputs.iter().filter_map(TensorType::elements)),
    ))?;
    let prepared = match kernels::pack(op, outputs)? {
        Some(packed) => kernels::prepare_packed(op, outputs, packed)?,
        None => kernels::prepare(op, outputs)?,
    };
    match prepared {
        Prepared::Dynamic(run) => run(&views, pool, memory),
        Prepared::Alias(slot) => {
            let shape = concrete(&outputs[0])?;
            Ok(vec![inputs[slot].reshaped(&shape).map_err(|e| KernelError::invalid(e.to_string()))?])
        }
        Prepared::Step(step) => {
            let mut scratch = memory.zeroed(step.scratch)?;
            fill(outputs, memory, |outputs| {
                let mut run = Run {
                    inputs: &views,
                    outputs,
                    scratch: scratch.as_mut(),
                    pool,
                    epilogue: Default::default(),
                };
                (step.run)(&mut run)
            })
        }
        Prepared::Map(map) => {
            let shape = concrete(&outputs[0])?;
            let shapes: Vec<&[usize]> = views.iter().map(View::shape).collect();
            let mut chain = Chain::default();
            chain.push(stage(map, &shapes, &shape, outputs[0].dtype));
            fill(outputs, memory, |mut outputs| {
                chain.run(&views, &mut outputs[0], pool);
                Ok(())
            })
        }
    }
}

/// Returns the most bytes that a kernel may allocate for widened copies of its operands: eight for each element.
pub(crate) fn temporary(elements: impl Iterator<Item = usize>) -> usize {
    elements.fold(0, |sum: usize, n| sum.saturating_add(n.saturating_mul(8)))
}

/// Turns a map into a stage of a chain whose inputs are the op's slots.
fn stage(map: Map, slots: &[&[usize]], shape: &[usize], dtype: DType) -> Stage {
    let source = |operand| match operand {
        Operand::Slot(slot) => Source::Input(slot, Walk::broadcast(slots[slot], shape)),
        Operand::Constant(t) => {
            let walk = Walk::broadcast(t.shape(), shape);
            Source::Constant(t, walk)
        }
    };
    Stage { simple: map.simple, run: map.run, sources: map.operands.into_iter().map(source).collect(), dtype }
}

/// Allocates tensors, lets `f` fill them, and returns them.
fn fill(
    types: &[TensorType],
    memory: &Memory,
    f: impl FnOnce(Vec<ViewMut<'_>>) -> Result<(), KernelError>,
) -> Result<Vec<Tensor>, KernelError> {
    let shapes = types.iter().map(concrete).collect::<Result<Vec<_>, _>>()?;
    let mut buffers = Vec::with_capacity(types.len());
    for (ty, shape) in types.iter().zip(&shapes) {
        let bytes = ty.elements().and_then(|n| ty.dtype.byte_len(n));
        debug_assert_eq!(ty.elements(), Some(count(shape)));
        buffers.push(memory.zeroed(
            bytes.ok_or_else(|| KernelError::Memory(format!("a result of type {ty} is too large")))?,
        )?);
    }
    let views = types.iter().zip(&shapes).zip(&mut buffers);
    f(views.map(|((t, shape), b)| ViewMut::new(t.dtype, shape, b.as_mut())).collect())?;
    let made = types.iter().zip(shapes).zip(buffers).map(|((t, shape), b)| {
        Tensor::from_bytes(t.dtype, &shape, b.into()).map_err(|e| KernelError::invalid(e.to_string()))
    });
    made.collect()
}
