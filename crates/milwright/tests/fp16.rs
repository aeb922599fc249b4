//! What fp16 loses: each signal, with its op, value and margin, and nothing where nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use milwright::{
    ErrorKind, Fp16Finding, Fp16Signal, InferenceRequest, LoadOptions, Model, Samples, Snr, Tensor,
    find_fp16_losses,
};
use milwright_mil::text;

fn model(inputs: &str, body: &str, outputs: &str) -> Arc<Model> {
    let source =
        format!("program(1.3)\n{{\n    func main<ios17>({inputs}) {{\n{body}\n    }} -> ({outputs});\n}}\n");
    Arc::new(Model::from_program(text::parse(&source).unwrap()).unwrap())
}

fn findings(model: &Arc<Model>, x: &[f32]) -> Vec<Fp16Finding> {
    let x = Tensor::from_vec(&[1, x.len()], x.to_vec()).unwrap();
    let samples = Samples::given(vec![InferenceRequest::new().input("x", x)]);
    let report = find_fp16_losses(model, None, &samples, &LoadOptions::default()).unwrap();
    assert!(!report.inputs.is_drawn() && report.sets == 1 && report.ops > 0);
    report.findings
}

/// Each op twice: for numbers that fp16 holds, and for numbers that it does not. The limits follow from the format:
/// its largest number is 65504, its least normal one 2^-14, and 2^-25 is rounded to zero.
#[test]
fn signals() {
    use Fp16Signal::{Digits, Inner, Overflow, Underflow};
    let unary = |op: &str| format!("y = {op}(x = x)[name = string(\"y\")];");
    let reduce = |op: &str| {
        format!(
            "y = {op}(x = x, axes = tensor<int32, [1]>([1]), keep_dims = bool(true))[name = string(\"y\")];"
        )
    };
    let many = |x: f32| vec![x; 64];
    type Case = (String, &'static str, Vec<f32>, Vec<f32>, Fp16Signal, f64);
    let cases: Vec<Case> = vec![
        // e^11.09 is 65504.
        (unary("exp"), "[1, 2]", vec![1.0, 2.0], vec![1.0, 12.0], Overflow, 65504.0 / 12f64.exp()),
        (unary("square"), "[1, 2]", vec![1.0, 2.0], vec![1.0, 300.0], Overflow, 65504.0 / 90000.0),
        (unary("softplus"), "[1, 2]", vec![1.0, 2.0], vec![1.0, 12.0], Inner, 65504.0 / 12f64.exp()),
        (reduce("reduce_log_sum_exp"), "[1, 1]", many(1.0), many(8.0), Inner, 65504.0 / (64.0 * 8f64.exp())),
        (reduce("reduce_l2_norm"), "[1, 1]", many(1.0), many(40.0), Inner, 65504.0 / (64.0 * 1600.0)),
        (reduce("reduce_mean"), "[1, 1]", many(1.0), many(2000.0), Inner, 65504.0 / (64.0 * 2000.0)),
        (
            "y = layer_norm(x = x, axes = tensor<int32, [1]>([1]))[name = string(\"y\")];".into(),
            "[1, 4]",
            vec![1.0, -1.0, 1.0, -1.0],
            vec![200.0, -200.0, 200.0, -200.0],
            Inner,
            65504.0 / (4.0 * 40000.0),
        ),
        (
            "y = gelu(x = x, mode = string(\"TANH_APPROXIMATION\"))[name = string(\"y\")];".into(),
            "[1, 2]",
            vec![1.0, 2.0],
            vec![1.0, 50.0],
            Inner,
            65504.0 / 125_000.0,
        ),
        (
            "p = softmax(x = x, axis = int32(1))[name = string(\"p\")];
             tensor<fp32, [1, 2]> y = log(x = p, epsilon = fp32(0x1p-149))[name = string(\"y\")];"
                .into(),
            "[1, 2]",
            vec![1.0, 2.0],
            vec![1.0, 21.0],
            Inner,
            (-20f64).exp() / 2f64.powi(-25),
        ),
        // 3e-6 times itself is 9e-12, which is zero in fp16; its root is 3e-6 again.
        (
            "s = mul(x = x, y = x)[name = string(\"s\")];
             tensor<fp32, [1, 2]> y = sqrt(x = s)[name = string(\"y\")];"
                .into(),
            "[1, 2]",
            vec![1.0, 2.0],
            vec![3e-6, 2e-6],
            Underflow,
            0.0,
        ),
        // Above 2048, every second whole number is missing.
        (
            "a = add(x = x, y = fp32(4097))[name = string(\"a\")];
             tensor<fp32, [1, 2]> y = sub(x = a, y = fp32(4096))[name = string(\"y\")];"
                .into(),
            "[1, 2]",
            vec![1000.0, 2000.0],
            vec![0.3, 0.4],
            Digits,
            0.0,
        ),
    ];
    for (body, shape, good, bad, signal, margin) in cases {
        let n = good.len();
        let of_first = if body.contains("p = softmax") || body.contains("s = mul") || body.contains("a = add")
        {
            format!("tensor<fp32, [1, {n}]> {body}")
        } else {
            format!("tensor<fp32, {shape}> {body}")
        };
        let model = model(&format!("tensor<fp32, [1, {n}]> x"), &of_first, "y");
        let found = findings(&model, &good);
        assert!(found.iter().all(|f| !f.lost), "{body}: {found:#?}");
        let found = findings(&model, &bad);
        let lost: Vec<_> = found.iter().filter(|f| f.lost).collect();
        assert!(lost.iter().any(|f| f.signal == signal), "{body}: {found:#?}");
        let finding = lost.iter().find(|f| f.signal == signal).unwrap();
        assert!(finding.margin < 1.0 && finding.function == "main", "{finding:?}");
        if margin > 0.0 {
            assert!((finding.margin / margin - 1.0).abs() < 0.01, "{body}: {finding:?}, not {margin}");
        }
        assert_eq!(lost[0].op, finding.op, "{body}: where it begins");
    }
}

/// What is lost once is not said of every op that is computed from it.
#[test]
fn the_first_op_is_named() {
    let body = "tensor<fp32, [1, 2]> a = relu(x = x)[name = string(\"a\")];
        tensor<fp32, [1, 2]> b = square(x = a)[name = string(\"big\")];
        tensor<fp32, [1, 2]> c = sqrt(x = b)[name = string(\"root\")];
        tensor<fp32, [1, 2]> y = relu(x = c)[name = string(\"y\")];";
    let found = findings(&model("tensor<fp32, [1, 2]> x", body, "y"), &[1000.0, 2.0]);
    let names: Vec<_> = found.iter().filter(|f| f.lost).map(|f| (f.op, f.name.as_str())).collect();
    assert_eq!(names, [("square", "big")]);
    assert_eq!((found[0].magnitude, found[0].limit), (1e6, 65504.0));
}

/// A program that computes in fp16 is compared with itself in fp32.
#[test]
fn models_in_fp16() {
    let body = "tensor<fp16, [1, 2]> s = square(x = x)[name = string(\"s\")];
        tensor<fp16, [1, 2]> y = sqrt(x = s)[name = string(\"y\")];";
    let model = model("tensor<fp16, [1, 2]> x", body, "y");
    let found = findings(&model, &[400.0, 2.0]);
    assert_eq!(
        (found[0].op, found[0].signal, found[0].magnitude),
        ("square", Fp16Signal::Overflow, 160_000.0)
    );
    let found = findings(&model, &[1e-4, 2e-4]);
    let lost: Vec<_> = found.iter().filter(|f| f.lost).collect();
    assert_eq!((lost[0].op, lost[0].signal), ("square", Fp16Signal::Underflow));
    assert_eq!(lost[0].share, Some(1.0));
    assert!(findings(&model, &[1.0, 2.0]).is_empty());
}

#[test]
fn what_has_no_program() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    let digits = Arc::new(Model::open(format!("{root}examples/digits.mlpackage")).unwrap());
    let samples = Samples::draw(&digits, None, 0, 2).unwrap();
    let report = find_fp16_losses(&digits, None, &samples, &LoadOptions::default()).unwrap();
    assert!(report.findings.iter().all(|f| !f.lost && f.snr_db != Some(Snr::Unknown)));
    assert!(report.headroom.is_some_and(|h| h > 1.0));
    let json = serde_json::to_value(&report).unwrap();
    assert!(
        json["headroom"].is_number() && json["inputs"]["drawn"].is_object() || json["inputs"].is_object()
    );

    let scaler = milwright_formats::proto::Model {
        specification_version: 1,
        description: Some(Box::default()),
        r#type: Some(milwright_formats::proto::model::Type::Identity(Default::default())),
        ..Default::default()
    };
    let bytes = prost::Message::encode_to_vec(&scaler);
    let plain = Arc::new(Model::from_bytes(bytes.into(), &BTreeMap::new()).unwrap());
    let error = find_fp16_losses(&plain, None, &Samples::default(), &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("double precision"), "{error}");
}
