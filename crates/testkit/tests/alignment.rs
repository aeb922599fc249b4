//! Constants are read wherever they lie: protobuf messages put them at any address.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use milwright_convert::ml_program as convert;
use milwright_formats::Package;
use milwright_formats::proto::mil_spec::{self as pb, tensor_value, value};
use milwright_formats::proto::{Model, model};
use milwright_mil::{Arg, DType, Function, OpId, Program, Tensor, Value, text, verify};
use milwright_testkit::cases::{self, Case, Line, SUBJECTS};
use prost::Message as _;

/// Every case with every constant and input at an odd address.
#[test]
fn every_case_at_odd_addresses() {
    let mut failures = Vec::new();
    let mut moved = 0;
    for (name, path) in cases::files() {
        let mut case = Case::parse(&fs::read_to_string(path).unwrap()).unwrap();
        case.program.functions.values_mut().for_each(|f| moved += constants(f, &mut odd));
        case.inputs.iter_mut().for_each(|l| l.tensor = odd(&l.tensor));
        check(&name, &case, &mut failures);
    }
    assert!(moved > 1000, "only {moved} constants were moved");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Every case as a package whose constants are all in the message, at each address modulo eight.
#[test]
fn every_case_from_a_message() {
    let mut failures = Vec::new();
    for (i, (name, path)) in cases::files().into_iter().enumerate() {
        let mut case = Case::parse(&fs::read_to_string(path).unwrap()).unwrap();
        case.program = through_a_message(case.program, i % 8);
        check(&name, &case, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The ops that read weights in many ways, and an element-wise one, with up to nine elements of every float type. Every
/// weight is 1 and every input 2, so that the results are known.
#[test]
fn up_to_nine_elements() {
    let mut failures = Vec::new();
    for dtype in ["fp16", "fp32"] {
        for n in 1..=9usize {
            let ones = vec!["1"; n].join(", ");
            let weight = |shape: &str| format!("tensor<{dtype}, [{shape}]>([{ones}])");
            let zeros = format!("tensor<{dtype}, [{n}]>([{}])", vec!["0"; n].join(", "));
            let scalar = |x: &str| format!("tensor<{dtype}, []>({x})");
            let conv = "pad_type = tensor<string, []>(\"valid\"), strides = tensor<int32, [S]>([ONES]), pad = tensor<int32, [P]>([ZEROS]), \
                        dilations = tensor<int32, [S]>([ONES]), groups = tensor<int32, []>(1)";
            let one = conv
                .replace("[S]", "[1]")
                .replace("ONES", "1")
                .replace("[P]", "[2]")
                .replace("ZEROS", "0, 0");
            let two = conv
                .replace("[S]", "[2]")
                .replace("ONES", "1, 1")
                .replace("[P]", "[4]")
                .replace("ZEROS", "0, 0, 0, 0");
            // Shape of x, shape of the result, op, every element of the result.
            let programs = [
                (
                    format!("1, {n}"),
                    "1, 1".into(),
                    format!("linear(x = x, weight = {})", weight(&format!("1, {n}"))),
                    2 * n,
                ),
                (
                    "1, 1".into(),
                    format!("1, {n}"),
                    format!("linear(x = x, weight = {}, bias = {zeros})", weight(&format!("{n}, 1"))),
                    2,
                ),
                (
                    format!("1, {n}"),
                    "1, 1".into(),
                    format!("matmul(x = x, y = {})", weight(&format!("{n}, 1"))),
                    2 * n,
                ),
                (
                    format!("{n}, 1"),
                    "1, 1".into(),
                    format!("matmul(x = {}, y = x)", weight(&format!("1, {n}"))),
                    2 * n,
                ),
                (
                    format!("1, {n}, 3, 3"),
                    "1, 1, 3, 3".into(),
                    format!("conv(x = x, weight = {}, {two})", weight(&format!("1, {n}, 1, 1"))),
                    2 * n,
                ),
                (
                    "1, 1, 3, 3".into(),
                    format!("1, {n}, 3, 3"),
                    format!(
                        "conv(x = x, weight = {}, bias = {zeros}, {two})",
                        weight(&format!("{n}, 1, 1, 1"))
                    ),
                    2,
                ),
                (
                    format!("1, 1, {n}"),
                    "1, 1, 1".into(),
                    format!("conv(x = x, weight = {}, {one})", weight(&format!("1, 1, {n}"))),
                    2 * n,
                ),
                (
                    format!("1, {n}, 4"),
                    "1, 1, 4".into(),
                    format!("conv_transpose(x = x, weight = {}, {one})", weight(&format!("{n}, 1, 1"))),
                    2 * n,
                ),
                (format!("{n}"), format!("{n}"), format!("mul(x = x, y = {})", weight(&n.to_string())), 2),
                (
                    format!("1, {n}, 2"),
                    format!("1, {n}, 2"),
                    format!(
                        "batch_norm(x = x, mean = {zeros}, variance = {}, epsilon = {})",
                        weight(&n.to_string()),
                        scalar("0")
                    ),
                    2,
                ),
                (
                    format!("1, {n}, 2"),
                    format!("1, {n}, 2"),
                    format!("prelu(x = x, alpha = {})", weight(&n.to_string())),
                    2,
                ),
            ];
            for (from, to, op, expected) in programs {
                let program = format!(
                    "program(1.3)\n{{\n    func main<ios17>(tensor<{dtype}, [{from}]> x) {{\n        tensor<{dtype}, [{to}]> \
                     out = {op};\n    }} -> (out);\n}}\n"
                );
                let program = text::parse(&program).unwrap_or_else(|e| panic!("{program}: {e}"));
                let filled = |name: &str, shape: &str, value: usize| {
                    let shape: Vec<usize> = shape.split(", ").map(|n| n.parse().unwrap()).collect();
                    let values = vec![value as f32; shape.iter().product()];
                    let tensor = Tensor::from_vec(&shape, values).unwrap();
                    let dtype = if dtype == "fp16" { DType::Fp16 } else { DType::Fp32 };
                    let tensor = tensor.converted(dtype).unwrap();
                    Line { name: name.into(), tensor, tolerance: 0.02 }
                };
                for shift in 0..4 {
                    let program = through_a_message(program.clone(), shift);
                    let (inputs, expected) =
                        (vec![filled("x", &from, 2)], vec![filled("out", &to, expected)]);
                    check(
                        &format!("{dtype} {op} +{shift}"),
                        &Case { program, inputs, expected },
                        &mut failures,
                    );
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(name: &str, case: &Case, failures: &mut Vec<String>) {
    for subject in SUBJECTS {
        let run = AssertUnwindSafe(|| subject.check(name, case));
        let outcome = catch_unwind(run).unwrap_or_else(|_| Err("panicked".into()));
        failures.extend(outcome.err().map(|message| format!("{name}: {message}")));
    }
}

/// The same tensor, over bytes that begin at an odd address.
fn odd(tensor: &Tensor) -> Tensor {
    if tensor.dtype() == DType::String {
        return tensor.clone();
    }
    let block = Bytes::from([&[0, 0][..], tensor.bytes()].concat());
    let shift = if block.as_ptr().addr().is_multiple_of(2) { 1 } else { 2 };
    let block = Bytes::from([&vec![0; shift][..], tensor.bytes()].concat()).slice(shift..);
    Tensor::from_bytes(tensor.dtype(), tensor.shape(), block).unwrap()
}

/// Replaces every constant of a function; says how many.
fn constants(f: &mut Function, replace: &mut dyn FnMut(&Tensor) -> Tensor) -> usize {
    let mut count = 0;
    let mut change = |value: &mut Value| {
        if let Value::Tensor(t) = value {
            *t = replace(t);
            count += 1;
        }
    };
    let ops: Vec<OpId> = f.walk();
    for op in ops {
        for arg in f[op].inputs.iter_mut().flat_map(|i| &mut i.args) {
            if let Arg::Const(value) = arg {
                change(value);
            }
        }
        if let Some(value) = f[op].attributes.get_mut("val") {
            change(value);
        }
    }
    count
}

/// Writes a program as a message with every constant inside, and reads it from an address that is `shift` more than that
/// of an allocation.
fn through_a_message(program: Program, shift: usize) -> Program {
    let mut weights = Weights::default();
    let program = verify(program).unwrap_or_else(|e| panic!("{e}"));
    let mut program = convert::write(&program, &mut weights).unwrap();
    for function in program.functions.values_mut() {
        function.block_specializations.values_mut().for_each(|b| inline(b, &weights.0));
    }
    let r#type = Some(model::Type::MlProgram(program));
    let model = Model { specification_version: 9, r#type, ..Model::default() };
    let bytes = [vec![0; shift], model.encode_to_vec()].concat();
    let package = Package::from_bytes(Bytes::from(bytes).slice(shift..), &BTreeMap::new()).unwrap();
    convert::read(&package).unwrap()
}

/// Moves weights into the message.
fn inline(block: &mut pb::Block, weights: &[Bytes]) {
    let change = |value: &mut pb::Value| {
        if let Some(value::Value::BlobFileValue(blob)) = &value.value {
            let values = weights[blob.offset as usize].clone();
            let bytes = tensor_value::Value::Bytes(tensor_value::RepeatedBytes { values });
            let tensor = pb::TensorValue { value: Some(bytes) };
            let value_ = value::immediate_value::Value::Tensor(tensor);
            value.value = Some(value::Value::ImmediateValue(value::ImmediateValue { value: Some(value_) }));
        }
    };
    for op in &mut block.operations {
        op.attributes.values_mut().for_each(change);
        for argument in op.inputs.values_mut().flat_map(|i| &mut i.arguments) {
            if let Some(pb::argument::binding::Binding::Value(v)) = &mut argument.binding {
                change(v);
            }
        }
        op.blocks.iter_mut().for_each(|b| inline(b, weights));
    }
}

/// Keeps weights apart; the offset of one is its number.
#[derive(Default)]
struct Weights(Vec<Bytes>);

impl convert::WeightSink for Weights {
    fn store(
        &mut self,
        _: milwright_formats::blob::BlobType,
        _: usize,
        data: &[u8],
    ) -> Result<value::BlobFileValue, milwright_formats::Error> {
        self.0.push(Bytes::copy_from_slice(data));
        Ok(value::BlobFileValue { file_name: String::new(), offset: self.0.len() as u64 - 1 })
    }
}
