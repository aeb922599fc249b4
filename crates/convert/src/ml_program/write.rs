//! Converts IR to protobuf messages.

use milwright_formats::blob::BlobType;
use milwright_formats::proto::mil_spec as pb;
use milwright_mil::{
    Arg, Attributes, BlockId, Checked, Function, Input, Op, OpKind, Opset, Tensor, Value, ValueId,
};

use super::types::write_type;
use super::values::{blob_type, write_blob, write_value};
use crate::{Error, ErrorKind};

/// Smaller constants stay in the message, as with coremltools.
const MIN_BLOB_ELEMENTS: usize = 10;

/// The destination of weights: a weight file that is being written.
pub trait WeightSink {
    /// Stores one weight and returns its place. `data` borrows from the program that is being written.
    ///
    /// # Errors
    /// The file cannot be written.
    fn store(
        &mut self,
        dtype: BlobType,
        elements: usize,
        data: &[u8],
    ) -> Result<pb::value::BlobFileValue, milwright_formats::Error>;
}

/// Writes a program as messages, and its weights to `sink`, in the order of the ops. Preserves names, types and
/// attributes.
///
/// # Errors
/// `sink` fails. The error names the function and the op.
pub fn write(program: &Checked, sink: &mut dyn WeightSink) -> Result<pb::Program, Error> {
    let mut functions = std::collections::BTreeMap::new();
    for (name, function) in &program.functions {
        let mut writer = Writer { function, sink: &mut *sink };
        let function = writer.function().map_err(|e| e.at(format_args!("function `{name}`")))?;
        functions.insert(name.clone(), function);
    }
    Ok(pb::Program {
        version: 1,
        functions,
        doc_string: String::new(),
        attributes: program.attributes.iter().map(|(k, v)| (k.clone(), write_value(v))).collect(),
    })
}

struct Writer<'a> {
    function: &'a Function,
    sink: &'a mut dyn WeightSink,
}

// Recursion over blocks is bounded: the verifier limits how deep they nest.
impl Writer<'_> {
    fn function(&mut self) -> Result<pb::Function, Error> {
        let f = self.function;
        let opset = f.opset.coreml_name().to_owned();
        let body = self.block(f.body)?;
        Ok(pb::Function {
            inputs: f.inputs.iter().map(|v| self.named(*v)).collect(),
            opset: opset.clone(),
            block_specializations: [(opset, body)].into(),
            attributes: f.attributes.iter().map(|(k, v)| (k.clone(), write_value(v))).collect(),
        })
    }

    fn block(&mut self, id: BlockId) -> Result<pb::Block, Error> {
        let block = &self.function[id];
        let mut operations = Vec::with_capacity(block.ops.len());
        for &op in &block.ops {
            let op = &self.function[op];
            let written =
                self.op(op).map_err(|e| e.at(format_args!("op `{}` ({})", op.kind.name(), op.name())))?;
            operations.push(written);
        }
        Ok(pb::Block {
            inputs: block.inputs.iter().map(|v| self.named(*v)).collect(),
            outputs: block.outputs.iter().map(|v| self.function[*v].name.clone()).collect(),
            operations,
            attributes: block.attributes.iter().map(|(k, v)| (k.clone(), write_value(v))).collect(),
        })
    }

    fn op(&mut self, op: &Op) -> Result<pb::Operation, Error> {
        let is_constexpr = op.kind.is_constexpr();
        let params_are_attributes = is_constexpr && self.function.opset <= Opset::Ios17;
        let mut attributes = self.attributes(&op.attributes, op.kind == OpKind::Const)?;
        let mut inputs = std::collections::BTreeMap::new();
        for Input { name, args } in &op.inputs {
            if params_are_attributes && let Some(value) = self.constant(args) {
                attributes.insert(name.clone(), self.value(&value)?);
                continue;
            }
            let mut arguments = Vec::with_capacity(args.len());
            for arg in args {
                arguments.push(self.binding(arg, is_constexpr)?);
            }
            inputs.insert(name.clone(), pb::Argument { arguments });
        }
        let mut blocks = Vec::with_capacity(op.blocks.len());
        for &block in &op.blocks {
            blocks.push(self.block(block)?);
        }
        let outputs = op.outputs.iter().map(|v| self.named(*v)).collect();
        Ok(pb::Operation { r#type: op.kind.name().to_owned(), inputs, outputs, blocks, attributes })
    }

    fn attributes(
        &mut self,
        attributes: &Attributes,
        may_be_weights: bool,
    ) -> Result<std::collections::BTreeMap<String, pb::Value>, Error> {
        let mut written = std::collections::BTreeMap::new();
        for (name, value) in attributes {
            let value = if may_be_weights { self.value(value)? } else { write_value(value) };
            written.insert(name.clone(), value);
        }
        Ok(written)
    }

    /// The constant that is bound, as an immediate or through a `const` op.
    fn constant(&self, args: &[Arg]) -> Option<Value> {
        match args {
            [Arg::Const(value)] => Some(value.clone()),
            [Arg::Value(v)] => self.function.const_value(*v).cloned(),
            _ => None,
        }
    }

    fn binding(&mut self, arg: &Arg, may_be_weights: bool) -> Result<pb::argument::Binding, Error> {
        use pb::argument::binding::Binding;
        let binding = match arg {
            Arg::Value(v) => Binding::Name(self.function[*v].name.clone()),
            Arg::Const(value) if may_be_weights => Binding::Value(self.value(value)?),
            Arg::Const(value) => Binding::Value(write_value(value)),
        };
        Ok(pb::argument::Binding { binding: Some(binding) })
    }

    /// Writes a constant, to the weight file if it belongs there.
    fn value(&mut self, value: &Value) -> Result<pb::Value, Error> {
        match value {
            Value::Tensor(t) => match self.weight_type(t) {
                Some(dtype) => {
                    let stored = self.sink.store(dtype, t.elements(), t.bytes());
                    let stored = stored.map_err(|e| {
                        let error =
                            Error::new(ErrorKind::Weights, format!("a weight cannot be written: {e}"));
                        match e.hint() {
                            Some(hint) => error.with_hint(hint),
                            None => error,
                        }
                    })?;
                    Ok(write_blob(t, stored))
                }
                None => Ok(write_value(value)),
            },
            _ => Ok(write_value(value)),
        }
    }

    /// Returns the type in the weight file, if the tensor belongs there. Readers expect 16-bit and 32-bit integers
    /// there from iOS18 on, and elements smaller than a byte always.
    fn weight_type(&self, t: &Tensor) -> Option<BlobType> {
        let dtype = blob_type(t.dtype())?;
        let belongs = match dtype.bits() {
            ..8 => true,
            8 => t.elements() >= MIN_BLOB_ELEMENTS,
            _ => {
                t.elements() >= MIN_BLOB_ELEMENTS
                    && (t.dtype().is_float() || self.function.opset >= Opset::Ios18)
            }
        };
        belongs.then_some(dtype)
    }

    fn named(&self, value: ValueId) -> pb::NamedValueType {
        let value = &self.function[value];
        pb::NamedValueType { name: value.name.clone(), r#type: Some(write_type(&value.ty)) }
    }
}
