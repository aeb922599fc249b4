//! Element-wise functions that run in registers compute the same bits as their general form.

use milwright_cpu::eager::run_op;
use milwright_cpu::{Executable, Pool, compile};
use milwright_mil::{DType, OpKind, Opset, Tensor, text, verify};

/// Numbers around every boundary, of a length that is no multiple of a vector.
fn numbers(dtype: DType, shift: usize) -> Tensor {
    let special = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        1.0,
        -1.0,
        6.0,
        6.000_001,
        -3.0,
        3.0,
        1e-40,
        -1e-40,
        6e-8,
        65504.0,
        70000.0,
        f32::MAX,
        f32::MIN,
    ];
    let value = |i: usize| match (i + shift) % 3 {
        0 => special[(i + shift) / 3 % special.len()],
        _ => ((i + shift) as f32 * 0.37).sin() * 8.0,
    };
    let values: Vec<f32> = (0..151).map(value).collect();
    match dtype {
        DType::Fp16 => {
            let halves: Vec<half::f16> = values.iter().map(|&x| half::f16::from_f32(x)).collect();
            Tensor::from_vec(&[151], halves).unwrap()
        }
        _ => Tensor::from_vec(&[151], values).unwrap(),
    }
}

fn bits(t: &Tensor) -> Vec<u64> {
    // One NaN is as good as another.
    t.to_f64().iter().map(|x| if x.is_nan() { u64::MAX } else { x.to_bits() }).collect()
}

/// Runs one op after another on `x` and `y`: alone, and fused in a program. `ops` are pairs of a name and arguments;
/// `v` is the result before.
fn check(ops: &[(&str, &str)]) {
    for dtype in [DType::Fp32, DType::Fp16] {
        let (x, y) = (numbers(dtype, 0), numbers(dtype, 7));
        let name = if dtype == DType::Fp16 { "fp16" } else { "fp32" };
        let mut body = String::new();
        let mut want = x.clone();
        for (i, (op, arguments)) in ops.iter().enumerate() {
            let v = if i == 0 { "x".to_owned() } else { format!("v{i}") };
            let written = arguments.replace("fp(", &format!("{name}("));
            let operand = format!("x = {v}, {written}");
            let operand = operand.trim_end_matches(", ").to_owned();
            body += &format!("tensor<{name}, [151]> v{} = {op}({operand});\n", i + 1);
            let kind = OpKind::from_name(op).unwrap();
            let mut inputs: Vec<(&str, Vec<Tensor>)> = vec![("x", vec![want.clone()])];
            for argument in arguments.split(", ").filter(|a| !a.is_empty()) {
                let (key, value) = argument.split_once(" = ").unwrap();
                let tensor = match value {
                    "y" => y.clone(),
                    "x" => x.clone(),
                    number => {
                        let number: f32 =
                            number.trim_start_matches("fp(").trim_end_matches(')').parse().unwrap();
                        match dtype {
                            DType::Fp16 => Tensor::scalar(half::f16::from_f32(number)),
                            _ => Tensor::scalar(number),
                        }
                    }
                };
                inputs.push((key, vec![tensor]));
            }
            let inputs: Vec<(&str, &[Tensor])> = inputs.iter().map(|(n, t)| (*n, &t[..])).collect();
            want = run_op(kind, Opset::Ios17, &inputs, |n| n == "alpha" || n == "beta").unwrap().remove(0);
        }
        let source = format!(
            "program(1.3) {{ func main<ios17>(tensor<{name}, [151]> x, tensor<{name}, [151]> y) {{
                {body}
            }} -> (v{}); }}",
            ops.len()
        );
        let program = verify(text::parse(&source).expect(&source)).expect(&source);
        let plan = compile(&program, "main", &[]).unwrap();
        assert_eq!(plan.steps(), 1, "{}", plan.describe());
        let got = Executable::new(&plan, Pool::inline()).unwrap().run(&[("x", x), ("y", y)]).unwrap();
        assert_eq!(bits(&got[0].1), bits(&want), "{name} {ops:?}");
    }
}

#[test]
fn alone() {
    check(&[("relu", "")]);
    check(&[("relu6", "")]);
    check(&[("clip", "alpha = fp(-1.5), beta = fp(3)")]);
    check(&[("clip", "alpha = fp(0), beta = fp(6)")]);
    check(&[("sigmoid_hard", "alpha = fp(0.2), beta = fp(0.5)")]);
    check(&[("leaky_relu", "alpha = fp(0.1)")]);
    check(&[("linear_activation", "alpha = fp(0.3), beta = fp(-1.7)")]);
    check(&[("thresholded_relu", "alpha = fp(-3)")]);
    check(&[("thresholded_relu", "alpha = fp(0.5)"), ("abs", ""), ("sqrt", ""), ("square", "")]);
    for op in ["add", "sub", "mul", "real_div", "maximum", "minimum"] {
        check(&[(op, "y = y")]);
        check(&[(op, "y = fp(0.16666667)")]);
    }
}

