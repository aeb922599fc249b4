//! Weights that stay compressed give the same bits as expanded ones, and products of a few rows the same as tiles.

use milwright_cpu::{Executable, Pool, compile};
use milwright_mil::{Tensor, text, verify};

const COLUMNS: usize = 70;
const STEPS: usize = 48;

fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 40
    }
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|x| x.to_string()).collect::<Vec<_>>().join(", ")
}

/// Runs `linear` with the weight that `constexpr` makes on `rows` equal rows. Returns each row's results as bits, and
/// what the plan says of the step.
fn run(opset: &str, dtype: &str, constexpr: &str, rows: usize) -> (Vec<Vec<u64>>, String, u64) {
    let source = format!(
        "program(1.3) {{ func main<{opset}>(tensor<{dtype}, [{rows}, {STEPS}]> x) {{
            tensor<{dtype}, [{COLUMNS}, {STEPS}]> w = {constexpr};
            tensor<{dtype}, [{rows}, {COLUMNS}]> y = linear(x = x, weight = w);
        }} -> (y); }}"
    );
    let program = verify(text::parse(&source).expect(&source)).expect(&source);
    let plan = compile(&program, "main", &[]).unwrap();
    let mut number = numbers(5);
    let row: Vec<f32> = (0..STEPS).map(|_| number() as f32 / (1 << 23) as f32 - 1.0).collect();
    let all = row.repeat(rows);
    let x = if dtype == "fp16" {
        Tensor::from_vec(&[rows, STEPS], all.iter().map(|&x| half::f16::from_f32(x)).collect()).unwrap()
    } else {
        Tensor::from_vec(&[rows, STEPS], all).unwrap()
    };
    let executable = Executable::new(&plan, Pool::new(2).unwrap()).unwrap();
    let y = executable.run(&[("x", x)]).unwrap().remove(0).1.to_f64();
    assert!(y.iter().any(|&x| x != 0.0));
    let names = executable.step_names().into_iter().map(|(ops, _)| ops).collect::<Vec<_>>().join("; ");
    (
        y.chunks(COLUMNS).map(|row| row.iter().map(|x| x.to_bits()).collect()).collect(),
        names,
        plan.weight_bytes(),
    )
}

/// Compares one row, three rows and nine rows. `bytes` is the most that the weight may take in the plan for one row.
fn check(opset: &str, constexpr: &str, bytes: usize, compressed: bool) {
    for dtype in ["fp32", "fp16"] {
        let constexpr = constexpr.replace("FP", dtype);
        let (tiles, name, _) = run(opset, dtype, &constexpr, 9);
        assert!(!name.contains("compressed"), "{name}");
        for rows in [1, 3] {
            let (flat, name, weight) = run(opset, dtype, &constexpr, rows);
            assert_eq!(name.contains("compressed"), compressed, "{dtype} {name} {constexpr:.80}");
            assert!(!compressed || weight <= bytes as u64, "{weight} bytes: {constexpr:.80}");
            for row in &flat {
                assert_eq!(row, &tiles[0], "{dtype} {rows} {constexpr:.80}");
            }
        }
    }
}

#[test]
fn as_if_expanded() {
    let mut number = numbers(11);
    let mut codes = |low: i64, count: u64, len: usize| {
        list((0..len).map(|_| low + (number() % count) as i64).collect::<Vec<_>>().into_iter())
    };
    let mut scale = numbers(3);
    let mut scales = |len: usize| {
        list((0..len).map(|_| 0.001 + scale() as f32 / (1u64 << 31) as f32).collect::<Vec<_>>().into_iter())
    };
    let all = COLUMNS * STEPS;
    let shape = format!("[{COLUMNS}, {STEPS}]");
    // Columns are padded to whole panels, at most 96.
    let most = |bits: usize, floats: usize| 96 * STEPS * bits / 8 + 96 * floats * 4 + 256;
    for (dtype, low, count, bits) in
        [("int8", -128, 256, 8), ("uint8", 0, 256, 8), ("int4", -8, 16, 4), ("uint4", 0, 16, 4)]
    {
        let data = format!("data = tensor<{dtype}, {shape}>([{}])", codes(low, count, all));
        for blocks in [1, 3, 6] {
            let scale = format!("scale = tensor<FP, [{COLUMNS}, {blocks}]>([{}])", scales(COLUMNS * blocks));
            let op = format!("constexpr_blockwise_shift_scale({data}, {scale})");
            check("ios18", &op, most(bits, blocks), true);
            let offset = format!(
                "offset = tensor<{dtype}, [{COLUMNS}, {blocks}]>([{}])",
                codes(low, count, COLUMNS * blocks)
            );
            let op = format!("constexpr_blockwise_shift_scale({data}, {scale}, {offset})");
            check("ios18", &op, most(bits, 2 * blocks), true);
        }
        let one = format!("scale = tensor<FP, [1, 1]>([{}])", scales(1));
        check("ios18", &format!("constexpr_blockwise_shift_scale({data}, {one})"), most(bits, 1), true);
    }
    for (bits, entries) in [(1, 2), (2, 4), (4, 16), (8, 256)] {
        let indices = format!("indices = tensor<uint{bits}, {shape}>([{}])", codes(0, entries, all));
        let lut = format!("lut = tensor<FP, [1, 1, {entries}, 1]>([{}])", scales(entries as usize));
        check("ios18", &format!("constexpr_lut_to_dense({indices}, {lut})"), most(4, 1), bits <= 4);
    }
}
