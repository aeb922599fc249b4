//! `Optimizer::activations`: integers between ops, their ranges, and what stays a float.

use std::path::Path;
use std::sync::Arc;

use milwright::{
    ActivationRange, Activations, ErrorKind, InferenceRequest, Model, OptimizeReport, Optimizer,
    Quantization, Result, Samples, Search, TargetOs, Tensor, Tolerance,
};
use milwright_mil::text::parse;

fn numbers(n: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / 8_388_608.0 - 1.0) * scale
    };
    (0..n).map(|_| next()).collect()
}

fn list(values: &[f32]) -> String {
    values.iter().map(|x| format!("{x:e}")).collect::<Vec<_>>().join(", ")
}

/// Two convolutions, of which the second gets values of very different sizes if `uneven` is large.
fn model(uneven: f32) -> Arc<Model> {
    let mut first = numbers(16 * 8 * 9, 1, 0.2);
    first[..8 * 9].iter_mut().for_each(|x| *x *= uneven);
    let mut second = numbers(16 * 16 * 9, 2, 0.1);
    second.chunks_mut(16 * 9).for_each(|row| row[..9].iter_mut().for_each(|x| *x /= uneven));
    let text = format!(
        "program(1.3) {{ func main<ios16>(tensor<fp32, [1, 8, 12, 12]> x) {{
            tensor<fp32, [16, 8, 3, 3]> first = const()[name = string(\"first\"), val = tensor<fp32, [16, 8, 3, 3]>([{}])];
            tensor<fp32, [16, 16, 3, 3]> second = const()[name = string(\"second\"), val = tensor<fp32, [16, 16, 3, 3]>([{}])];
            tensor<fp32, [1, 16, 12, 12]> a = conv(x = x, weight = first, pad_type = string(\"same\"))[name = string(\"a\")];
            tensor<fp32, [1, 16, 12, 12]> b = relu(x = a)[name = string(\"b\")];
            tensor<fp32, [1, 16, 12, 12]> c = conv(x = b, weight = second, pad_type = string(\"same\"))[name = string(\"c\")];
            tensor<fp32, [1, 16, 12, 12]> y = tanh(x = c)[name = string(\"y\")];
        }} -> (y); }}",
        list(&first),
        list(&second)
    );
    Arc::new(Model::from_program(parse(&text).unwrap()).unwrap())
}

fn samples(count: u64) -> Samples {
    let request = |i| {
        let x = Tensor::from_vec(&[1, 8, 12, 12], numbers(8 * 144, 100 + i, 1.0)).unwrap();
        InferenceRequest::new().input("x", x)
    };
    Samples::given((0..count).map(request).collect())
}

fn run(optimizer: &Optimizer, model: &Arc<Model>, output: &Path) -> Result<OptimizeReport> {
    optimizer.optimize(model, Some(output), &mut |_| {})
}

fn db(report: &OptimizeReport) -> f64 {
    report.proof.functions[0].outputs[0].snr_db.decibels().unwrap()
}

fn counts(path: &Path) -> (usize, usize) {
    let model = Model::open(path).unwrap();
    let program = milwright_mil::text::print(model.program().unwrap());
    (program.matches("= quantize(").count(), program.matches("= dequantize(").count())
}

#[test]
fn weights_and_values_are_integers() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (model(1.0), folder.path().join("small.mlpackage"));
    let with = |activations| {
        Optimizer::new().quantization(Quantization::Int8).samples(samples(16)).activations(activations)
    };
    for range in [ActivationRange::MinMax, ActivationRange::Mse, ActivationRange::Percentile(99.99)] {
        for asymmetric in [false, true] {
            let report = run(&with(Activations { range, asymmetric }), &model, &output).unwrap();
            assert!(db(&report) > 30.0, "{range:?} {asymmetric}: {}", db(&report));
            assert_eq!(counts(&output), (2, 2), "the input, and what lies between the convolutions");
            assert_eq!(report.proof.functions[0].sets, 8, "the other half proves it");
            assert!(
                report.notes.iter().any(|n| n.contains("2 values between ops: int8")),
                "{:?}",
                report.notes
            );
        }
    }
    // Without what it needs, it says so.
    let fails = |optimizer: Optimizer| {
        let error = run(&optimizer, &model, &folder.path().join("none.mlpackage")).unwrap_err();
        assert!(!folder.path().join("none.mlpackage").exists());
        error
    };
    let activations = Activations::default();
    assert_eq!(fails(with(activations).target_os(TargetOs::Ios16)).kind(), ErrorKind::Unsupported);
    assert_eq!(fails(Optimizer::new().activations(activations)).kind(), ErrorKind::InvalidInput);
    assert_eq!(fails(with(activations).samples(samples(1))).kind(), ErrorKind::InvalidInput);
    let search = with(activations).quantization(Quantization::None).smallest(Search::new()).tolerance(20.0);
    assert!(fails(search).to_string().contains("between ops"));
    let mut wrong = samples(16);
    wrong.requests[3] = InferenceRequest::new()
        .input("x", Tensor::from_vec(&[1, 8, 12, 12], vec![f32::NAN; 8 * 144]).unwrap());
    assert!(fails(with(activations).samples(wrong)).to_string().contains("set 4 of the inputs has NaN"));
}

/// A channel that is a hundred times as large as the others leaves them two bits: that value stays a float.
#[test]
fn what_loses_most_stays_a_float() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (model(100.0), folder.path().join("small.mlpackage"));
    let with = |tolerance: f64| {
        Optimizer::new().samples(samples(16)).activations(Activations::default()).tolerance(tolerance)
    };
    let report = run(&with(0.0).tolerance(Tolerance::None), &model, &output).unwrap();
    assert_eq!(counts(&output), (2, 2));
    let all = db(&report);
    let report = run(&with(all + 10.0), &model, &output).unwrap();
    assert!(db(&report) >= all + 10.0);
    assert_eq!(counts(&output), (1, 1));
    assert!(
        report.notes.iter().any(|n| n.contains("1 value between ops: int8 now; `b` stays a float")),
        "{:?}",
        report.notes
    );
    // Nothing is integers where nothing may be lost.
    run(&with(140.0), &model, &output).unwrap();
    assert_eq!(counts(&output), (0, 0));
}

#[test]
fn passes_are_off_by_name() {
    let error = Optimizer::new().without_pass("fold_everything").unwrap_err();
    assert!(error.hint().unwrap_or_default().contains("fold_batch_norm"), "{error}");
    assert!(Optimizer::new().without_pass("fold_batch_norm").is_ok());
}
