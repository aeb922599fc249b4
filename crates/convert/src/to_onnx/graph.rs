//! An ONNX graph under construction.

use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use milwright_formats::onnx::proto as pb;
use milwright_formats::onnx::proto::attribute_proto::AttributeType;
use milwright_mil::infer::Facts;
use milwright_mil::ops::{Bound, InferError, Operand};
use milwright_mil::{
    Arg, BlockId, DType, Dim, Evaluate, Function, Op, OpId, Tensor, TensorType, Type, Value, ValueId,
};

use crate::Error;

pub(super) type Result<T> = std::result::Result<T, Error>;

/// The graph of a function.
pub(super) struct Graph<'a> {
    pub function: &'a Function,
    pub facts: &'a Facts,
    pub engine: Option<&'a dyn Evaluate>,
    /// The nodes of the innermost graph so far.
    pub nodes: Vec<pb::NodeProto>,
    /// Constants; those of nested graphs are here, too.
    pub tensors: Vec<pb::TensorProto>,
    /// Each state's tensor at this point of the program.
    pub states: HashMap<ValueId, String>,
    names: HashMap<ValueId, String>,
    taken: HashSet<String>,
    /// Small constants by what they are.
    small: HashMap<(i32, Vec<i64>, Bytes), String>,
    /// How deep in nested graphs the next node is.
    pub depth: usize,
}

/// An op that becomes nodes.
pub(super) struct Node<'g, 'a> {
    pub graph: &'g mut Graph<'a>,
    pub id: OpId,
}

