//! Models of programs that were made in memory.

use std::sync::Arc;

use milwright::{
    Backend, Cpu, ErrorKind, Existing, Exporter, InferenceRequest, LoadOptions, Model, Optimizer,
    Quantization, Samples, Tensor, compare, mil,
};

const MATRIX: usize = 64;

/// `y = x · w + state`, with a weight that is large enough to be stored outside the specification.
fn program() -> mil::Program {
    let weights: Vec<String> = (0..MATRIX * MATRIX).map(|i| format!("{:.3}", (i as f64).sin())).collect();
    let source = format!(
        "program(1.3) {{
    func main<ios18>(tensor<fp32, [?, {MATRIX}]> x, state<tensor<fp16, [1]>> count) {{
        tensor<fp32, [{MATRIX}, {MATRIX}]> w = const()[name = string(\"w\"), val = tensor<fp32, [{MATRIX}, {MATRIX}]>([{}])];
        tensor<fp32, [?, {MATRIX}]> z = linear(x = x, weight = w)[name = string(\"z\")];
        tensor<fp16, [1]> old = read_state(input = count)[name = string(\"old\")];
        tensor<fp16, [1]> new = add(x = old, y = tensor<fp16, [1]>([1]))[name = string(\"new\")];
        write_state(input = count, data = new)[name = string(\"kept\")];
        tensor<fp32, [1]> wide = cast(x = new, dtype = string(\"fp32\"))[name = string(\"wide\")];
        tensor<fp32, [?, {MATRIX}]> y = add(x = z, y = wide)[name = string(\"y\")];
    }} -> (y);
}}",
        weights.join(", ")
    );
    mil::text::parse(&source).unwrap()
}

#[test]
fn it_runs_and_is_described() {
    let model = Arc::new(Model::from_program(program()).unwrap());
    let function = model.info().function(None).unwrap();
    assert_eq!((function.inputs[0].name.as_str(), function.states[0].name.as_str()), ("x", "count"));
    assert_eq!(model.info().model_type(), "mlProgram");
    let mut session = Cpu.session(&model, &LoadOptions::default()).unwrap();
    let zeros = |rows| {
        let x = Tensor::from_vec(&[rows, MATRIX], vec![0f32; rows * MATRIX]).unwrap();
        InferenceRequest::new().input("x", x)
    };
    for (turn, rows) in [1usize, 3, 1].into_iter().enumerate() {
        let prediction = session.predict(&zeros(rows)).unwrap();
        assert_eq!(prediction.outputs()[0].1.to_f64(), vec![turn as f64 + 1.0; rows * MATRIX]);
    }
}

#[test]
fn it_is_written_as_a_package() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.mlpackage");
    let model = Arc::new(Model::from_program(program()).unwrap());
    let report =
        Optimizer::new().quantization(Quantization::None).optimize(&model, Some(&path), &mut |_| ()).unwrap();
    assert!(report.proof.failures(100.0).is_empty(), "{:?}", report.proof);
    let written = Arc::new(Model::open(&path).unwrap());
    let samples = Samples::draw(&model, None, 1, 2).unwrap();
    let found = compare(&model, &written, None, &samples, &LoadOptions::default(), &mut || ()).unwrap();
    assert!(found.failures(120.0).is_empty(), "{found:?}");
    assert_ne!(model.digest(), written.digest());
    assert_eq!(model.digest(), Model::from_program(program()).unwrap().digest());
}

/// A program with a state, a classifier and a plain one become ONNX models that are opened again.
#[test]
fn it_is_exported_as_onnx() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.onnx");
    let source = "program(1.3) { func main<ios16>(tensor<fp32, [2, 3]> x) {
        tensor<fp32, [3, 3]> w = const()[val = tensor<fp32, [3, 3]>([1, 2, 3, 4, 5, 6, 7, 8, 9])];
        tensor<fp32, [2, 3]> z = linear(x = x, weight = w);
        tensor<fp32, [2, 3]> y = softmax(x = z, axis = int32(1))[name = string(\"y\")];
    } -> (y); }";
    let plain = Arc::new(Model::from_program(mil::text::parse(source).unwrap()).unwrap());
    let report = Exporter::new().export(&plain, &path, &mut || ()).unwrap();
    assert!(report.proof.unwrap().failures(100.0).is_empty() && report.bytes > 0);
    let again = Arc::new(Model::open(&path).unwrap());
    let samples = Samples::draw(&plain, None, 1, 2).unwrap();
    let found = compare(&plain, &again, None, &samples, &LoadOptions::default(), &mut || ()).unwrap();
    assert!(found.failures(100.0).is_empty(), "{found:?}");
    let error = Exporter::new().existing(Existing::Keep).export(&plain, &path, &mut || ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);

    let stateful = Arc::new(Model::from_program(program()).unwrap());
    let report = Exporter::new().export(&stateful, &path, &mut || ()).unwrap();
    assert!(report.proof.is_none() && report.notes[0].contains("states"), "{report:?}");
    let again = Model::open(&path).unwrap();
    let main = again.info().function(None).unwrap();
    assert_eq!(main.inputs[1].name, "count");
    assert!(main.outputs.iter().any(|o| o.name == "count_out"), "{main:?}");

    let source = "program(1.3) { func main<ios16>(tensor<fp32, [1, 4]> x) {
        list<tensor<fp32, [4]>, 1> list = make_list(elem_shape = (int32(4)))[name = string(\"list\")];
        int32 n = list_length(ls = list)[name = string(\"n\")];
    } -> (n); }";
    if let Ok(program) = mil::text::parse(source)
        && let Ok(lists) = Model::from_program(program)
    {
        let error = Exporter::new().export(&Arc::new(lists), &path, &mut || ()).unwrap_err();
        assert!(error.to_string().contains("make_list"), "{error}");
    }
}

/// What a table is compared with is drawn from the table, so that the outputs depend on the inputs.
#[test]
fn bounds_are_drawn_from_what_they_bound() {
    let source = "program(1.3) { func main<ios16>(tensor<fp32, [1]> low, tensor<fp32, [1]> high, tensor<fp32, [4]> x) {
        tensor<fp32, [4]> table = const()[val = tensor<fp32, [4]>([100, 200, 300, 500])];
        tensor<bool, [4]> above = greater_equal(x = table, y = low);
        tensor<bool, [4]> below = less_equal(x = table, y = high);
        tensor<bool, [4]> kept = logical_and(x = above, y = below);
        tensor<fp32, [4]> y = select(cond = kept, a = x, b = fp32(0.0))[name = string(\"y\")];
    } -> (y); }";
    let model = Model::from_program(mil::text::parse(source).unwrap()).unwrap();
    for request in Samples::draw(&model, None, 0, 8).unwrap().requests {
        let value = |name: &str| {
            let (_, tensor) = request.inputs().iter().find(|(n, _)| *n == name).unwrap();
            tensor.to_f64()[0]
        };
        assert!(
            (100.0..=300.0).contains(&value("low")) && (300.0..=500.0).contains(&value("high")),
            "{request:?}"
        );
        assert!(value("x").abs() <= 1.0);
    }
}

#[test]
fn what_only_a_file_can_do_is_said() {
    let model = Model::from_program(program()).unwrap();
    let error = model.compile_to(std::env::temp_dir().join("never.mlmodelc")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().unwrap().contains("convert"), "{error:?}");
}
