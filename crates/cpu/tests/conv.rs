//! Convolutions of many shapes, against plain loops. All numbers are small halves, so that sums are exact.

use milwright_cpu::{Executable, Plan, Pool, compile};
use milwright_mil::{Tensor, text, verify};

/// One convolution over two dimensions.
#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    channels: usize,
    outputs: usize,
    groups: usize,
    input: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pad: [usize; 4],
}

const CASE: Case = Case {
    batch: 1,
    channels: 3,
    outputs: 8,
    groups: 1,
    input: [9, 11],
    kernel: [3, 3],
    strides: [1, 1],
    dilations: [1, 1],
    pad: [1, 1, 1, 1],
};

fn cases() -> Vec<Case> {
    let mut cases = vec![
        CASE,
        Case { input: [33, 70], strides: [2, 2], outputs: 32, ..CASE },
        Case { input: [17, 40], kernel: [5, 7], pad: [2, 2, 3, 3], outputs: 19, batch: 2, ..CASE },
        Case { kernel: [1, 1], pad: [0; 4], channels: 20, outputs: 30, input: [7, 7], ..CASE },
        Case { kernel: [1, 1], pad: [0; 4], channels: 20, outputs: 70, input: [14, 9], ..CASE },
        Case { kernel: [1, 1], pad: [0; 4], strides: [2, 2], channels: 5, ..CASE },
        Case { kernel: [1, 1], pad: [0; 4], groups: 2, channels: 8, outputs: 6, ..CASE },
        Case { kernel: [3, 3], pad: [0; 4], channels: 4, outputs: 100, ..CASE },
        Case { groups: 4, channels: 8, outputs: 12, batch: 3, ..CASE },
        Case { dilations: [2, 3], strides: [3, 2], pad: [4, 0, 1, 5], input: [20, 23], ..CASE },
        Case { kernel: [2, 4], strides: [4, 5], dilations: [3, 1], pad: [7, 9, 0, 2], ..CASE },
        Case { kernel: [3, 39], pad: [1, 1, 19, 19], input: [5, 60], channels: 2, ..CASE },
    ];
    for strides in [[1, 1], [2, 2], [1, 3]] {
        let case = Case { channels: 6, groups: 6, outputs: 6, strides, batch: 2, ..CASE };
        cases.extend([
            case,
            Case { input: [28, 28], ..case },
            Case {
                outputs: 12,
                kernel: [5, 5],
                pad: [2, 2, 2, 2],
                dilations: [1, 2],
                input: [13, 19],
                ..case
            },
        ]);
    }
    // Lines of one to several vectors, and more channels than are computed at a time.
    for input in [[7, 7], [14, 14], [5, 30], [9, 47], [4, 56], [3, 112], [2, 150]] {
        for strides in [[1, 1], [2, 2]] {
            let channels = if input[0] == 7 { 40 } else { 3 };
            cases.push(Case {
                channels,
                groups: channels,
                outputs: channels,
                input,
                strides,
                batch: 2,
                ..CASE
            });
        }
    }
    cases
}

/// Halves from -2 to 2.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) / 3 % 9) as f32 / 2.0 - 2.0).collect()
}

fn reference(case: &Case, x: &[f32], weight: &[f32], bias: &[f32]) -> ([usize; 4], Vec<f32>) {
    let Case { batch, channels, outputs, groups, input, kernel, strides, dilations, pad } = *case;
    let size = |d: usize| {
        (input[d] + pad[2 * d] + pad[2 * d + 1] - (kernel[d] - 1) * dilations[d] - 1) / strides[d] + 1
    };
    let (height, width) = (size(0), size(1));
    let per_group = channels / groups;
    let mut out = Vec::new();
    for (n, o) in (0..batch).flat_map(|n| (0..outputs).map(move |o| (n, o))) {
        for (y, z) in (0..height).flat_map(|y| (0..width).map(move |z| (y, z))) {
            let mut sum = f64::from(bias[o]);
            for c in 0..per_group {
                for (i, j) in (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))) {
                    let iy = (y * strides[0] + i * dilations[0]).wrapping_sub(pad[0]);
                    let ix = (z * strides[1] + j * dilations[1]).wrapping_sub(pad[2]);
                    if iy < input[0] && ix < input[1] {
                        let channel = n * channels + o / (outputs / groups) * per_group + c;
                        let w = weight[((o * per_group + c) * kernel[0] + i) * kernel[1] + j];
                        sum += f64::from(x[(channel * input[0] + iy) * input[1] + ix]) * f64::from(w);
                    }
                }
            }
            out.push(sum as f32);
        }
    }
    ([batch, outputs, height, width], out)
}

