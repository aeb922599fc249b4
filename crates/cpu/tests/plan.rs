//! Programs through the whole engine: compile, write, read, run.

use bytes::Bytes;
use milwright_cpu::{Executable, Plan, Pool, RunError, RunOptions, compile};
use milwright_mil::{Tensor, text, verify};

fn plan(source: &str, shapes: &[(&str, &[usize])]) -> Plan {
    let program = verify(text::parse(source).expect("the program parses")).expect("the program checks");
    let plan = compile(&program, "main", shapes).expect("the program compiles");
    let mut bytes = Vec::new();
    plan.to_writer(&mut bytes).unwrap();
    Plan::from_bytes(bytes.into()).expect("a plan reads back")
}

fn run(source: &str, inputs: &[(&str, Tensor)]) -> Vec<Tensor> {
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(n, t)| (*n, t.shape())).collect();
    let plan = plan(source, &shapes);
    let mut results = Vec::new();
    for threads in [1, 2] {
        let executable = Executable::new(&plan, Pool::new(threads).unwrap()).unwrap();
        let outputs = |_| executable.run(inputs).unwrap().into_iter().map(|(_, t)| t).collect::<Vec<_>>();
        results.extend([0, 1].map(outputs));
    }
    // The arena is used again, with another number of threads: nothing may change.
    assert!(results.windows(2).all(|w| w[0] == w[1]), "{results:?}");
    results.remove(0)
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(shape, values.to_vec()).unwrap()
}

