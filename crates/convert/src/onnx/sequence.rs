//! Sequences and optionals, whose elements and presence are known at import.

use std::rc::Rc;

use milwright_mil::{Dim, ValueId};

use super::elem::Elem;
use super::item::{Item, Val};
use super::node::Node;
use super::slice::cut;
use super::stored::Stored;
use crate::Error;
use crate::lower::{Result, normalize, op};

/// The most elements of a sequence that is split off a tensor.
const MAX_PARTS: usize = 1 << 14;

fn sequence(n: &Node<'_, '_>, i: usize) -> Result<Rc<[Item]>> {
    match n.item(i)? {
        Item::Sequence(items) => Ok(Rc::clone(items)),
        Item::Optional(Some(inner)) => match &**inner {
            Item::Sequence(items) => Ok(Rc::clone(items)),
            _ => Err(Error::malformed(format!("its input {i} is not a sequence"))),
        },
        _ => Err(Error::malformed(format!("its input {i} is not a sequence"))),
    }
}

/// The position in a sequence that an input gives, which must be known.
fn position(n: &Node<'_, '_>, i: usize, len: usize) -> Result<usize> {
    let known = n.known_ints(i).and_then(|v| v.first().copied()).ok_or_else(|| {
        Error::unsupported("the position in a sequence is known only at run time").with_hint(
            "programs have no sequences of tensors of different shapes: export the model with a tensor in its place",
        )
    })?;
    normalize(known, len)
}

pub(super) fn construct(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    let items = n.inputs.iter().cloned().collect::<Option<Vec<Item>>>();
    let items = items.ok_or_else(|| Error::malformed("one of its inputs is left out"))?;
    Ok(vec![Item::Sequence(items.into())])
}

pub(super) fn empty(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    let _ = n.int("dtype")?;
    Ok(vec![Item::Sequence(Rc::new([]))])
}

pub(super) fn at(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    let items = sequence(n, 0)?;
    let at = position(n, 1, items.len())?;
    Ok(vec![items[at].clone()])
}

pub(super) fn length(n: &mut Node<'_, '_>) -> Result<Val> {
    let count = sequence(n, 0)?.len() as i64;
    Ok(Val::constant(n.label.clone(), Stored::new(Elem::Int64, milwright_mil::Tensor::scalar(count))))
}

pub(super) fn insert(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    let mut items = sequence(n, 0)?.to_vec();
    let item = n.item(1)?.clone();
    // The end is a position, too.
    let at = if n.has(2) { position_or_end(n, items.len())? } else { items.len() };
    items.insert(at, item);
    Ok(vec![Item::Sequence(items.into())])
}

fn position_or_end(n: &Node<'_, '_>, len: usize) -> Result<usize> {
    match n.known_ints(2).and_then(|v| v.first().copied()) {
        Some(at) if usize::try_from(at).ok() == Some(len) => Ok(len),
        _ => position(n, 2, len),
    }
}

pub(super) fn erase(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    let mut items = sequence(n, 0)?.to_vec();
    if items.is_empty() {
        return Err(Error::malformed("the sequence is empty"));
    }
    let at = if n.has(1) { position(n, 1, items.len())? } else { items.len() - 1 };
    items.remove(at);
    Ok(vec![Item::Sequence(items.into())])
}

/// `ConcatFromSequence`, along an axis or a new one.
pub(super) fn concat(n: &mut Node<'_, '_>) -> Result<Val> {
    let axis = n.int("axis")?.ok_or_else(|| Error::malformed("its attribute `axis` is missing"))?;
    let new_axis = n.flag("new_axis", false)?;
    let items = sequence(n, 0)?;
    let mut values = Vec::with_capacity(items.len());
    let mut elem = Elem::Float;
    for item in items.iter() {
        let Item::Tensor(val) = item else { return Err(Error::malformed("an element is not a tensor")) };
        elem = val.elem;
        let val = val.clone();
        values.push(n.value_of(&val)?);
    }
    let &first =
        values.first().ok_or_else(|| Error::unsupported("it joins the tensors of an empty sequence"))?;
    let rank = n.rank(first)? + usize::from(new_axis);
    let axis = normalize(axis, rank)?;
    if new_axis {
        for value in &mut values {
            *value = op!(n, ExpandDims, x = *value, axes = &[axis as i32][..])?;
        }
    }
    let result = match values[..] {
        [only] => only,
        _ => op!(n, Concat, values = values, axis = axis as i32)?,
    };
    Ok(Val::new(elem, result))
}