#[test]
fn convolutions_agree_with_plain_loops() {
    for case in cases() {
        let Case { batch, channels, outputs, groups, input, kernel, strides, dilations, pad } = case;
        let x_shape = [batch, channels, input[0], input[1]];
        let w_shape = [outputs, channels / groups, kernel[0], kernel[1]];
        let x = numbers(x_shape.iter().product(), 1);
        let weight = numbers(w_shape.iter().product(), 2);
        let bias = numbers(outputs, 3);
        let (shape, expected) = reference(&case, &x, &weight, &bias);
        for (ty, dynamic, relu) in
            [("fp32", false, false), ("fp32", true, false), ("fp16", false, false), ("fp32", false, true)]
        {
            if dynamic && dilations != [1, 1] {
                continue;
            }
            let constants = if dynamic {
                String::new()
            } else {
                format!(
                    "tensor<{ty}, {w_shape:?}> w = const()[name = string(\"w\"), val = tensor<{ty}, {w_shape:?}>({})];",
                    nested(&w_shape, &weight)
                )
            };
            let parameter = if dynamic { format!(", tensor<{ty}, {w_shape:?}> w") } else { String::new() };
            let (made, after) = if relu {
                ("c", format!("tensor<{ty}, {shape:?}> y = relu(x = c);"))
            } else {
                ("y", String::new())
            };
            let source = format!(
                "program(1.3) {{ func main<ios17>(tensor<{ty}, {x_shape:?}> x{parameter}) {{ {constants}
                    tensor<{ty}, {shape:?}> {made} = conv(x = x, weight = w, bias = tensor<{ty}, [{outputs}]>({bias:?}),
                        strides = tensor<int32, [2]>({strides:?}), dilations = tensor<int32, [2]>({dilations:?}),
                        pad = tensor<int32, [4]>({pad:?}), pad_type = string(\"custom\"), groups = int32({groups}));
                    {after} }} -> (y); }}"
            );
            let tensor = |shape: &[usize], values: &[f32]| {
                if ty == "fp16" {
                    Tensor::from_vec(
                        shape,
                        values.iter().map(|&v| half::f16::from_f32(v)).collect::<Vec<_>>(),
                    )
                } else {
                    Tensor::from_vec(shape, values.to_vec())
                }
                .unwrap()
            };
            let mut expected = expected.clone();
            if relu {
                expected.iter_mut().for_each(|x| *x = x.max(0.0));
            }
            let mut inputs = vec![("x", tensor(&x_shape, &x))];
            if dynamic {
                inputs.push(("w", tensor(&w_shape, &weight)));
            }
            let program = verify(text::parse(&source).expect(&source)).expect("the program checks");
            let plan: Plan = compile(&program, "main", &[]).expect("the program compiles");
            for threads in [1, 3] {
                let executable = Executable::new(&plan, Pool::new(threads).unwrap()).unwrap();
                let out = executable.run(&inputs).unwrap();
                assert!(
                    out[0].1 == tensor(&shape, &expected),
                    "{case:?} {ty} dynamic {dynamic} threads {threads}"
                );
            }
        }
    }
}

fn nested(shape: &[usize], values: &[f32]) -> String {
    match shape {
        [] => format!("{:?}", values[0]),
        [n, rest @ ..] => {
            let parts: Vec<String> = values.chunks(values.len() / n).map(|v| nested(rest, v)).collect();
            format!("[{}]", parts.join(", "))
        }
    }
}
