//! Every op of the table, on inputs that nobody would think of: verifier, passes and kernels may say no, but nothing
//! may panic. `MILWRIGHT_MUTATIONS` sets how many programs are tried.
#![expect(clippy::disallowed_methods, reason = "the environment says how many programs to try")]

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use milwright_cpu::{Eager, eager};
use milwright_mil::ops::{Default, Kind, Param, Version};
use milwright_mil::text::{parse, print};
use milwright_mil::verify::Rule;
use milwright_mil::{
    Arg, Checked, DType, Dim, Function, Input, OpId, OpKind, Opset, Program, Tensor, TensorType, Type, Value,
    infer, pack_bits, passes, verify,
};

/// A small generator of pseudo-random numbers; the same sequence on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The fewest programs for each op.
const LEAST_OF_EACH: usize = 8;

#[test]
fn no_op_panics() {
    let rounds = std::env::var("MILWRIGHT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000usize);
    let mut random = Random(7);
    // So many that there are valid ones for most ops, even where few mutations are asked for.
    let rounds = rounds.max(LEAST_OF_EACH * OpKind::ALL.len());
    let (mut valid, mut ran) = (HashSet::new(), HashSet::new());
    let mut panicked = Vec::new();
    for round in 0..rounds {
        let kind = OpKind::ALL[round % OpKind::ALL.len()];
        let (function, op) = function(kind, &mut random);
        let text = print(&program(function.clone()));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let Some(checked) = with_outputs(function, op) else { return };
            valid.insert(kind);
            if run(&checked) {
                ran.insert(kind);
            }
            let text = print(&checked);
            assert_eq!(print(&parse(&text).unwrap()), text);
            passes::run(checked, passes::ALL, Some(&Eager)).unwrap();
        }));
        if outcome.is_err() {
            panicked.push(text);
        }
    }
    assert!(panicked.is_empty(), "{} programs made a panic:\n{}", panicked.len(), panicked.join("\n"));
    // Programs that are all turned down early would test little.
    let enough = valid.len() > OpKind::ALL.len() / 2 && !ran.is_empty();
    assert!(enough, "valid were only {valid:?}, and of these ran {ran:?}");
}

fn program(function: Function) -> Program {
    Program { functions: [("main".to_owned(), function)].into(), ..Program::default() }
}

/// Gives the op the outputs that inference finds, if there is nothing else wrong with it.
fn with_outputs(mut function: Function, op: OpId) -> Option<Checked> {
    let declared: Vec<Type> = match verify(program(function.clone())) {
        Ok(_) => Vec::new(),
        Err(errors) => {
            let outputs = |e: &verify::VerifyError| {
                e.rule() == Rule::Function || e.message().starts_with("the number of outputs")
            };
            if !errors.errors().iter().all(outputs) {
                return None;
            }
            let facts = infer::infer(&function, &[], None).0;
            let inferred = facts.view(&function, op).ok()?;
            function[op].kind.infer(&inferred).ok()?.into_iter().map(|i| i.ty).collect()
        }
    };
    let (kind, inputs, blocks) =
        (function[op].kind, function[op].inputs.clone(), function[op].blocks.clone());
    let attributes = function[op].attributes.clone();
    let outputs = declared.into_iter().enumerate().map(|(i, ty)| (format!("out_{i}"), ty));
    let outputs: Vec<_> = outputs.collect();
    let body = function.body;
    function[body].ops.clear();
    function[body].outputs.clear();
    let op = function.push_op(body, kind, inputs, outputs);
    function[op].blocks = blocks;
    function[op].attributes = attributes;
    let results = function[op].outputs.clone();
    function[body].outputs = if results.is_empty() { function.inputs.clone() } else { results };
    verify(program(function)).ok()
}

/// Runs the op of a function whose inputs are all constants, once with all of them known before, once with those only
/// that must be. Says whether it ran.
fn run(checked: &Checked) -> bool {
    let function = &checked.functions["main"];
    let Some(&op) = function[function.body].ops.first() else { return false };
    let op = &function[op];
    let tensor = |a: &Arg| match a {
        Arg::Const(c) => c.as_tensor().cloned(),
        Arg::Value(_) => None,
    };
    let tensors = |i: &Input| i.args.iter().map(tensor).collect::<Option<Vec<Tensor>>>();
    let Some(inputs) = op.inputs.iter().map(tensors).collect::<Option<Vec<_>>>() else { return false };
    let named: Vec<(&str, &[Tensor])> =
        op.inputs.iter().zip(&inputs).map(|(i, t)| (i.name.as_str(), t.as_slice())).collect();
    let version = op.kind.version(function.opset);
    let constant = |name: &str| version.and_then(|v| v.param(name)).is_some_and(|p| p.constant);
    if op.kind == OpKind::Const || !op.blocks.is_empty() {
        return false;
    }
    let known = eager::run_op(op.kind, function.opset, &named, |_| true);
    let unknown = eager::run_op(op.kind, function.opset, &named, constant);
    known.is_ok() || unknown.is_ok()
}