/// `SplitToSequence`: into parts of the given sizes, of one size, or of size 1.
pub(super) fn split(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    let axis = n.int_or("axis", 0)?;
    let keeps = n.flag("keepdims", true)?;
    let (elem, x) = (n.elem(0)?, n.value(0)?);
    let axis = n.axis(x, axis)?;
    let Dim::Fixed(size) = n.dim(x, axis)? else {
        return Err(Error::unsupported("it makes a sequence of a dimension of unknown size")
            .with_hint("bind that size: `--size NAME=N`"));
    };
    if size > MAX_PARTS {
        return Err(Error::unsupported(format!("it splits a dimension of size {size}")));
    }
    let has_sizes = n.has(1);
    let sizes: Vec<usize> = if has_sizes {
        let given = n.ints_of(1, "the sizes of the parts")?;
        let sizes: Option<Vec<usize>> = given.iter().map(|&s| usize::try_from(s).ok()).collect();
        let sizes = sizes.ok_or_else(|| Error::malformed(format!("parts of the sizes {given:?}")))?;
        let value = n.value(1)?;
        match (n.rank(value)?, &sizes[..]) {
            (0, &[part]) if part > 0 => (0..size.div_ceil(part)).map(|i| part.min(size - i * part)).collect(),
            (0, _) => return Err(Error::malformed("parts of size 0")),
            _ => sizes,
        }
    } else {
        vec![1; size]
    };
    if sizes.iter().sum::<usize>() != size || sizes.len() > MAX_PARTS {
        return Err(Error::malformed(format!("{} parts of a dimension of size {size}", sizes.len())));
    }
    let mut items = Vec::with_capacity(sizes.len());
    let mut begin = 0;
    for part in sizes {
        let mut value: ValueId = cut(n, x, axis, begin as i64, (begin + part) as i64)?;
        // The attribute counts only where each part has size 1 without being told so.
        if !keeps && !has_sizes {
            value = op!(n, Squeeze, x = value, axes = &[axis as i32][..])?;
        }
        items.push(Item::Tensor(Val::new(elem, value)));
        begin += part;
    }
    Ok(vec![Item::Sequence(items.into())])
}

/// `SequenceMap`: a graph for each element.
pub(super) fn map(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    let graph = n.graph("body")?;
    let items = sequence(n, 0)?;
    let others = n.inputs.get(1..).unwrap_or_default().iter().cloned().collect::<Option<Vec<Item>>>();
    let others = others.ok_or_else(|| Error::malformed("one of its inputs is left out"))?;
    let mut all: Vec<Vec<Item>> = vec![Vec::new(); graph.output.len()];
    for i in 0..items.len() {
        let mut inputs = vec![items[i].clone()];
        for other in &others {
            inputs.push(match other {
                Item::Sequence(other) => {
                    let item = other.get(i).cloned();
                    item.ok_or_else(|| Error::malformed("its sequences have different lengths"))?
                }
                other => other.clone(),
            });
        }
        let results = n.subgraph(graph, inputs)?;
        all.iter_mut().zip(results).for_each(|(all, item)| all.push(item));
    }
    Ok(all.into_iter().map(|items| Item::Sequence(items.into())).collect())
}

/// `Optional`: of an input, or empty.
pub(super) fn optional(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    n.ignore("type");
    let inner = if n.has(0) { Some(Rc::new(n.item(0)?.clone())) } else { None };
    Ok(vec![Item::Optional(inner)])
}

/// `OptionalHasElement`; since 18 also of what is no optional, or is left out.
pub(super) fn has_element(n: &mut Node<'_, '_>) -> Result<Val> {
    let has = n.has(0) && !matches!(n.item(0)?, Item::Optional(None));
    let tensor = milwright_mil::Tensor::from_bools(&[], &[has]).expect("one element fits a scalar");
    Ok(Val::constant(n.label.clone(), Stored::new(Elem::Bool, tensor)))
}

/// `OptionalGetElement`; since 18 also of what is no optional.
pub(super) fn get_element(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    match n.item(0)? {
        Item::Optional(Some(inner)) => Ok(vec![(**inner).clone()]),
        Item::Optional(None) => Err(Error::malformed("the optional is empty")),
        other => Ok(vec![other.clone()]),
    }
}