/// Operands that are broadcast, beside plain loops over the output, whatever else the program does.
#[test]
fn broadcast() {
    // Rows of every length around those of vectors and blocks; channels of many and few elements.
    let shapes: [(&[usize], &[usize]); 10] = [
        (&[2, 5, 7, 7], &[1, 5, 1, 1]),
        (&[2, 5, 7, 7], &[2, 5, 1, 1]),
        (&[3, 40, 16], &[40, 1]),
        (&[1, 3, 20, 31], &[1, 3, 1, 1]),
        (&[9, 300], &[300]),
        (&[70, 5], &[5]),
        (&[70, 5], &[1, 5]),
        (&[4, 513], &[4, 1]),
        (&[3, 7, 11], &[1, 1, 1]),
        (&[2, 3, 4, 5], &[3, 1, 5]),
    ];
    for (shape, other) in shapes {
        for half in [false, true] {
            let name = if half { "fp16" } else { "fp32" };
            let numbers = |shape: &[usize], seed: usize| -> Vec<f32> {
                (0..shape.iter().product()).map(|i| ((i * 7919 + seed) % 33) as f32 / 8.0 - 2.0).collect()
            };
            let tensor = |shape: &[usize], values: &[f32]| {
                let halves = || values.iter().map(|&x| half::f16::from_f32(x)).collect::<Vec<_>>();
                if half {
                    Tensor::from_vec(shape, halves())
                } else {
                    Tensor::from_vec(shape, values.to_vec())
                }
                .unwrap()
            };
            let (x, y, z) = (numbers(shape, 1), numbers(other, 5), numbers(other, 9));
            let source = format!(
                "program(1.3) {{ func main<ios17>(tensor<{name}, {shape:?}> x, tensor<{name}, {other:?}> y,
                        tensor<{name}, {other:?}> z) {{
                    tensor<{name}, {shape:?}> a = mul(x = x, y = y);
                    tensor<{name}, {shape:?}> b = add(x = a, y = z);
                    tensor<{name}, {shape:?}> c = relu(x = b);
                }} -> (c); }}"
            );
            let program = verify(text::parse(&source).expect(&source)).expect(&source);
            let plan = compile(&program, "main", &[]).unwrap();
            let inputs = [("x", tensor(shape, &x)), ("y", tensor(other, &y)), ("z", tensor(other, &z))];
            let got = Executable::new(&plan, Pool::new(2).unwrap()).unwrap().run(&inputs).unwrap();
            let padded: Vec<usize> =
                std::iter::repeat_n(1, shape.len() - other.len()).chain(other.iter().copied()).collect();
            for (i, got) in got[0].1.to_f64().into_iter().enumerate() {
                let (mut rest, mut at, mut step) = (i, 0, 1);
                for (n, m) in shape.iter().zip(&padded).rev() {
                    at += if *m == 1 { 0 } else { rest % n * step };
                    (rest, step) = (rest / n, step * m);
                }
                // Small multiples of 1/64: exact, also in fp16.
                let want = (x[i] * y[at] + z[at]).max(0.0);
                assert_eq!(got, f64::from(want), "{shape:?} {other:?} {name} at {i}");
            }
        }
    }
}

#[test]
fn functions() {
    for op in ["exp", "tanh", "sigmoid", "silu", "erf", "gelu"] {
        check(&[(op, "")]);
        check(&[("add", "y = y"), (op, ""), ("mul", "y = x")]);
        check(&[(op, ""), ("relu", ""), (op, "")]);
    }
}

#[test]
fn together() {
    // hard-swish, as converters write it.
    check(&[("add", "y = fp(3)"), ("relu6", ""), ("mul", "y = x"), ("mul", "y = fp(0.16666667)")]);
    check(&[("add", "y = y"), ("relu", "")]);
    check(&[("mul", "y = y"), ("add", "y = x"), ("leaky_relu", "alpha = fp(0.01)"), ("sub", "y = y")]);
    // More than a program may have, and a function that has no form for registers.
    check(&[("add", "y = y"); 11]);
    check(&[("add", "y = y"); 15]);
    check(&[("relu", ""), ("softsign", ""), ("add", "y = y")]);
}
