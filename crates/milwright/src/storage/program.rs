//! Counts the constants of ML programs by how they are stored.
//!
//! A program is read from its messages, which works without the weight files, or from the IR, which is the only form
//! of a compiled model. Both are converted to the same small graph of constants.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use milwright_formats::proto::mil_spec as pb;
use milwright_mil::{Arg, DType, Dim, Function, OpKind, Program, Type, Value};

use super::Storage;

/// The constants of all functions. Shared bytes count once.
#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    /// Nodes that another node expands.
    inner: HashSet<usize>,
    /// Results of the same op, as ranges of nodes. Using one of them uses all.
    siblings: Vec<Range<usize>>,
    /// Expanded nodes that were counted.
    seen: HashSet<usize>,
    counted: HashSet<Key>,
}

struct Node {
    dtype: DType,
    shape: Vec<u64>,
    content: Content,
}

enum Content {
    /// The bytes of the constant are in the file.
    Stored(Key),
    /// A `constexpr_…` op expands the constant from other nodes, by the names of the op's parameters.
    Expanded(OpKind, Vec<(String, usize)>),
}

/// Identifies the bytes of a constant.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Blob(String, u64),
    Memory(usize, usize),
    /// Unshared bytes, by the index of the constant.
    Own(usize),
}

pub(super) fn add_messages(storage: &mut Storage, program: &pb::Program) {
    let mut graph = Graph::default();
    for function in program.functions.values() {
        let blocks = &function.block_specializations;
        if let Some(block) = blocks.get(&function.opset).or(blocks.values().next()) {
            graph.add_block(block, &mut HashMap::new());
        }
    }
    graph.count(storage);
}

pub(super) fn add_ir(storage: &mut Storage, program: &Program) {
    let mut graph = Graph::default();
    program.functions.values().for_each(|function| graph.add_function(function));
    graph.count(storage);
}

impl Graph {
    fn push(&mut self, dtype: DType, shape: Vec<u64>, content: Content) -> usize {
        self.nodes.push(Node { dtype, shape, content });
        self.nodes.len() - 1
    }

    /// Adds the result of an op that expands other constants.
    fn expand(
        &mut self,
        kind: OpKind,
        operands: Vec<(String, usize)>,
        outputs: Vec<(DType, Vec<u64>)>,
    ) -> Vec<usize> {
        self.inner.extend(operands.iter().map(|(_, n)| *n));
        let node = |(dtype, shape)| self.push(dtype, shape, Content::Expanded(kind, operands.clone()));
        let nodes: Vec<usize> = outputs.into_iter().map(node).collect();
        self.siblings.push(self.nodes.len() - nodes.len()..self.nodes.len());
        nodes
    }

    // From messages.

