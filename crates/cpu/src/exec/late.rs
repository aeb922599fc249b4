//! Ops whose shapes are only known at run time: each is inferred, prepared and run at once.

use std::borrow::Cow;

use milwright_mil::ops::defs::{ListGather, ListLength, ListRead, ListScatter, ListWrite, MakeList};
use milwright_mil::ops::{ArgView, Bound, Known, OpDef, OpView, Operand};
use milwright_mil::{DType, Dim, OpKind, Tensor, TensorType, Type};

use super::{Executable, Frame, Slot};
use crate::kernel::tensor_types;
use crate::plan::{Node, Place};
use crate::{KernelError, Memory, Params, eager};

/// Inference gets the contents of integer tensors of at most this size, because they may be shapes or indices.
const MAX_KNOWN: usize = 64;

impl Executable {
    pub(super) fn late(&self, node: &Node, frame: &mut Frame<'_>) -> Result<(), KernelError> {
        let kind = node.kind;
        let version = kind
            .version(self.opset)
            .ok_or_else(|| KernelError::invalid(format!("it is newer than {}", self.opset)))?;
        let mut tensors = Vec::new();
        let mut args = Vec::with_capacity(node.args.len());
        for (name, values) in &node.args {
            let mut bound = Vec::with_capacity(values.len());
            for &v in values {
                let value = self.any(v, frame)?;
                let constant = matches!(self.values[v].place, Place::Constant(_));
                bound.push(arg(&value, &self.values[v].ty, constant));
                tensors.push(value);
            }
            args.push((name.as_str(), bound));
        }
        let declared = node.outputs.iter().map(|&v| &self.values[v].ty).collect();
        let view =
            OpView { kind, version, constant: None, args, outputs: declared, block_outputs: Vec::new() };
        if let Some(made) = list_op(&view, &tensors, &frame.memory)? {
            return self.put(&node.outputs, vec![made], frame);
        }
        let types: Vec<Type> = kind.infer(&view)?.into_iter().map(|i| i.ty).collect();
        let tensors: Vec<Tensor> = tensors.into_iter().map(tensor).collect::<Result<_, _>>()?;
        let made = eager::run(&view, &tensors, &tensor_types(&types)?, &self.pool, &frame.memory)?;
        self.put(&node.outputs, made.into_iter().map(Slot::Tensor).collect(), frame)
    }
}

fn arg(value: &Slot, declared: &Type, constant: bool) -> ArgView<'static> {
    match value {
        Slot::Tensor(t) => {
            let known = constant || (t.dtype().is_int() && t.elements() <= MAX_KNOWN);
            ArgView {
                ty: Cow::Owned(t.ty().into()),
                known: known.then(|| Cow::Owned(Known::Value(t.clone().into()))),
            }
        }
        Slot::List(items) => {
            let element = match (items.first(), declared) {
                (_, Type::List(t, _)) => (**t).clone(),
                (Some(t), _) => t.ty().into(),
                (None, other) => other.clone(),
            };
            ArgView { ty: Cow::Owned(Type::List(Box::new(element), Dim::Fixed(items.len()))), known: None }
        }
    }
}

fn tensor(value: Slot) -> Result<Tensor, KernelError> {
    match value {
        Slot::Tensor(t) => Ok(t),
        Slot::List(_) => Err(KernelError::invalid("a list came where a tensor is read")),
    }
}

/// Runs the list ops; `None` for other ops.
fn list_op(op: &OpView<'_>, values: &[Slot], memory: &Memory) -> Result<Option<Slot>, KernelError> {
    let slot = |slot: usize, name: &str| {
        values.get(slot).ok_or_else(|| KernelError::invalid(format!("input `{name}` is missing")))
    };
    let list = |ls: Bound<'_>| match slot(ls.slot, ls.name)? {
        Slot::List(items) => Ok(items.clone()),
        Slot::Tensor(_) => Err(KernelError::invalid("input `ls` is not a list")),
    };
    let plain = |t: Operand<'_>| tensor(slot(t.slot, t.name)?.clone());
    let indices = |t: Operand<'_>, len: usize| -> Result<Vec<usize>, KernelError> {
        let all = plain(t)?
            .to_i64()
            .ok_or_else(|| KernelError::invalid(format!("`{}` are not integers", t.name)))?;
        let check = |i: i64| {
            let fixed = if i < 0 { i.checked_add_unsigned(len as u64) } else { Some(i) };
            let fixed = fixed.and_then(|i| usize::try_from(i).ok());
            fixed
                .ok_or_else(|| KernelError::invalid(format!("index {i} is out of range for a list of {len}")))
        };
        all.into_iter().map(check).collect()
    };
    let in_range = |i: usize, len: usize| {
        if i < len {
            Ok(i)
        } else {
            Err(KernelError::invalid(format!("index {i} is out of range for a list of {len}")))
        }
    };
    Ok(Some(match op.kind {
        OpKind::MakeList => {
            let p = MakeList::params(op)?;
            let length = p.init_length.map(plain).transpose()?;
            Slot::List(make(&p, length.and_then(|n| n.to_i64()?.first().copied()), memory)?)
        }
        OpKind::ListLength => {
            let length = list(ListLength::params(op)?.ls)?.len();
            Slot::Tensor(Tensor::scalar(length as i32))
        }
        OpKind::ListWrite => {
            let p = ListWrite::params(op)?;
            let mut items = list(p.ls)?;
            let at = indices(p.index, items.len())?;
            write(&mut items, memory, *at.first().unwrap_or(&0), plain(p.value)?)?;
            Slot::List(items)
        }
        OpKind::ListRead => {
            let p = ListRead::params(op)?;
            let items = list(p.ls)?;
            let at = *indices(p.index, items.len())?.first().unwrap_or(&0);
            Slot::Tensor(items[in_range(at, items.len())?].clone())
        }
        OpKind::ListGather => {
            let p = ListGather::params(op)?;
            let items = list(p.ls)?;
            let at = indices(p.indices, items.len())?;
            let picked = at.into_iter().map(|i| Ok(items[in_range(i, items.len())?].clone()));
            stack(&picked.collect::<Result<Vec<_>, KernelError>>()?, memory)?
        }
        OpKind::ListScatter => {
            let p = ListScatter::params(op)?;
            let mut items = list(p.ls)?;
            let (at, value) = (indices(p.indices, items.len())?, plain(p.value)?);
            for (i, at) in at.into_iter().enumerate() {
                write(&mut items, memory, at, part(&value, i)?)?;
            }
            Slot::List(items)
        }
        _ => return Ok(None),
    }))
}