impl<'a> Graph<'a> {
    pub fn new(function: &'a Function, facts: &'a Facts, engine: Option<&'a dyn Evaluate>) -> Graph<'a> {
        Graph {
            function,
            facts,
            engine,
            nodes: Vec::new(),
            tensors: Vec::new(),
            states: HashMap::new(),
            names: HashMap::new(),
            taken: HashSet::new(),
            small: HashMap::new(),
            depth: 0,
        }
    }

    /// A name that no value has yet: this one, or one that begins so.
    pub fn fresh(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        let mut number = 1;
        while !self.taken.insert(unique.clone()) {
            number += 1;
            unique = format!("{name}/{number}");
        }
        unique
    }

    /// Binds a value to a name.
    pub fn bind(&mut self, value: ValueId, name: String) {
        self.names.insert(value, name);
    }

    /// The name of a value. A constant is written when it is used first.
    pub fn value(&mut self, value: ValueId) -> Result<String> {
        if let Some(name) = self.names.get(&value) {
            return Ok(name.clone());
        }
        let function = self.function;
        let Some(constant) = function.const_value(value) else {
            return Err(Error::unsupported(format!("the value `{}` is no tensor", function[value].name)));
        };
        let tensor = tensor_of(constant)?.clone();
        let name = self.constant_as(&function[value].name, &tensor)?;
        self.bind(value, name.clone());
        Ok(name)
    }

    /// A constant.
    pub fn constant(&mut self, tensor: &Tensor) -> Result<String> {
        self.constant_as("constant", tensor)
    }

    fn constant_as(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        let dims: Vec<i64> = tensor.shape().iter().map(|&n| n as i64).collect();
        let code = code(tensor.dtype())?;
        Ok(self.raw(name, code, dims, tensor.shared_bytes()))
    }

    fn raw(&mut self, name: &str, code: i32, dims: Vec<i64>, bytes: Bytes) -> String {
        /// Longer constants are not looked up.
        const SMALL: usize = 64;
        let key = (bytes.len() <= SMALL).then(|| (code, dims.clone(), bytes.clone()));
        if let Some(known) = key.as_ref().and_then(|key| self.small.get(key)) {
            return known.clone();
        }
        let name = self.fresh(name);
        self.tensors.push(pb::TensorProto {
            name: Some(name.clone()),
            data_type: Some(code),
            dims,
            raw_data: Some(bytes),
            ..Default::default()
        });
        if let Some(key) = key {
            self.small.insert(key, name.clone());
        }
        name
    }

    /// A vector of int64, as shapes and axes are.
    pub fn int64s(&mut self, values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.raw("constant", INT64, vec![values.len() as i64], bytes.into())
    }

    /// An int64 scalar.
    pub fn int64(&mut self, value: i64) -> String {
        self.raw("constant", INT64, Vec::new(), value.to_le_bytes().to_vec().into())
    }

    /// A scalar of an element type.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Result<String> {
        let tensor = match dtype {
            DType::Bool => Tensor::from_bools(&[], &[value != 0.0]).ok(),
            DType::Int32 => Some(Tensor::scalar(value as i32)),
            other => Tensor::scalar(value as f32).converted(other),
        };
        let tensor = tensor.ok_or_else(|| Error::unsupported(format!("constants of type {dtype}")))?;
        self.constant(&tensor)
    }

    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> Result<&'a TensorType> {
        let facts = self.facts;
        let ty = facts.ty(self.function, value);
        ty.as_tensor().ok_or_else(|| Error::unsupported(format!("a value of type {ty}")))
    }

    /// Appends a node without attributes and returns its only output.
    pub fn add(&mut self, op: &str, inputs: &[&str]) -> String {
        self.add_with(op, inputs, Vec::new())
    }

    /// Appends a node and returns its only output.
    pub fn add_with(&mut self, op: &str, inputs: &[&str], attributes: Vec<pb::AttributeProto>) -> String {
        self.add_many(op, inputs, attributes, 1).remove(0)
    }

    /// Appends a node and returns its outputs.
    pub fn add_many(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<pb::AttributeProto>,
        outputs: usize,
    ) -> Vec<String> {
        self.add_in("", op, inputs, attributes, outputs)
    }

    /// As [`Graph::add_many`], of another domain.
    pub fn add_in(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        attributes: Vec<pb::AttributeProto>,
        outputs: usize,
    ) -> Vec<String> {
        let outputs: Vec<String> = (0..outputs).map(|_| self.fresh(&op.to_lowercase())).collect();
        self.nodes.push(pb::NodeProto {
            op_type: Some(op.to_owned()),
            domain: (!domain.is_empty()).then(|| domain.to_owned()),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: outputs.clone(),
            attribute: attributes,
            ..Default::default()
        });
        outputs
    }

    /// A node that gives a value another name.
    pub fn rename(&mut self, from: &str, to: &str) {
        self.nodes.push(pb::NodeProto {
            op_type: Some("Identity".into()),
            input: vec![from.to_owned()],
            output: vec![to.to_owned()],
            ..Default::default()
        });
    }

    /// A cast, if the element type is another one.
    pub fn cast(&mut self, x: &str, from: DType, to: DType) -> Result<String> {
        if from == to { Ok(x.to_owned()) } else { self.cast_to(x, code(to)?) }
    }

    pub fn cast_to(&mut self, x: &str, code: i32) -> Result<String> {
        Ok(self.add_with("Cast", &[x], vec![int("to", code.into())]))
    }

    /// The sizes of dimensions as a vector of int64: a constant if they are known.
    pub fn sizes(&mut self, x: &str, ty: &TensorType, axes: std::ops::Range<usize>) -> String {
        let known: Option<Vec<i64>> =
            ty.shape[axes.clone()].iter().map(|d| d.fixed().map(|n| n as i64)).collect();
        match known {
            Some(sizes) => self.int64s(&sizes),
            None => {
                let more = vec![int("start", axes.start as i64), int("end", axes.end as i64)];
                self.add_with("Shape", &[x], more)
            }
        }
    }

    /// The same elements in the shape of `ty`, of which at most one size may be open.
    pub fn reshape_to(&mut self, x: &str, ty: &TensorType) -> Result<String> {
        let open = ty.shape.iter().filter(|d| d.fixed().is_none()).count();
        if open > 1 {
            return Err(Error::unsupported("a shape with several open sizes").with_hint(FIX));
        }
        let sizes: Vec<i64> = ty.shape.iter().map(|d| d.fixed().map_or(-1, |n| n as i64)).collect();
        let empty = open == 0 && sizes.contains(&0);
        let sizes = self.int64s(&sizes);
        Ok(self.add_with("Reshape", &[x, &sizes], if empty { vec![int("allowzero", 1)] } else { Vec::new() }))
    }

    pub fn reshape(&mut self, x: &str, sizes: &[i64]) -> String {
        let sizes = self.int64s(sizes);
        self.add("Reshape", &[x, &sizes])
    }

    pub fn transpose(&mut self, x: &str, order: &[usize]) -> String {
        if order.iter().enumerate().all(|(i, &d)| i == d) {
            return x.to_owned();
        }
        self.add_with("Transpose", &[x], vec![ints("perm", order.iter().map(|&d| d as i64))])
    }

    pub fn unsqueeze(&mut self, x: &str, axes: &[i64]) -> String {
        let axes = self.int64s(axes);
        self.add("Unsqueeze", &[x, &axes])
    }

    pub fn squeeze(&mut self, x: &str, axes: &[i64]) -> String {
        let axes = self.int64s(axes);
        self.add("Squeeze", &[x, &axes])
    }

    /// Elements from `start` to before `end` along an axis.
    pub fn slice(&mut self, x: &str, axis: i64, start: i64, end: i64) -> String {
        let [start, end, axis] = [start, end, axis].map(|v| self.int64s(&[v]));
        self.add("Slice", &[x, &start, &end, &axis])
    }

    /// Elements in the opposite order along an axis.
    pub fn flip(&mut self, x: &str, axes: &[i64]) -> String {
        let all = |g: &mut Self, value: i64| g.int64s(&vec![value; axes.len()]);
        let (start, end, step) = (all(self, -1), all(self, i64::MIN), all(self, -1));
        let axes = self.int64s(axes);
        self.add("Slice", &[x, &start, &end, &axes, &step])
    }

    /// Begins a graph inside a node; what is appended goes there until [`Graph::end_nested`].
    pub fn begin_nested(&mut self) -> Vec<pb::NodeProto> {
        self.depth += 1;
        std::mem::take(&mut self.nodes)
    }

    pub fn end_nested(&mut self, outer: Vec<pb::NodeProto>) -> Vec<pb::NodeProto> {
        self.depth -= 1;
        std::mem::replace(&mut self.nodes, outer)
    }

    /// Declares a value of a graph.
    pub fn info(&self, name: &str, ty: &TensorType) -> Result<pb::ValueInfoProto> {
        info(name, ty)
    }

    /// The blocks of an op.
    pub fn blocks(&self, op: OpId) -> &'a [BlockId] {
        let function = self.function;
        &function[op].blocks
    }
}

