//! Models of programs that were made in memory.

use std::sync::Arc;

use milwright::{
    Backend, Cpu, ErrorKind, InferenceRequest, LoadOptions, Model, Optimizer, Quantization, Samples, Tensor,
    compare, mil,
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

#[test]
fn what_only_a_file_can_do_is_said() {
    let model = Model::from_program(program()).unwrap();
    let error = model.compile_to(std::env::temp_dir().join("never.mlmodelc")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().unwrap().contains("convert"), "{error:?}");
}