    fn add_block<'a>(&mut self, block: &'a pb::Block, names: &mut HashMap<&'a str, usize>) {
        for op in &block.operations {
            let kind = OpKind::from_name(&op.r#type);
            if kind == Some(OpKind::Const) {
                let value =
                    op.attributes.get("val").or_else(|| op.attributes.values().find(|v| is_tensor(v)));
                let node = value.and_then(|v| self.stored(v));
                names.extend(op.outputs.iter().zip(node).map(|(o, n)| (o.name.as_str(), n)));
                continue;
            }
            let expands = kind.filter(|kind| kind.is_constexpr());
            let mut operands = Vec::new();
            for (name, argument) in &op.inputs {
                for binding in &argument.arguments {
                    let node = match &binding.binding {
                        Some(pb::argument::binding::Binding::Name(n)) => names.get(n.as_str()).copied(),
                        Some(pb::argument::binding::Binding::Value(v)) => self.stored(v),
                        None => None,
                    };
                    operands.extend(node.map(|n| (name.clone(), n)));
                }
            }
            if let Some(kind) = expands {
                for (name, value) in &op.attributes {
                    operands.extend(self.stored(value).map(|n| (name.clone(), n)));
                }
                let types = op.outputs.iter().filter_map(|o| tensor_type(o.r#type.as_ref()));
                let nodes = self.expand(kind, operands, types.collect());
                names.extend(op.outputs.iter().zip(nodes).map(|(o, n)| (o.name.as_str(), n)));
            }
            op.blocks.iter().for_each(|b| self.add_block(b, names));
        }
    }

    fn stored(&mut self, value: &pb::Value) -> Option<usize> {
        let (dtype, shape) = tensor_type(value.r#type.as_ref())?;
        let key = match value.value.as_ref()? {
            pb::value::Value::BlobFileValue(b) => Key::Blob(b.file_name.clone(), b.offset),
            pb::value::Value::ImmediateValue(_) => Key::Own(self.nodes.len()),
        };
        Some(self.push(dtype, shape, Content::Stored(key)))
    }

    // From the IR.

    fn add_function(&mut self, function: &Function) {
        let mut nodes = HashMap::new();
        for op in function.walk() {
            let op = &function[op];
            if op.kind == OpKind::Const {
                if let Some(&output) = op.outputs.first()
                    && let Some(node) = function.const_value(output).and_then(|v| self.held(v))
                {
                    nodes.insert(output, node);
                }
                continue;
            }
            let mut operands = Vec::new();
            for input in &op.inputs {
                for arg in &input.args {
                    let node = match arg {
                        Arg::Value(v) => nodes.get(v).copied(),
                        Arg::Const(value) => self.held(value),
                    };
                    operands.extend(node.map(|n| (input.name.clone(), n)));
                }
            }
            if op.kind.is_constexpr() {
                let types = op.outputs.iter().map(|&v| ir_type(&function[v].ty));
                let types = types.map(|t| t.unwrap_or((DType::Fp32, Vec::new()))).collect();
                let expanded = self.expand(op.kind, operands, types);
                nodes.extend(op.outputs.iter().copied().zip(expanded));
            }
        }
    }

    fn held(&mut self, value: &Value) -> Option<usize> {
        let tensor = value.as_tensor()?;
        let shape = tensor.shape().iter().map(|&n| n as u64).collect();
        let bytes = if tensor.dtype() == DType::String { &[] } else { tensor.bytes() };
        let key = match bytes.len() {
            0 => Key::Own(self.nodes.len()),
            len => Key::Memory(bytes.as_ptr() as usize, len),
        };
        Some(self.push(tensor.dtype(), shape, Content::Stored(key)))
    }

    // Counting.

    fn count(mut self, storage: &mut Storage) {
        for siblings in std::mem::take(&mut self.siblings) {
            if siblings.clone().any(|n| self.inner.contains(&n)) {
                self.inner.extend(siblings);
            }
        }
        for at in 0..self.nodes.len() {
            if self.inner.contains(&at) {
                continue;
            }
            let node = &self.nodes[at];
            let (dtype, parameters) = (node.dtype, node.elements());
            let is_weight = match node.content {
                Content::Expanded(..) => dtype.is_float() || dtype == DType::Int8 || dtype == DType::UInt8,
                Content::Stored(_) => {
                    !node.shape.is_empty() && (dtype.is_float() || dtype.is_int() && dtype.bits() <= 8)
                }
            };
            let form = self.form(at, 0);
            let bytes = self.take_bytes(at, 0);
            if is_weight && bytes > 0 {
                storage.add(&form, dtype.name(), parameters, bytes);
            } else {
                storage.other_bytes = storage.other_bytes.saturating_add(bytes);
            }
        }
    }

    /// The bytes of a node and of the nodes that it expands, each counted once.
    fn take_bytes(&mut self, at: usize, depth: usize) -> u64 {
        let node = &self.nodes[at];
        match &node.content {
            Content::Stored(key) => {
                let (bytes, key) = (node.stored_bytes(), key.clone());
                if self.counted.insert(key) { bytes } else { 0 }
            }
            Content::Expanded(_, operands) => {
                if depth > MAX_DEPTH || self.seen.contains(&at) {
                    return 0;
                }
                let operands: Vec<usize> = operands.iter().map(|(_, n)| *n).collect();
                self.seen.insert(at);
                operands.into_iter().map(|n| self.take_bytes(n, depth + 1)).fold(0, u64::saturating_add)
            }
        }
    }

    /// The form that a node is stored in.
    fn form(&self, at: usize, depth: usize) -> String {
        let Content::Expanded(kind, operands) = &self.nodes[at].content else { return "dense".into() };
        let operand = |name: &str| operands.iter().find(|(n, _)| n == name).map(|(_, at)| *at);
        let of = |name: &str| operand(name).map(|at| &self.nodes[at]);
        let dtype = |name: &str| of(name).map_or("integers", |n| n.dtype.name());
        let bits = |indices: &str| match (of(indices), of("lut")) {
            (Some(i), _) if i.dtype.is_sub_byte() => i.dtype.bits() as u32,
            // Palette indices are stored in bytes, and use as many bits as the table needs.
            (_, Some(lut)) if lut.shape.len() == 1 => lut.elements().max(1).ilog2(),
            _ => 8,
        };
        let (own, data) = match kind {
            OpKind::ConstexprAffineDequantize => {
                (format!("linear {}", dtype("quantized_data")), "quantized_data")
            }
            OpKind::ConstexprBlockwiseShiftScale => (self.scaled(dtype("data"), of("scale")), "data"),
            OpKind::ConstexprSparseBlockwiseShiftScale => {
                (format!("sparse + {}", self.scaled(dtype("nonzero_data"), of("scale"))), "nonzero_data")
            }
            OpKind::ConstexprLutToDense => (format!("palettized {}-bit", bits("indices")), "indices"),
            OpKind::ConstexprLutToSparse => {
                (format!("sparse + palettized {}-bit", bits("indices_nonzero_data")), "indices_nonzero_data")
            }
            OpKind::ConstexprSparseToDense => ("sparse".to_owned(), "nonzero_data"),
            OpKind::ConstexprCast => (format!("cast from {}", dtype("source_val")), "source_val"),
            other => (other.name().trim_start_matches("constexpr_").to_owned(), ""),
        };
        if depth > MAX_DEPTH {
            return own;
        }
        let mut forms: Vec<String> = Vec::new();
        let mut add = |form: String| {
            let new: Vec<&str> = form.split(" + ").filter(|f| !forms.iter().any(|have| have == f)).collect();
            forms.extend(new.into_iter().map(str::to_owned).collect::<Vec<_>>());
        };
        add(own);
        // The operands of an op may be compressed in turn, and so may the tables of a palette.
        for (name, prefix) in [(data, ""), ("lut", "tables ")] {
            if let Some(at) =
                operand(name).filter(|&at| matches!(self.nodes[at].content, Content::Expanded(..)))
            {
                add(format!("{prefix}{}", self.form(at, depth + 1)));
            }
        }
        forms.join(" + ")
    }

    /// The form of integers with one scale per channel or tensor, or per block.
    fn scaled(&self, dtype: &str, scale: Option<&Node>) -> String {
        // Scales along more than one dimension mean blocks.
        let many = scale.map_or(0, |s| s.shape.iter().filter(|&&n| n > 1).count());
        format!("{} {dtype}", if many > 1 { "blockwise" } else { "linear" })
    }
}

/// The largest depth of nested compression to follow.
const MAX_DEPTH: usize = 8;

impl Node {
    /// The number of elements. It saturates, because shapes in a file may claim anything.
    fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |n, &d| n.saturating_mul(d))
    }

    fn stored_bytes(&self) -> u64 {
        self.elements().saturating_mul(self.dtype.bits() as u64).div_ceil(8)
    }
}

fn is_tensor(value: &pb::Value) -> bool {
    tensor_type(value.r#type.as_ref()).is_some_and(|(dtype, _)| dtype != DType::String)
}

fn tensor_type(ty: Option<&pb::ValueType>) -> Option<(DType, Vec<u64>)> {
    ir_type(&milwright_convert::ml_program::read_type(ty).ok()?)
}

fn ir_type(ty: &Type) -> Option<(DType, Vec<u64>)> {
    let tensor = ty.as_tensor()?;
    let size = |d: &Dim| d.fixed().map(|n| n as u64);
    Some((tensor.dtype, tensor.shape.iter().map(size).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forms of a program with these ops and the output `y`, as (form, dtype, parameters, bytes).
    fn forms(opset: &str, ops: &str) -> Vec<(String, String, u64, u64)> {
        let text = format!("program(1.3)\n{{\n func main<{opset}>() {{\n {ops}\n }} -> (y);\n}}");
        let storage = Storage::of_program(&milwright_mil::text::parse(&text).unwrap());
        let each = |f: crate::StorageForm| (f.form, f.dtype, f.parameters, f.bytes);
        storage.forms.into_iter().map(each).collect()
    }

    fn form(form: &str, dtype: &str, parameters: u64, bytes: u64) -> (String, String, u64, u64) {
        (form.into(), dtype.into(), parameters, bytes)
    }

    #[test]
    fn compressed_forms() {
        let linear = "tensor<fp32, [2, 6]> y = constexpr_affine_dequantize()[quantized_data = tensor<int8, [2, 6]>([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), zero_point = tensor<int8, []>(0), scale = tensor<fp32, [2]>([1, 2]), axis = tensor<int32, []>(0)];";
        // 12 bytes of data, one zero point, two scales, and the axis.
        assert_eq!(forms("ios16", linear), [form("linear int8", "fp32", 12, 12 + 1 + 8 + 4)]);
        let palette = "tensor<fp16, [4, 2]> y = constexpr_lut_to_dense()[indices = tensor<uint8, [2]>([1, 2]), lut = tensor<fp16, [4]>([0, 1, 2, 3]), shape = tensor<uint32, [2]>([4, 2])];";
        assert_eq!(forms("ios16", palette), [form("palettized 2-bit", "fp16", 8, 2 + 8 + 8)]);
        let sparse = "tensor<fp32, [3, 4]> y = constexpr_sparse_to_dense()[nonzero_data = tensor<fp32, [2]>([1, 2]), mask = tensor<uint8, [2]>([1, 2]), shape = tensor<uint32, [2]>([3, 4])];";
        assert_eq!(forms("ios16", sparse), [form("sparse", "fp32", 12, 8 + 2 + 8)]);
        let blocks = "tensor<fp32, [2, 4]> y = constexpr_blockwise_shift_scale(data = tensor<int4, [2, 4]>([0, 1, 2, 3, 4, 5, 6, 7]), scale = tensor<fp32, [2, 2]>([1, 2, 3, 4]));";
        assert_eq!(forms("ios18", blocks), [form("blockwise int4", "fp32", 8, 4 + 16)]);
        let rows = "tensor<fp32, [2, 4]> y = constexpr_blockwise_shift_scale(data = tensor<int8, [2, 4]>([0, 1, 2, 3, 4, 5, 6, 7]), scale = tensor<fp32, [2, 1]>([1, 2]));";
        assert_eq!(forms("ios18", rows), [form("linear int8", "fp32", 8, 8 + 8)]);
    }

    #[test]
    fn what_is_compressed_twice_is_one_weight() {
        let tables = "tensor<fp16, [1, 1, 2, 1]> t = constexpr_blockwise_shift_scale(data = tensor<int8, [1, 1, 2, 1]>([3, 4]), scale = tensor<fp16, [1, 1, 1, 1]>([2]));
            tensor<fp16, [2, 4]> y = constexpr_lut_to_dense(indices = tensor<uint1, [2, 4]>([0, 1, 0, 1, 0, 1, 0, 1]), lut = t);";
        let expected = form("palettized 1-bit + tables linear int8", "fp16", 8, 1 + 2 + 2);
        assert_eq!(forms("ios18", tables), [expected]);
        // The mask that the first op returns is unused, but still belongs to the weight.
        let sparse = "tensor<uint1, [2, 4]> m, tensor<fp16, [2]> v = constexpr_sparse_blockwise_shift_scale(data_mask = tensor<uint1, [2, 4]>([0, 1, 0, 1, 0, 0, 0, 0]), nonzero_data = tensor<int8, [2]>([3, 4]), scale = tensor<fp16, [1, 1]>([2]));
            tensor<fp16, [2, 4]> y = constexpr_sparse_to_dense(nonzero_data = v, mask = m);";
        assert_eq!(forms("ios18", sparse), [form("sparse + linear int8", "fp16", 8, 1 + 2 + 2)]);
    }

    #[test]
    fn plain_constants() {
        let ops = "tensor<fp16, [2, 3]> w = const()[val = tensor<fp16, [2, 3]>([1, 2, 3, 4, 5, 6])];
            tensor<int32, [2]> i = const()[val = tensor<int32, [2]>([1, 2])];
            tensor<fp16, []> e = const()[val = tensor<fp16, []>(1)];
            tensor<fp16, [2, 3]> y = identity(x = w);";
        assert_eq!(forms("ios16", ops), [form("dense", "fp16", 6, 12)]);
    }
}