impl<'a> Node<'_, 'a> {
    pub fn op(&self) -> &'a Op {
        let function = self.graph.function;
        &function[self.id]
    }

    /// The value of an operand.
    pub fn of(&mut self, operand: &Operand<'_>) -> Result<String> {
        self.slot(operand.slot)
    }

    /// The value of an operand in another element type.
    pub fn of_as(&mut self, operand: &Operand<'_>, dtype: DType) -> Result<String> {
        if let Some(tensor) = operand.value().filter(|t| t.dtype() != dtype && t.elements() <= 1 << 16)
            && let Some(converted) = tensor.converted(dtype)
        {
            return self.constant(&converted);
        }
        let name = self.of(operand)?;
        self.cast(&name, operand.dtype, dtype)
    }

    pub fn bound(&mut self, bound: &Bound<'_>) -> Result<String> {
        self.slot(bound.slot)
    }

    fn slot(&mut self, slot: usize) -> Result<String> {
        let op = self.op();
        let arg = op.inputs.iter().flat_map(|i| &i.args).nth(slot);
        match arg.ok_or_else(|| Error::malformed("a missing argument"))? {
            Arg::Value(value) => self.value(*value),
            Arg::Const(value) => {
                let tensor = tensor_of(value)?.clone();
                self.constant(&tensor)
            }
        }
    }

    /// The type of an output.
    pub fn out(&self, index: usize) -> Result<&'a TensorType> {
        self.ty(self.op().outputs[index])
    }

    /// A constant of an operand, reshaped so that it lies along `axis` of a tensor of `rank` dimensions.
    pub fn along(&mut self, operand: &Operand<'_>, dtype: DType, axis: usize, rank: usize) -> Result<String> {
        let vector = self.of_as(operand, dtype)?;
        let mut sizes = vec![1; rank];
        sizes[axis] = -1;
        Ok(self.reshape(&vector, &sizes[axis..]))
    }
}

impl<'a> Deref for Node<'_, 'a> {
    type Target = Graph<'a>;
    fn deref(&self) -> &Graph<'a> {
        self.graph
    }
}

impl DerefMut for Node<'_, '_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.graph
    }
}

pub(super) const FIX: &str = "give the input a fixed shape, then export it";

const INT64: i32 = pb::tensor_proto::DataType::Int64 as i32;