const FUSED: &str = "program(1.3) {
    func main<ios16>(tensor<fp32, [2, 3]> x, tensor<fp32, [3]> y) {
        tensor<fp32, [2, 3]> a = mul(x = x, y = y)[name = string(\"a\")];
        tensor<fp32, [2, 3]> b = add(x = a, y = x)[name = string(\"b\")];
        tensor<fp32, [2, 3]> c = relu(x = b)[name = string(\"c\")];
        tensor<fp32, [2, 3]> d = sub(x = c, y = a)[name = string(\"d\")];
    } -> (d, b);
}";

#[test]
fn fused_chains_keep_what_is_used_outside() {
    let x = f32s(&[2, 3], &[1.0, -2.0, 3.0, -4.0, 5.0, -6.0]);
    let y = f32s(&[3], &[2.0, 0.5, -3.0]);
    let out = run(FUSED, &[("x", x), ("y", y)]);
    assert_eq!(out[1].to_vec::<f32>().unwrap(), [3.0, -3.0, -6.0, -12.0, 7.5, 12.0]);
    assert_eq!(out[0].to_vec::<f32>().unwrap(), [1.0, 1.0, 9.0, 8.0, 5.0, -6.0]);
    let plan = plan(FUSED, &[]);
    assert_eq!(plan.steps(), 3, "{}", plan.describe());
}

const EPILOGUE: &str = "program(1.3) {
    func main<ios16>(tensor<fp32, [2, 2]> x, tensor<fp32, [2, 2]> r) {
        tensor<fp32, [2, 2]> w = const()[name = string(\"w\"), val = tensor<fp32, [2, 2]>([[1, 2], [3, 4]])];
        tensor<fp32, [2, 2]> p = matmul(x = x, y = w)[name = string(\"p\")];
        tensor<fp32, [2, 2]> s = add(x = p, y = r)[name = string(\"s\")];
        tensor<fp32, [2, 2]> o = relu(x = s)[name = string(\"o\")];
    } -> (o);
}";

#[test]
fn epilogues_run_in_their_step() {
    let x = f32s(&[2, 2], &[1.0, 0.0, 0.0, -1.0]);
    let r = f32s(&[2, 2], &[0.5, -3.0, 10.0, 1.0]);
    let out = run(EPILOGUE, &[("x", x), ("r", r)]);
    assert_eq!(out[0].to_vec::<f32>().unwrap(), [1.5, 0.0, 7.0, 0.0]);
    let plan = plan(EPILOGUE, &[]);
    assert_eq!(plan.steps(), 1, "{}", plan.describe());
}

const LOOP: &str = "program(1.3) {
    func main<ios16>(tensor<int32, []> n, tensor<fp32, [2]> x) {
        tensor<int32, []> i, tensor<fp32, [2]> y = while_loop(loop_vars = (n, x))
            (tensor<int32, []> i0, tensor<fp32, [2]> y0) {
                tensor<bool, []> more = greater(x = i0, y = int32(0));
            } -> (more),
            (tensor<int32, []> i1, tensor<fp32, [2]> y1) {
                tensor<int32, []> i2 = sub(x = i1, y = int32(1));
                tensor<fp32, [2]> y2 = add(x = y1, y = y1);
            } -> (i2, y2);
        tensor<bool, []> big = greater(x = n, y = int32(3));
        tensor<fp32, [2]> z = cond(pred = big)
            () {
                tensor<fp32, [2]> twice = add(x = y, y = y);
                tensor<fp32, [2]> more_than_twice = add(x = twice, y = x);
            } -> (more_than_twice),
            () {
            } -> (x);
    } -> (y, z);
}";

#[test]
fn loops_turn_and_branches_are_taken() {
    let x = || f32s(&[2], &[1.0, -0.5]);
    let out = run(LOOP, &[("n", Tensor::scalar(5i32)), ("x", x())]);
    assert_eq!(out[0].to_vec::<f32>().unwrap(), [32.0, -16.0]);
    assert_eq!(out[1].to_vec::<f32>().unwrap(), [65.0, -32.5]);
    let out = run(LOOP, &[("n", Tensor::scalar(0i32)), ("x", x())]);
    assert_eq!(out[0], x());
    assert_eq!(out[1], x());
}

/// A loop of `n` turns with variables of fixed shape: the body gets `i`, `a` and `b`, and names their next values.
fn turns(n: i32, body: &str, next: &str, a: Tensor, b: Tensor) -> [Vec<f32>; 2] {
    let source = format!(
        "program(1.3) {{
    func main<ios16>(tensor<int32, []> n, tensor<fp32, [4]> a0, tensor<fp32, [4]> b0) {{
        tensor<fp32, [4]> z = mul(x = a0, y = fp32(10));
        tensor<int32, []> i9, tensor<fp32, [4]> a9, tensor<fp32, [4]> b9 = while_loop(loop_vars = (n, a0, b0))
            (tensor<int32, []> i0, tensor<fp32, [4]> a1, tensor<fp32, [4]> b1) {{
                tensor<bool, []> more = greater(x = i0, y = int32(0));
            }} -> (more),
            (tensor<int32, []> i, tensor<fp32, [4]> a, tensor<fp32, [4]> b) {{
                tensor<int32, []> i2 = sub(x = i, y = int32(1));
                {body}
            }} -> (i2, {next});
        tensor<fp32, [4]> y = add(x = b9, y = z);
    }} -> (a9, y);
}}"
    );
    let out = run(&source, &[("n", Tensor::scalar(n)), ("a0", a), ("b0", b)]);
    [out[0].to_vec().unwrap(), out[1].to_vec().unwrap()]
}

/// Variables may change places, be handed on, be updated in place while the old value is still needed, and stay as they
/// are. The results were worked out by hand; the second output is `b` plus ten times the first input.
#[test]
fn variables_of_loops_keep_their_values() {
    let a = || f32s(&[4], &[1.0, 2.0, 3.0, 4.0]);
    let b = || f32s(&[4], &[5.0, 6.0, 7.0, 8.0]);
    let plus = |x: [f32; 4]| [x[0] + 10.0, x[1] + 20.0, x[2] + 30.0, x[3] + 40.0];
    let (one, two) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]);

    assert_eq!(turns(3, "", "b, a", a(), b()), [two.to_vec(), plus(one).to_vec()]);
    assert_eq!(turns(2, "", "b, a", a(), b()), [one.to_vec(), plus(two).to_vec()]);
    assert_eq!(turns(0, "", "b, a", a(), b()), [one.to_vec(), plus(two).to_vec()]);
    assert_eq!(turns(2, "", "b, b", a(), b()), [two.to_vec(), plus(two).to_vec()]);

    let scatter = |to: &str| {
        format!(
            "tensor<int32, [1]> at = expand_dims(x = i2, axes = tensor<int32, [1]>([0]));
             tensor<fp32, [4]> s = scatter(data = {to}, indices = at, updates = tensor<fp32, [1]>([100]),
                 axis = int32(0), mode = string(\"add\"));"
        )
    };
    // In place: the turns have 2, 1 and 0 as i2.
    let hundreds = [101.0, 102.0, 103.0, 4.0];
    assert_eq!(turns(3, &scatter("a"), "s, b", a(), b()), [hundreds.to_vec(), plus(two).to_vec()]);
    // The old value of `a` is the next one of `b`.
    assert_eq!(
        turns(3, &scatter("a"), "s, a", a(), b()),
        [hundreds.to_vec(), plus([1.0, 102.0, 103.0, 4.0]).to_vec()]
    );
    // The old value of `a` is read after the update.
    let after = scatter("a") + "tensor<fp32, [4]> c = add(x = a, y = b);";
    assert_eq!(
        turns(2, &after, "s, c", a(), b()),
        [vec![101.0, 102.0, 3.0, 4.0], plus([7.0, 110.0, 13.0, 16.0]).to_vec()]
    );
    // The result is the next value of the other variable.
    assert_eq!(
        turns(1, &scatter("a"), "b, s", a(), b()),
        [two.to_vec(), plus([101.0, 2.0, 3.0, 4.0]).to_vec()]
    );
    // Both variables get it.
    assert_eq!(
        turns(2, &scatter("a"), "s, s", a(), b()),
        [vec![101.0, 102.0, 3.0, 4.0], plus([101.0, 102.0, 3.0, 4.0]).to_vec()]
    );
    // A value from outside is read in every turn, and survives it.
    assert_eq!(
        turns(2, "tensor<fp32, [4]> c = add(x = z, y = b);", "c, c", a(), b())[0],
        [25.0, 46.0, 67.0, 88.0]
    );
}

const NESTED_LOOPS: &str = "program(1.3) {
    func main<ios16>(tensor<int32, []> n, tensor<fp32, [2]> x) {
        tensor<int32, []> i9, tensor<fp32, [2]> y = while_loop(loop_vars = (n, x))
            (tensor<int32, []> i0, tensor<fp32, [2]> y0) {
                tensor<bool, []> more = greater(x = i0, y = int32(0));
            } -> (more),
            (tensor<int32, []> i1, tensor<fp32, [2]> y1) {
                tensor<int32, []> i2 = sub(x = i1, y = int32(1));
                tensor<bool, []> odd = equal(x = i2, y = int32(1));
                tensor<fp32, [2]> k = cond(pred = odd)
                    () {
                        tensor<fp32, [2]> p = mul(x = y1, y = fp32(3));
                    } -> (p),
                    () {
                    } -> (y1);
                tensor<int32, []> j9, tensor<fp32, [2]> y2 = while_loop(loop_vars = (i1, k))
                    (tensor<int32, []> j0, tensor<fp32, [2]> v0) {
                        tensor<bool, []> go = greater(x = j0, y = int32(0));
                    } -> (go),
                    (tensor<int32, []> j1, tensor<fp32, [2]> v1) {
                        tensor<int32, []> j2 = sub(x = j1, y = int32(1));
                        tensor<fp32, [2]> v2 = add(x = v1, y = y1);
                    } -> (j2, v2);
                tensor<fp32, [2]> y3 = sub(x = y2, y = x);
            } -> (i2, y3);
    } -> (y);
}";

/// n = 2: i1 = 2, k = 3 x, y2 = 5 x, y3 = 4 x; i1 = 1, k = 4 x, y2 = 8 x, y3 = 7 x.
#[test]
fn loops_and_branches_nest() {
    let x = f32s(&[2], &[1.0, -0.5]);
    let out = run(NESTED_LOOPS, &[("n", Tensor::scalar(2i32)), ("x", x)]);
    assert_eq!(out[0].to_vec::<f32>().unwrap(), [7.0, -3.5]);
}

const LISTS: &str = "program(1.3) {
    func main<ios15>(tensor<fp32, [2]> a, tensor<fp32, [2]> b) {
        list<tensor<fp32, [2]>, ?> l0 = make_list(init_length = int32(2), elem_shape = (int32(2)));
        tensor<fp32, [2]> first = list_read(ls = l0, index = int32(0));
        list<tensor<fp32, [2]>, ?> l1 = list_write(ls = l0, index = int32(0), value = a);
        list<tensor<fp32, [2]>, ?> l2 = list_write(ls = l1, index = int32(4), value = b);
        tensor<fp32, [3, 2]> some = list_gather(ls = l2, indices = tensor<int32, [3]>([4, 0, 3]));
        tensor<int32, []> n0 = list_length(ls = l0);
        tensor<int32, []> n2 = list_length(ls = l2);
    } -> (first, some, n0, n2);
}";

#[test]
fn lists_begin_with_zeros_and_grow() {
    let (a, b) = (f32s(&[2], &[1.0, 3.0]), f32s(&[2], &[2.0, 4.0]));
    let out = run(LISTS, &[("a", a), ("b", b)]);
    assert_eq!(out[0].to_vec::<f32>().unwrap(), [0.0, 0.0]);
    assert_eq!(out[1].to_vec::<f32>().unwrap(), [2.0, 4.0, 1.0, 3.0, 0.0, 0.0]);
    assert_eq!([&out[2], &out[3]].map(|t| t.to_i64().unwrap()), [[2], [5]]);
}

const ATTENTION: &str = "program(1.3) {
    func main<ios18>(tensor<fp32, [?, ?, 2]> q, tensor<fp32, [2, ?, 2]> k, tensor<fp32, [2, ?, 1]> v) {
        tensor<fp32, [2, ?, 1]> out = scaled_dot_product_attention(query = q, key = k, value = v);
    } -> (out);
}";

#[test]
fn attention_broadcasts_its_batch() {
    // A query of zeros weighs everything the same.
    let q = f32s(&[1, 1, 2], &[0.0; 2]);
    let k = f32s(&[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let v = f32s(&[2, 2, 1], &[1.0, 3.0, 10.0, 30.0]);
    let out = run(ATTENTION, &[("q", q), ("k", k), ("v", v)]);
    assert_eq!(out[0].shape(), [2, 1, 1]);
    assert_eq!(out[0].to_vec::<f32>().unwrap(), [2.0, 20.0]);
}

const EPSILON: &str = "program(1.3) {
    func main<ios17>(tensor<fp32, [1, 1, 2]> x) {
        tensor<fp32, [1, 1, 2]> out = batch_norm(x = x, mean = tensor<fp16, [1]>([1]),
            variance = tensor<fp16, [1]>([3]), epsilon = fp32(1));
    } -> (out);
}";

/// coremltools writes a default epsilon in fp32, whatever the other parameters are.
#[test]
fn epsilon_has_a_type_of_its_own() {
    let out = run(EPSILON, &[("x", f32s(&[1, 1, 2], &[1.0, 5.0]))]);
    assert_eq!(out[0].to_vec::<f32>().unwrap(), [0.0, 2.0]);
}

#[test]
fn damaged_plans_are_refused() {
    let mut bytes = Vec::new();
    plan(EPILOGUE, &[]).to_writer(&mut bytes).unwrap();
    assert!(Plan::from_bytes(Bytes::new()).is_err());
    for len in 0..bytes.len() {
        if let Ok(plan) = Plan::from_bytes(bytes[..len].to_vec().into()) {
            let _ = Executable::new(&plan, Pool::inline());
        }
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        if let Ok(plan) = Plan::from_bytes(bytes.into()) {
            let _ = Executable::new(&plan, Pool::inline());
        }
    }
}

#[test]
fn errors_name_the_input() {
    let executable = Executable::new(&plan(EPILOGUE, &[]), Pool::inline()).unwrap();
    let x = || f32s(&[2, 2], &[0.0; 4]);
    let error = |inputs: &[(&str, Tensor)]| executable.run(inputs).unwrap_err().to_string();
    assert_eq!(error(&[("x", x())]), "input `r`: it is missing");
    assert_eq!(error(&[("z", x())]), "input `z`: the function has no such input; it has: x, r");
    let wide = f32s(&[4], &[0.0; 4]);
    assert_eq!(error(&[("x", wide), ("r", x())]), "input `x`: its shape is [4], but this plan is for [2, 2]");
    let text = Tensor::from_strings(&[2, 2], vec![String::new(); 4]).unwrap();
    assert_eq!(
        error(&[("x", text), ("r", x())]),
        "input `x`: it holds string, which cannot be converted to fp32"
    );
}

#[test]
fn other_floats_are_converted() {
    let executable = Executable::new(&plan(EPILOGUE, &[]), Pool::inline()).unwrap();
    let x = Tensor::from_vec(&[2, 2], vec![1.0f64, 0.0, 0.0, 1.0]).unwrap();
    let r = Tensor::from_vec(&[2, 2], vec![half::f16::ONE; 4]).unwrap();
    let out = executable.run(&[("x", x), ("r", r)]).unwrap();
    assert_eq!(out[0].1.to_vec::<f32>().unwrap(), [2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn runs_can_be_cancelled() {
    let executable = Executable::new(&plan(EPILOGUE, &[]), Pool::inline()).unwrap();
    let inputs = [("x", f32s(&[2, 2], &[0.0; 4])), ("r", f32s(&[2, 2], &[0.0; 4]))];
    let options = RunOptions { cancel: Some(&|| true), ..RunOptions::default() };
    assert!(matches!(executable.run_with(&inputs, options), Err(RunError::Cancelled { .. })));
}

const STATE: &str = "program(1.3) {
    func main<ios18>(tensor<fp16, [2]> x, state<tensor<fp16, [2]>> sum) {
        tensor<fp16, [2]> old = read_state(input = sum);
        tensor<fp16, [2]> new = add(x = old, y = x);
        write_state(input = sum, data = new);
    } -> (new);
}";

#[test]
fn states_outlive_a_run() {
    let executable = Executable::new(&plan(STATE, &[]), Pool::inline()).unwrap();
    let x = Tensor::from_vec(&[2], vec![half::f16::from_f32(1.5), half::f16::from_f32(-1.0)]).unwrap();
    let mut state = executable.new_state();
    for turn in 1..4 {
        let options = RunOptions { state: Some(&mut state), ..RunOptions::default() };
        let out = executable.run_with(&[("x", x.clone())], options).unwrap();
        assert_eq!(out[0].1.to_f64(), [1.5 * f64::from(turn), -f64::from(turn)]);
    }
    assert_eq!(state.get("sum").unwrap().to_f64(), [4.5, -3.0]);
    assert!(matches!(executable.run(&[("x", x)]), Err(RunError::State { .. })));
}

/// coremltools tiles by as many as a mask has elements, which may be none.
#[test]
fn what_is_repeated_no_times_is_empty() {
    let source = "program(1.3) {
    func main<ios15>(tensor<fp32, [2, 3]> x, tensor<int32, [2]> reps) {
        tensor<fp32, [?, ?]> y = tile(x = x, reps = reps)[name = string(\"y\")];
    } -> (y);
}";
    let x = f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let reps = |r: [i32; 2]| Tensor::from_vec(&[2], r.to_vec()).unwrap();
    assert_eq!(run(source, &[("x", x.clone()), ("reps", reps([2, 0]))])[0].shape(), [4, 0]);
    let y = run(source, &[("x", x), ("reps", reps([1, 2]))]);
    assert_eq!(y[0].to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0]);
}
