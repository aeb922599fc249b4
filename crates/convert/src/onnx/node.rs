//! A node while it is lowered: its inputs, attributes and outputs, each with its type checked.
//!
//! This is what the functions of the op families work with. A node [derefs](Node::deref) to the importer and to the
//! kit's [`Lowering`](crate::lower::Lowering), so that `op!(n, Relu, x = x)` pushes an op.

use std::ops::{Deref, DerefMut};

use milwright_formats::onnx::proto::attribute_proto::AttributeType;
use milwright_formats::onnx::proto::{AttributeProto, GraphProto, NodeProto};
use milwright_mil::{DType, Opset, Tensor, ValueId};

use super::elem::Elem;
use super::graph::Importer;
use super::item::{Item, Val};
use super::stored::Stored;
use crate::Error;
use crate::lower::Result;

/// An attribute, and its name at this node: a reference to an attribute of a function's call may have another one.
pub(super) type Named<'m> = (&'m str, &'m AttributeProto);

/// A node that is being lowered.
pub(super) struct Node<'a, 'm> {
    importer: &'a mut Importer<'m>,
    pub proto: &'m NodeProto,
    /// The version of the node's domain that the model imports.
    pub opset: u32,
    /// What the inputs refer to; `None` for those that are left out.
    pub inputs: Vec<Option<Item>>,
    /// The attributes, with references resolved.
    attributes: Vec<Named<'m>>,
    /// The names of attributes that were asked for.
    asked: Vec<&'static str>,
}

impl<'a, 'm> Node<'a, 'm> {
    pub fn new(
        importer: &'a mut Importer<'m>,
        proto: &'m NodeProto,
        opset: u32,
        inputs: Vec<Option<Item>>,
        attributes: Vec<Named<'m>>,
    ) -> Node<'a, 'm> {
        Node { importer, proto, opset, inputs, attributes, asked: Vec::new() }
    }

    // Inputs

    /// Whether there is an input of this number.
    pub fn has(&self, i: usize) -> bool {
        matches!(self.inputs.get(i), Some(Some(_)))
    }

    /// The input, which must be there.
    pub fn item(&self, i: usize) -> Result<&Item> {
        let missing = || Error::malformed(format!("its input {i} is missing"));
        self.inputs.get(i).and_then(Option::as_ref).ok_or_else(missing)
    }

    /// The input, which must be a tensor.
    pub fn val(&self, i: usize) -> Result<&Val> {
        match self.item(i)? {
            Item::Tensor(val) => Ok(val),
            Item::Sequence(_) => Err(Error::malformed(format!("its input {i} is a sequence, not a tensor"))),
            Item::Optional(Some(inner)) => match &**inner {
                Item::Tensor(val) => Ok(val),
                _ => Err(Error::malformed(format!("its input {i} is not a tensor"))),
            },
            Item::Optional(None) => {
                Err(Error::malformed(format!("its input {i} is an optional that is empty")))
            }
        }
    }

    /// The ONNX element type of an input.
    pub fn elem(&self, i: usize) -> Result<Elem> {
        self.val(i).map(|val| val.elem)
    }

    /// The input as a value of the program, in the carrier of its element type (fp32, fp16, int32 or bool).
    pub fn value(&mut self, i: usize) -> Result<ValueId> {
        let val = self.val(i)?.clone();
        self.importer.value_of(&val).map_err(|e| e.at(format_args!("input {i}")))
    }

    /// The input as a value of the program, if it is there.
    pub fn optional(&mut self, i: usize) -> Result<Option<ValueId>> {
        if self.has(i) { self.value(i).map(Some) } else { Ok(None) }
    }

    /// All inputs as values, none of which may be missing.
    pub fn values(&mut self) -> Result<Vec<ValueId>> {
        (0..self.inputs.len()).map(|i| self.value(i)).collect()
    }

    /// The input's elements in their carrier, if they are known at import.
    pub fn known(&self, i: usize) -> Option<Tensor> {
        self.importer.known_of(self.val(i).ok()?)
    }

    /// The input as the file stores it, if it is a constant of the file: for weights that stay compressed.
    pub fn stored(&self, i: usize) -> Option<&Stored> {
        self.val(i).ok()?.stored()
    }

    /// The input's integers, if they are known: int64 as the file has it, not narrowed.
    pub fn known_ints(&self, i: usize) -> Option<Vec<i64>> {
        self.importer.ints_of(self.val(i).ok()?)
    }