/// ONNX's number for an element type.
pub(super) fn code(dtype: DType) -> Result<i32> {
    use pb::tensor_proto::DataType as D;
    let code = match dtype {
        DType::Bool => D::Bool,
        DType::Fp16 => D::Float16,
        DType::Fp32 => D::Float,
        DType::Fp64 => D::Double,
        DType::Int4 => D::Int4,
        DType::Int8 => D::Int8,
        DType::Int16 => D::Int16,
        DType::Int32 => D::Int32,
        DType::Int64 => D::Int64,
        DType::UInt4 => D::Uint4,
        DType::UInt8 => D::Uint8,
        DType::UInt16 => D::Uint16,
        DType::UInt32 => D::Uint32,
        DType::UInt64 => D::Uint64,
        DType::String | DType::Bf16 | DType::UInt1 | DType::UInt2 | DType::UInt3 | DType::UInt6 => {
            return Err(Error::unsupported(format!("tensors of type {dtype}")));
        }
    };
    Ok(code as i32)
}

/// Declares a value. Open sizes are named after the value and the dimension.
pub(super) fn info(name: &str, ty: &TensorType) -> Result<pb::ValueInfoProto> {
    use pb::tensor_shape_proto::dimension::Value as Size;
    let dims = ty.shape.iter().enumerate().map(|(axis, dim)| pb::tensor_shape_proto::Dimension {
        value: Some(match dim {
            Dim::Fixed(n) => Size::DimValue(*n as i64),
            Dim::Unknown => Size::DimParam(format!("{name}.{axis}")),
        }),
        ..Default::default()
    });
    let tensor = pb::type_proto::Tensor {
        elem_type: Some(code(ty.dtype)?),
        shape: Some(pb::TensorShapeProto { dim: dims.collect() }),
    };
    Ok(pb::ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn tensor_of(value: &Value) -> Result<&Tensor> {
    value.as_tensor().ok_or_else(|| Error::unsupported(format!("a constant of type {}", value.ty())))
}

/// The type of a tensor.
pub(super) fn tensor_type(ty: &Type) -> Result<&TensorType> {
    ty.as_tensor().ok_or_else(|| Error::unsupported(format!("a value of type {ty}")))
}

fn attribute(name: &str, kind: AttributeType) -> pb::AttributeProto {
    pb::AttributeProto { name: Some(name.to_owned()), r#type: Some(kind as i32), ..Default::default() }
}

pub(super) fn int(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto { i: Some(i), ..attribute(name, AttributeType::Int) }
}

pub(super) fn ints(name: &str, values: impl IntoIterator<Item = i64>) -> pb::AttributeProto {
    pb::AttributeProto { ints: values.into_iter().collect(), ..attribute(name, AttributeType::Ints) }
}

pub(super) fn float(name: &str, f: f32) -> pb::AttributeProto {
    pb::AttributeProto { f: Some(f), ..attribute(name, AttributeType::Float) }
}

pub(super) fn floats(name: &str, values: Vec<f32>) -> pb::AttributeProto {
    pb::AttributeProto { floats: values, ..attribute(name, AttributeType::Floats) }
}

pub(super) fn text(name: &str, s: &str) -> pb::AttributeProto {
    let s = Some(Bytes::copy_from_slice(s.as_bytes()));
    pb::AttributeProto { s, ..attribute(name, AttributeType::String) }
}

pub(super) fn texts(name: &str, values: impl IntoIterator<Item = String>) -> pb::AttributeProto {
    let strings = values.into_iter().map(|s| Bytes::from(s.into_bytes())).collect();
    pb::AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

/// A tensor attribute of one element.
pub(super) fn element(name: &str, tensor: &Tensor) -> Result<pb::AttributeProto> {
    let tensor = pb::TensorProto {
        data_type: Some(code(tensor.dtype())?),
        dims: vec![1],
        raw_data: Some(tensor.shared_bytes()),
        ..Default::default()
    };
    Ok(pb::AttributeProto { t: Some(Box::new(tensor)), ..attribute(name, AttributeType::Tensor) })
}

pub(super) fn graph(name: &str, graph: pb::GraphProto) -> pb::AttributeProto {
    pb::AttributeProto { g: Some(Box::new(graph)), ..attribute(name, AttributeType::Graph) }
}

/// What inference says of an op that breaks its rules.
pub(super) fn broken(error: InferError) -> Error {
    Error::malformed(error.0)
}