/// A function with one op on random inputs, without outputs.
fn function(kind: OpKind, random: &mut Random) -> (Function, OpId) {
    let opset = random.pick(&Opset::ALL[2..]);
    let mut f = Function::new(opset);
    let version = kind.version(opset);
    // Most ops want the same types and shapes for several inputs.
    let base = shape(random);
    let float = random.pick(&[DType::Fp16, DType::Fp32, DType::Int32]);
    let all_constant = random.one_in(2);
    let mut inputs = Vec::new();
    for param in version.into_iter().flat_map(|v| v.params()) {
        if param.default != Default::Required && random.one_in(2) {
            continue;
        }
        let count = if param.variadic { 1 + random.below(3) } else { 1 };
        let args = (0..count).map(|i| {
            let dtype = dtype(param, version, float, random);
            let name = format!("{}_{i}", param.name);
            let ty = tensor_type(dtype, &base, random);
            let shape = ty
                .fixed_shape()
                .filter(|s| s.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_some_and(|n| n <= 4096));
            match (param.kind, shape) {
                (Kind::State, _) => Arg::Value(f.add_input(name, Type::State(Box::new(ty.into())))),
                (Kind::List, _) => {
                    Arg::Value(f.add_input(name, Type::List(Box::new(ty.into()), Dim::Unknown)))
                }
                (_, Some(shape)) if all_constant && !param.constant && !random.one_in(4) => {
                    Arg::Const(Value::Tensor(tensor(dtype, &shape, random)))
                }
                _ if param.constant || all_constant || random.one_in(4) => {
                    let shape = small_shape(random);
                    Arg::Const(Value::Tensor(tensor(dtype, &shape, random)))
                }
                _ => Arg::Value(f.add_input(name, ty.into())),
            }
        });
        inputs.push(Input { name: param.name.to_owned(), args: args.collect() });
    }
    let body = f.body;
    let blocks: Vec<_> = match kind.name() {
        "cond" | "while_loop" => (0..2).map(|_| f.add_block()).collect(),
        _ => Vec::new(),
    };
    for &block in &blocks {
        if kind.name() == "while_loop" {
            let ty = tensor_type(float, &base, random);
            f.add_block_input(block, format!("in_{}", f.value_count()), ty.into());
        }
        let flag = Value::bool(random.one_in(2));
        let (op, value) = f.make_const(format!("c_{}", f.value_count()), flag);
        f[block].ops.push(op);
        let inside: Vec<_> = f[block].inputs.iter().copied().chain(f.inputs.iter().copied()).collect();
        let output = if random.one_in(2) || inside.is_empty() { value } else { random.pick(&inside) };
        f[block].outputs.push(output);
    }
    let op = f.push_op(body, kind, inputs, []);
    f[op].blocks = blocks;
    if kind == OpKind::Const {
        let dtype = random.pick(DType::ALL);
        let shape = small_shape(random);
        f[op].attributes.insert("val".into(), tensor(dtype, &shape, random).into());
    }
    (f, op)
}

fn dtype(param: &Param, version: Option<&Version>, float: DType, random: &mut Random) -> DType {
    let mut allowed = version.map(|v| v.taken(param)).unwrap_or_default();
    if allowed.is_empty() {
        allowed = DType::ALL.to_vec();
    }
    if allowed.contains(&float) && !random.one_in(8) { float } else { random.pick(&allowed) }
}

fn shape(random: &mut Random) -> Vec<Dim> {
    let sizes = [Dim::Fixed(1), Dim::Fixed(2), Dim::Fixed(3), Dim::Fixed(4), Dim::Fixed(8)];
    let odd = [Dim::Unknown, Dim::Fixed(0), Dim::Fixed(1 << 20), Dim::Fixed(usize::MAX), Dim::Fixed(1 << 31)];
    let rank = random.below(6);
    (0..rank).map(|_| if random.one_in(20) { random.pick(&odd) } else { random.pick(&sizes) }).collect()
}

fn tensor_type(dtype: DType, base: &[Dim], random: &mut Random) -> TensorType {
    TensorType::new(dtype, if random.one_in(4) { shape(random) } else { base.to_vec() })
}

/// The shape of a parameter.
fn small_shape(random: &mut Random) -> Vec<usize> {
    match random.below(8) {
        0..=2 => vec![],
        3..=5 => vec![random.below(6)],
        6 => vec![1 + random.below(3), 1 + random.below(3)],
        _ => (0..random.below(6)).map(|_| 1 + random.below(2)).collect(),
    }
}

/// A small constant: what parameters are made of, and what they should not be.
fn tensor(dtype: DType, shape: &[usize], random: &mut Random) -> Tensor {
    const WORDS: &[&str] = &[
        "valid",
        "same",
        "same_lower",
        "custom",
        "constant",
        "reflect",
        "replicate",
        "EXACT",
        "fp16",
        "int32",
        "float32",
        "linear",
        "max",
        "sum",
        "forward",
        "bidirectional",
        "tanh",
        "sigmoid",
        "relu",
        "bilinear",
        "nearest",
        "add",
        "update",
        "",
        "x",
    ];
    let numbers =
        [0i64, 0, 1, 1, 1, 2, 2, 3, -1, -2, 4, 8, 64, i64::from(i32::MAX), i64::from(i32::MIN), 1 << 20];
    let count: usize = shape.iter().product();
    if dtype == DType::String {
        let words = (0..count).map(|_| random.pick(WORDS).to_owned()).collect();
        return Tensor::from_strings(shape, words).unwrap();
    }
    let bytes: Vec<u8> = match dtype {
        DType::Fp32 => (0..count).flat_map(|_| (random.pick(&numbers) as f32).to_le_bytes()).collect(),
        DType::Int32 => (0..count).flat_map(|_| (random.pick(&numbers) as i32).to_le_bytes()).collect(),
        DType::Bool => (0..count).map(|_| random.below(2) as u8).collect(),
        // Unused bits of the last byte stay 0, as the printer would make them.
        d if d.is_sub_byte() => {
            pack_bits(&(0..count).map(|_| random.below(1 << d.bits()) as u8).collect::<Vec<_>>(), d.bits())
        }
        d => (0..d.byte_len(count).unwrap()).map(|_| random.below(256) as u8).collect(),
    };
    Tensor::from_bytes(dtype, shape, bytes.into()).unwrap()
}