    /// The input's numbers, if they are known: double as the file has it.
    pub fn known_numbers(&self, i: usize) -> Option<Vec<f64>> {
        let val = self.val(i).ok()?;
        match val.stored() {
            Some(stored) => Some(stored.numbers()),
            None => self.importer.known_of(val).map(|t| t.to_f64()),
        }
    }

    /// The input's integers, each `None` if it is known only at run time. The input must be a vector of known length or
    /// a scalar; otherwise `None`.
    pub fn partial_ints(&mut self, i: usize) -> Option<Vec<Option<i64>>> {
        if let Some(known) = self.known_ints(i) {
            return Some(known.into_iter().map(Some).collect());
        }
        let value = self.value(i).ok()?;
        self.importer.builder.partial(value)
    }

    /// The input's integers, which must be known at import.
    ///
    /// # Errors
    /// They are known only at run time; the error names the input by `what`.
    pub fn ints_of(&self, i: usize, what: &str) -> Result<Vec<i64>> {
        self.val(i)?;
        self.known_ints(i).ok_or_else(|| {
            Error::unsupported(format!("{what} (its input {i}) are known only at run time")).with_hint(
                "make them a constant of the model: `--freeze NAME=FILE` if they are an input of it",
            )
        })
    }

    // Attributes

    fn attribute(&mut self, name: &'static str, ty: AttributeType) -> Result<Option<&'m AttributeProto>> {
        self.asked.push(name);
        let Some(&(_, found)) = self.attributes.iter().find(|(n, _)| *n == name) else { return Ok(None) };
        // Files of IR version 1 say no type.
        let stated = found.r#type();
        if stated != ty && stated != AttributeType::Undefined {
            return Err(Error::malformed(format!(
                "its attribute `{name}` is of type {}, not {}",
                stated.as_str_name().to_lowercase(),
                ty.as_str_name().to_lowercase()
            )));
        }
        Ok(Some(found))
    }

    /// Whether the node has an attribute.
    pub fn has_attribute(&self, name: &str) -> bool {
        self.attributes.iter().any(|(n, _)| *n == name)
    }

    pub fn int(&mut self, name: &'static str) -> Result<Option<i64>> {
        Ok(self.attribute(name, AttributeType::Int)?.map(AttributeProto::i))
    }

    pub fn int_or(&mut self, name: &'static str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An integer that stands for a bool.
    pub fn flag(&mut self, name: &'static str, default: bool) -> Result<bool> {
        Ok(self.int(name)?.map_or(default, |n| n != 0))
    }

    pub fn float(&mut self, name: &'static str) -> Result<Option<f32>> {
        Ok(self.attribute(name, AttributeType::Float)?.map(AttributeProto::f))
    }

    pub fn float_or(&mut self, name: &'static str, default: f32) -> Result<f32> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    pub fn ints(&mut self, name: &'static str) -> Result<Option<&'m [i64]>> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|a| &a.ints[..]))
    }

    pub fn floats(&mut self, name: &'static str) -> Result<Option<&'m [f32]>> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|a| &a.floats[..]))
    }

    pub fn text(&mut self, name: &'static str) -> Result<Option<&'m str>> {
        let Some(found) = self.attribute(name, AttributeType::String)? else { return Ok(None) };
        let text = std::str::from_utf8(found.s());
        text.map(Some).map_err(|_| Error::malformed(format!("its attribute `{name}` is not UTF-8")))
    }

    pub fn text_or(&mut self, name: &'static str, default: &'static str) -> Result<&'m str> {
        Ok(self.text(name)?.unwrap_or(default))
    }

    pub fn texts(&mut self, name: &'static str) -> Result<Option<Vec<&'m str>>> {
        let Some(found) = self.attribute(name, AttributeType::Strings)? else { return Ok(None) };
        let texts =
            found.strings.iter().map(|s| std::str::from_utf8(s)).collect::<std::result::Result<_, _>>();
        texts.map(Some).map_err(|_| Error::malformed(format!("its attribute `{name}` is not UTF-8")))
    }

    pub fn tensor(&mut self, name: &'static str) -> Result<Option<Stored>> {
        let Some(found) = self.attribute(name, AttributeType::Tensor)? else { return Ok(None) };
        let tensor =
            found.t.as_deref().ok_or_else(|| Error::malformed(format!("its attribute `{name}` is empty")))?;
        Stored::read(self.importer.file, tensor).map(Some)
    }

    pub fn sparse_tensor(&mut self, name: &'static str) -> Result<Option<Stored>> {
        let Some(found) = self.attribute(name, AttributeType::SparseTensor)? else { return Ok(None) };
        let empty = || Error::malformed(format!("its attribute `{name}` is empty"));
        Stored::read_sparse(self.importer.file, found.sparse_tensor.as_deref().ok_or_else(empty)?).map(Some)
    }

    pub fn graph(&mut self, name: &'static str) -> Result<&'m GraphProto> {
        let missing = || Error::malformed(format!("its attribute `{name}` is missing"));
        let found = self.attribute(name, AttributeType::Graph)?.ok_or_else(missing)?;
        found.g.as_deref().ok_or_else(missing)
    }

    /// Knows an attribute and does not need it.
    pub fn ignore(&mut self, name: &'static str) {
        self.asked.push(name);
    }

    /// The names of attributes that nothing asked for, which the op of this version does not have.
    pub fn unread_attributes(&self) -> Vec<&'m str> {
        let names = self.attributes.iter().map(|(name, _)| *name);
        names.filter(|name| !self.asked.contains(name)).collect()
    }

    // Outputs

    /// Whether the model uses the output of this number.
    pub fn wants(&self, i: usize) -> bool {
        self.proto.output.get(i).is_some_and(|name| !name.is_empty())
    }

    /// The number of outputs that the node lists.
    pub fn output_count(&self) -> usize {
        self.proto.output.len()
    }

    // The target

    /// The opset of the program.
    pub fn target(&self) -> Opset {
        self.importer.builder.opset()
    }

    /// Requires an opset.
    ///
    /// # Errors
    /// The program is for an older one. If the user did not choose it, the model is lowered again for this one.
    pub fn needs(&mut self, opset: Opset, what: &str) -> Result<()> {
        if self.target() >= opset {
            return Ok(());
        }
        self.importer.want(opset);
        Err(Error::unsupported(format!("{what} needs {opset}, but the program is for {}", self.target()))
            .with_hint(format!("convert for {opset}: `--target-os {opset}`")))
    }
}

