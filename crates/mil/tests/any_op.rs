//! Every op of the table, on inputs that nobody would think of: the verifier may say no, but nothing may panic.
//! `MILWRIGHT_MUTATIONS` sets how many programs are tried.
#![expect(clippy::disallowed_methods, reason = "the environment says how many programs to try")]

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use milwright_mil::ops::{Default, Kind, Param};
use milwright_mil::text::{parse, print};
use milwright_mil::{
    Arg, DType, Dim, Function, Input, OpKind, Opset, Program, Tensor, TensorType, Type, Value, passes, verify,
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

#[test]
fn no_op_panics() {
    let rounds =
        std::env::var("MILWRIGHT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000usize);
    let mut random = Random(7);
    let mut good = HashSet::new();
    let mut panicked = Vec::new();
    for round in 0..rounds.max(OpKind::ALL.len()) {
        let kind = OpKind::ALL[round % OpKind::ALL.len()];
        let program = program(kind, &mut random);
        let text = print(&program);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            assert_eq!(print(&parse(&text).unwrap()), text);
            let Ok(checked) = verify(program) else { return false };
            passes::run(checked, passes::ALL, None).unwrap();
            true
        }));
        match outcome {
            Ok(true) => drop(good.insert(kind)),
            Ok(false) => {}
            Err(_) => panicked.push(text),
        }
    }
    assert!(panicked.is_empty(), "{} programs made a panic:\n{}", panicked.len(), panicked.join("\n"));
    // Programs that are all turned down early would test little.
    assert!(good.len() > OpKind::ALL.len() / 2, "only these were ever valid: {good:?}");
}

/// A function with one op and random inputs; its outputs are declared as what inference is likely to find.
fn program(kind: OpKind, random: &mut Random) -> Program {
    let opset = random.pick(&Opset::ALL[2..]);
    let mut f = Function::new(opset);
    let params = kind.version(opset).map_or(&[][..], |v| v.params);
    let types = kind.version(opset).map_or(&[][..], |v| v.types);
    // Most ops want the same types and shapes for several inputs.
    let base = shape(random);
    let float = random.pick(&[DType::Fp16, DType::Fp32, DType::Int32]);
    let mut inputs = Vec::new();
    for param in params {
        if param.default != Default::Required && random.one_in(2) {
            continue;
        }
        let count = if param.variadic { 1 + random.below(3) } else { 1 };
        let args = (0..count).map(|i| {
            let dtype = dtype(param, types, float, random);
            let constant = param.constant || random.one_in(4);
            let name = format!("{}_{i}", param.name);
            match (param.kind, dtype) {
                (Kind::State, _) => {
                    let ty = Type::State(Box::new(tensor_type(float, &base, random)));
                    Arg::Value(f.add_input(name, ty))
                }
                (Kind::List, _) => {
                    let ty = Type::List(Box::new(tensor_type(float, &base, random)), Dim::Unknown);
                    Arg::Value(f.add_input(name, ty))
                }
                (_, dtype) if constant => Arg::Const(Value::Tensor(tensor(dtype, random))),
                (_, dtype) => {
                    let ty = tensor_type(dtype, &base, random);
                    Arg::Value(f.add_input(name, ty))
                }
            }
        });
        inputs.push(Input { name: param.name.to_owned(), args: args.collect() });
    }
    let outputs = (0..1 + random.below(2)).map(|i| (format!("out_{i}"), tensor_type(float, &base, random)));
    let outputs: Vec<_> = outputs.collect();
    let body = f.body;
    let blocks: Vec<_> = match kind.name() {
        "cond" | "while_loop" => (0..2).map(|_| f.add_block()).collect(),
        _ => Vec::new(),
    };
    for &block in &blocks {
        if kind.name() == "while_loop" {
            let ty = tensor_type(float, &base, random);
            f.add_block_input(block, format!("in_{}", f.value_count()), ty);
        }
        let flag = Value::bool(random.one_in(2));
        let (op, value) = f.make_const(format!("c_{}", f.value_count()), flag);
        f[block].ops.push(op);
        let inside: Vec<_> = f[block].inputs.iter().copied().chain(f.inputs.iter().copied()).collect();
        let output = if random.one_in(2) || inside.is_empty() { value } else { random.pick(&inside) };
        f[block].outputs.push(output);
    }
    let op = f.push_op(body, kind, inputs, outputs);
    f[op].blocks = blocks;
    if kind == OpKind::Const {
        let value = tensor(random.pick(DType::ALL), random);
        let output = f[op].outputs[0];
        f[output].ty = Type::Tensor(value.ty());
        f[op].attributes.insert("val".into(), value.into());
    }
    f[body].outputs = f[op].outputs.clone();
    Program { functions: [("main".to_owned(), f)].into(), ..Program::default() }
}

fn dtype(param: &Param, types: &[(&str, &[DType])], float: DType, random: &mut Random) -> DType {
    let allowed = match param.kind {
        Kind::Of(dtypes) => dtypes,
        Kind::Var(var) => types.iter().find(|(name, _)| *name == var).map_or(DType::ALL, |(_, d)| d),
        _ => DType::ALL,
    };
    if allowed.contains(&float) && !random.one_in(8) { float } else { random.pick(allowed) }
}

fn shape(random: &mut Random) -> Vec<Dim> {
    let sizes = [Dim::Fixed(1), Dim::Fixed(2), Dim::Fixed(3), Dim::Fixed(4), Dim::Fixed(8)];
    let odd = [Dim::Unknown, Dim::Fixed(0), Dim::Fixed(1 << 20), Dim::Fixed(usize::MAX), Dim::Fixed(1 << 31)];
    let rank = random.below(6);
    (0..rank).map(|_| if random.one_in(20) { random.pick(&odd) } else { random.pick(&sizes) }).collect()
}

fn tensor_type(dtype: DType, base: &[Dim], random: &mut Random) -> Type {
    let shape = if random.one_in(4) { shape(random) } else { base.to_vec() };
    Type::Tensor(TensorType::new(dtype, shape))
}

/// A small constant: what parameters are made of, and what they should not be.
fn tensor(dtype: DType, random: &mut Random) -> Tensor {
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
    let shape: Vec<usize> = match random.below(8) {
        0..=2 => vec![],
        3..=5 => vec![random.below(6)],
        6 => vec![1 + random.below(3), 1 + random.below(3)],
        _ => (0..random.below(6)).map(|_| 1 + random.below(2)).collect(),
    };
    let count: usize = shape.iter().product();
    if dtype == DType::String {
        let words = (0..count).map(|_| random.pick(WORDS).to_owned()).collect();
        return Tensor::from_strings(&shape, words).unwrap();
    }
    let bytes: Vec<u8> = match dtype {
        DType::Fp32 => (0..count).flat_map(|_| (random.pick(&numbers) as f32).to_le_bytes()).collect(),
        DType::Int32 => (0..count).flat_map(|_| (random.pick(&numbers) as i32).to_le_bytes()).collect(),
        DType::Bool => (0..count).map(|_| random.below(2) as u8).collect(),
        // Unused bits of the last byte stay 0, as the printer would make them.
        d if d.is_sub_byte() => milwright_mil::pack_bits(
            &(0..count).map(|_| random.below(1 << d.bits()) as u8).collect::<Vec<_>>(),
            d.bits(),
        ),
        d => (0..d.byte_len(count).unwrap()).map(|_| random.below(256) as u8).collect(),
    };
    Tensor::from_bytes(dtype, &shape, bytes.into()).unwrap()
}