/// The most elements of a list.
const MAX_LIST: usize = 1 << 20;

/// Makes the elements of a new list: `init_length` tensors of zeros. If the shape of the elements is not fully known,
/// the list starts empty.
fn make(
    p: &Params<'_, MakeList>,
    init_length: Option<i64>,
    memory: &Memory,
) -> Result<Vec<Tensor>, KernelError> {
    let made = MakeList::infer(p)?;
    let Some(Type::List(element, _)) = made.first().map(|i| &i.ty) else {
        return Err(KernelError::invalid("it does not make a list"));
    };
    let element = element.as_tensor().and_then(|t| Some((t.dtype, t.fixed_shape()?)));
    let Some((dtype, shape)) = element else { return Ok(Vec::new()) };
    let length = usize::try_from(init_length.unwrap_or(1)).ok().filter(|&n| n <= MAX_LIST);
    let length = length.ok_or_else(|| KernelError::invalid("`init_length` is no length of a list"))?;
    Ok(vec![zeros(dtype, &shape, memory)?; length])
}

fn write(items: &mut Vec<Tensor>, memory: &Memory, at: usize, value: Tensor) -> Result<(), KernelError> {
    if at >= MAX_LIST {
        return Err(KernelError::invalid(format!("index {at} is too large for a list")));
    }
    // Elements that were never written read as zeros of the same shape.
    if items.len() <= at {
        items.resize(at + 1, zeros(value.dtype(), value.shape(), memory)?);
    }
    items[at] = value;
    Ok(())
}

fn zeros(dtype: DType, shape: &[usize], memory: &Memory) -> Result<Tensor, KernelError> {
    let ty = TensorType::fixed(dtype, shape);
    let bytes = ty.elements().and_then(|n| dtype.byte_len(n));
    let bytes = bytes.ok_or_else(|| KernelError::Memory(format!("{ty} is too large for a list")))?;
    let made = Tensor::from_bytes(dtype, shape, memory.zeroed(bytes)?.into());
    made.map_err(|e| KernelError::invalid(e.to_string()))
}

/// Joins tensors of one type along a new first dimension.
fn stack(items: &[Tensor], memory: &Memory) -> Result<Slot, KernelError> {
    let Some(first) = items.first() else {
        return Err(KernelError::unsupported("gathering nothing from a list"));
    };
    if items.iter().any(|t| t.ty() != first.ty()) {
        return Err(KernelError::invalid("the elements of the list have different types"));
    }
    let mut shape = vec![items.len()];
    shape.extend(first.shape());
    let mut bytes = memory.zeroed(items.len() * first.bytes().len())?;
    let each = first.bytes().len().max(1);
    bytes.as_mut().chunks_exact_mut(each).zip(items).for_each(|(to, t)| to.copy_from_slice(t.bytes()));
    let made = Tensor::from_bytes(first.dtype(), &shape, bytes.into());
    let made = made.map_err(|e| KernelError::invalid(e.to_string()))?;
    Ok(Slot::Tensor(made))
}

/// Element `i` along the first dimension.
fn part(value: &Tensor, i: usize) -> Result<Tensor, KernelError> {
    let [n, rest @ ..] = value.shape() else {
        return Err(KernelError::invalid("`value` is a scalar"));
    };
    if i >= *n {
        return Err(KernelError::invalid("`value` has fewer elements than `indices`"));
    }
    let len = value.bytes().len() / n;
    let bytes = value.shared_bytes().slice(i * len..(i + 1) * len);
    let made = Tensor::from_bytes(value.dtype(), rest, bytes);
    made.map_err(|e| KernelError::invalid(e.to_string()))
}