impl<'m> Deref for Node<'_, 'm> {
    type Target = Importer<'m>;
    fn deref(&self) -> &Importer<'m> {
        self.importer
    }
}

impl<'m> DerefMut for Node<'_, 'm> {
    fn deref_mut(&mut self) -> &mut Importer<'m> {
        self.importer
    }
}

/// What a lowering function returns.
pub(super) trait Results {
    fn items(self, node: &Node<'_, '_>) -> Result<Vec<Item>>;
}

/// A value of the program gets the element type of the first input with the same carrier, or the usual one of its MIL
/// type (int64 for int32).
impl Results for ValueId {
    fn items(self, node: &Node<'_, '_>) -> Result<Vec<Item>> {
        Ok(vec![Item::Tensor(Val::new(elem_like(node, self), self))])
    }
}

impl Results for Vec<ValueId> {
    fn items(self, node: &Node<'_, '_>) -> Result<Vec<Item>> {
        Ok(self.into_iter().map(|v| Item::Tensor(Val::new(elem_like(node, v), v))).collect())
    }
}

impl Results for Val {
    fn items(self, _: &Node<'_, '_>) -> Result<Vec<Item>> {
        Ok(vec![self.into()])
    }
}

impl Results for Vec<Val> {
    fn items(self, _: &Node<'_, '_>) -> Result<Vec<Item>> {
        Ok(self.into_iter().map(Item::from).collect())
    }
}

impl Results for Vec<Item> {
    fn items(self, _: &Node<'_, '_>) -> Result<Vec<Item>> {
        Ok(self)
    }
}

fn elem_like(node: &Node<'_, '_>, value: ValueId) -> Elem {
    let dtype = node.builder.tensor_type(value).map_or(DType::Fp32, |ty| ty.dtype);
    let inputs = node.inputs.iter().flatten().filter_map(|item| match item {
        Item::Tensor(val) => Some(val.elem),
        _ => None,
    });
    inputs.into_iter().find(|elem| elem.carrier() == Some(dtype)).unwrap_or(Elem::of(dtype))
}
