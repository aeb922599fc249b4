//! What `Optimizer` writes, and what it refuses to write.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milwright::{
    Backend, Cpu, ErrorKind, InferenceRequest, LoadOptions, Model, OptimizeReport, Optimizer, Quantization,
    Result, Samples, Tensor, Tolerance,
};
use milwright_formats::PackageWriter;
use milwright_formats::blob::BlobType;
use milwright_formats::proto::mil_spec::value::BlobFileValue;
use milwright_formats::proto::{
    ArrayFeatureType, FeatureDescription, FeatureType, FunctionDescription, Model as Spec, ModelDescription,
    array_feature_type::ArrayDataType, feature_type, model,
};
use milwright_mil::text::parse;
use milwright_mil::{Program, verify};

/// Writes a weight that functions share once.
struct Sink<'a>(&'a mut PackageWriter, HashMap<*const u8, BlobFileValue>);

impl milwright_convert::ml_program::WeightSink for Sink<'_> {
    fn store(
        &mut self,
        dtype: BlobType,
        elements: usize,
        data: &[u8],
    ) -> std::result::Result<BlobFileValue, milwright_formats::Error> {
        if let Some(written) = self.1.get(&data.as_ptr()) {
            return Ok(written.clone());
        }
        let written = self.0.append(dtype, elements as u64, data)?;
        self.1.insert(data.as_ptr(), written.clone());
        Ok(written)
    }
}

fn feature(name: &str) -> FeatureDescription {
    let array = ArrayFeatureType {
        shape: vec![1, 64],
        data_type: ArrayDataType::Float32.into(),
        ..ArrayFeatureType::default()
    };
    FeatureDescription {
        name: name.into(),
        r#type: Some(FeatureType {
            r#type: Some(feature_type::Type::MultiArrayType(array)),
            ..FeatureType::default()
        }),
        ..FeatureDescription::default()
    }
}

/// A package whose functions take and return `x` and `y`, fp32 `[1, 64]`.
fn write(path: &Path, program: Program) {
    let names: Vec<String> = program.functions.keys().cloned().collect();
    let mut description = ModelDescription::default();
    if names.len() == 1 {
        (description.input, description.output) = (vec![feature("x")], vec![feature("y")]);
    } else {
        description.default_function_name = names[0].clone();
        description.functions = names
            .into_iter()
            .map(|name| FunctionDescription {
                name,
                input: vec![feature("x")],
                output: vec![feature("y")],
                ..FunctionDescription::default()
            })
            .collect();
    }
    let mut writer = PackageWriter::create(path).unwrap();
    let checked = verify(program).unwrap();
    let version = checked.functions.values().map(|f| f.opset.specification_version()).max().unwrap();
    let program =
        milwright_convert::ml_program::write(&checked, &mut Sink(&mut writer, HashMap::new())).unwrap();
    let spec = Spec {
        specification_version: version,
        description: Some(Box::new(description)),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(program)),
    };
    writer.stage(&spec).unwrap().commit().unwrap();
}

/// A weight of 64 × 64, written out.
fn weight() -> String {
    let rows = (0..64u32).map(|r| {
        let row: Vec<String> =
            (0..64u32).map(|c| format!("{:e}", f64::from((r * 37 + c * 101) % 127) / 127.0 - 0.5)).collect();
        row.join(", ")
    });
    format!("tensor<fp32, [64, 64]>([{}])", rows.collect::<Vec<_>>().join(", "))
}

/// A model made of the body of a function, and where its results go.
fn model(folder: &Path, body: &str) -> (Arc<Model>, PathBuf) {
    let text = format!(
        "program(1.3)\n{{\n    func main<ios16>(tensor<fp32, [1, 64]> x) {{\n{}\n    }} -> (y);\n}}\n",
        body.replace("WEIGHT", &weight())
    );
    let path = folder.join("model.mlpackage");
    write(&path, parse(&text).unwrap());
    (Arc::new(Model::open(path).unwrap()), folder.join("small.mlpackage"))
}

fn run(optimizer: &Optimizer, model: &Arc<Model>, output: &Path) -> Result<OptimizeReport> {
    optimizer.optimize(model, Some(output), &mut |_| {})
}

const LINEAR: &str = "
    tensor<fp32, [64, 64]> weight = const()[name = string(\"weight\"), val = WEIGHT];
    tensor<fp32, [1, 64]> y = linear(x = x, weight = weight);";

#[test]
fn what_is_not_within_the_tolerance_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = model(folder.path(), LINEAR);
    let one_bit = Optimizer::new().quantization(Quantization::Palette1).tolerance(40.0);
    let error = run(&one_bit, &model, &output).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tolerance);
    assert!(error.hint().unwrap().contains("weight ("), "{error}");
    assert!(!output.exists());

    let eight = Optimizer::new().quantization(Quantization::Palette8).tolerance(40.0);
    run(&eight, &model, &output).unwrap();
    let before = std::fs::read(output.join("Data/com.apple.CoreML/weights/weight.bin")).unwrap();
    // What is there stays as it was.
    run(&one_bit, &model, &output).unwrap_err();
    let after = std::fs::read(output.join("Data/com.apple.CoreML/weights/weight.bin")).unwrap();
    assert_eq!(before, after);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn what_overflows_in_fp16_is_found_and_stays_in_fp32() {
    let folder = tempfile::tempdir().unwrap();
    // No constant is too large, but what comes of them is: 90,000 times x, for a while.
    let (model, output) = model(
        folder.path(),
        "
    tensor<fp32, [1, 64]> near = relu(x = x)[name = string(\"near\")];
    tensor<fp32, [1, 64]> large = mul(x = near, y = fp32(300))[name = string(\"large\")];
    tensor<fp32, [1, 64]> larger = mul(x = large, y = fp32(300))[name = string(\"larger\")];
    tensor<fp32, [1, 64]> y = mul(x = larger, y = fp32(0.001))[name = string(\"y\")];",
    );
    let samples = Samples::given(vec![
        InferenceRequest::new()
            .input("x", Tensor::from_vec(&[1, 64], (0..64).map(|i| i as f32 / 64.0).collect()).unwrap()),
    ]);
    let optimizer = Optimizer::new().quantization(Quantization::Float16).samples(samples).tolerance(50.0);
    let report = run(&optimizer, &model, &output).unwrap();
    let kept: Vec<(&str, &str)> = report.kept.iter().map(|k| (k.name.as_str(), k.reason.as_str())).collect();
    // It is `larger` that overflows; what makes it and what takes it stay in fp32.
    let reason = "`larger` reaches 8.859e4, and fp16 ends at 65504";
    assert_eq!(kept, [("larger", reason), ("y", reason)]);

    // 90 times x.
    let mut session = Cpu.session(&Arc::new(Model::open(&output).unwrap()), &LoadOptions::default()).unwrap();
    let x = Tensor::from_vec(&[1, 64], vec![0.875; 64]).unwrap();
    let prediction = session.predict(&InferenceRequest::new().input("x", x)).unwrap();
    let y = prediction.output("y").unwrap().to_f64();
    assert!(y.iter().all(|y| (y - 78.75).abs() < 0.05), "{}", y[0]);
}

#[test]
fn an_overflow_in_the_original_is_nobodys_fault() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = model(
        folder.path(),
        "
    tensor<fp32, [1, 64]> one = exp(x = x);
    tensor<fp32, [1, 64]> huge = mul(x = one, y = fp32(3e38));
    tensor<fp32, [1, 64]> y = mul(x = huge, y = fp32(3e38));",
    );
    let half = Optimizer::new().quantization(Quantization::Float16);
    // Infinite in both, it proves nothing.
    let error = run(&half, &model, &output).unwrap_err();
    assert!(error.to_string().ends_with("y: not judged: no element is finite in both"), "{error}");
    let report = run(&half.tolerance(Tolerance::None), &model, &output).unwrap();
    assert_eq!(report.kept.len(), 2);
    assert!(output.exists());
}

#[test]
fn weights_keep_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = model(
        folder.path(),
        "
    tensor<fp32, [64, 64]> first = const()[name = string(\"first\"), val = WEIGHT];
    tensor<fp32, [64, 64]> second = const()[name = string(\"second\"), val = WEIGHT];
    tensor<fp32, [1, 64]> a = linear(x = x, weight = first);
    tensor<fp32, [1, 64]> b = matmul(x = a, y = second);
    tensor<fp32, [1, 64]> y = add(x = b, y = fp32(1));",
    );
    for quantization in [Quantization::None, Quantization::Float16, Quantization::Int8] {
        run(&Optimizer::new().quantization(quantization), &model, &output).unwrap();
        let result = Model::open(&output).unwrap();
        let function = result.function(None).unwrap();
        let names: Vec<&str> = function
            .values()
            .filter(|(_, v)| {
                v.ty.as_tensor().is_some_and(|t| t.rank() == 2 && t.shape[0].fixed() == Some(64))
            })
            .map(|(_, v)| v.name.as_str())
            .collect();
        assert_eq!(names, ["first", "second"], "{quantization:?}");
    }
}

#[test]
fn functions_share_their_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlpackage");
    let text = format!(
        "program(1.3)\n{{\n    func main<ios18>(tensor<fp32, [1, 64]> x) {{{}\n    }} -> (y);\n}}\n",
        LINEAR.replace("WEIGHT", &weight())
    );
    let mut program = parse(&text).unwrap();
    let other = program.functions["main"].clone();
    program.functions.insert("other".into(), other);
    write(&path, program);
    let model = Arc::new(Model::open(&path).unwrap());
    let output = folder.path().join("small.mlpackage");
    let report = run(&Optimizer::new().quantization(Quantization::Int8), &model, &output).unwrap();
    assert_eq!((report.weights.len(), report.proof.functions.len()), (2, 2));
    let weights = std::fs::metadata(output.join("Data/com.apple.CoreML/weights/weight.bin")).unwrap().len();
    assert!((4096 + 256..2 * 4096).contains(&weights), "{weights}");
}

#[test]
fn what_underflows_in_fp16_is_found_and_stays_in_fp32() {
    let folder = tempfile::tempdir().unwrap();
    // Most classes are far below 6e-8, which is the least fp16, and the logarithm tells.
    let (model, output) = model(
        folder.path(),
        "
    tensor<fp32, [64, 64]> weight = const()[name = string(\"weight\"), val = WEIGHT];
    tensor<fp32, [1, 64]> h = linear(x = x, weight = weight)[name = string(\"h\")];
    tensor<fp32, [1, 64]> s = mul(x = h, y = fp32(8))[name = string(\"s\")];
    tensor<fp32, [1, 64]> p = softmax(x = s, axis = int32(1))[name = string(\"p\")];
    tensor<fp32, [1, 64]> y = log(x = p, epsilon = fp32(1e-45))[name = string(\"y\")];",
    );
    let half = Optimizer::new().quantization(Quantization::Float16).tolerance(40.0);
    let report = run(&half, &model, &output).unwrap();
    let kept: Vec<(&str, &str)> = report.kept.iter().map(|k| (k.op, k.name.as_str())).collect();
    assert_eq!(kept, [("softmax", "p"), ("log", "y")], "{:?}", report.kept);
    assert!(report.kept[0].reason.starts_with("log `y` loses it in fp16"), "{}", report.kept[0].reason);
    // The inputs were drawn: the report says so, and how much larger they may be.
    assert!(report.proof.is_smoke_test());
    assert!(report.fp16_headroom.is_some_and(|n| n > 10.0), "{:?}", report.fp16_headroom);
}

#[test]
fn a_proof_that_proves_nothing_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = model(
        folder.path(),
        "
    tensor<fp32, [64, 64]> weight = const()[name = string(\"weight\"), val = WEIGHT];
    tensor<fp32, [1, 64]> h = linear(x = x, weight = weight)[name = string(\"h\")];
    tensor<fp32, [1, 64]> low = sub(x = h, y = fp32(1000))[name = string(\"low\")];
    tensor<fp32, [1, 64]> y = relu(x = low)[name = string(\"y\")];",
    );
    let one_bit = Optimizer::new().quantization(Quantization::Palette1);
    for tolerance in [Tolerance::Default, Tolerance::Decibels(60.0), Tolerance::Decibels(-60.0)] {
        let error = run(&one_bit.clone().tolerance(tolerance), &model, &output).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tolerance);
        assert!(error.to_string().contains("it proves nothing"), "{error}");
        // More bits would not help.
        assert!(!error.hint().unwrap().contains("bits"), "{error:?}");
        assert!(!output.exists());
    }
    run(&one_bit.tolerance(Tolerance::None), &model, &output).unwrap();
}

/// Signal to noise by default: nothing that is far off is written, and what was lifted is.
#[test]
fn every_setting_has_a_tolerance() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = model(folder.path(), LINEAR);
    let one_bit = Optimizer::new().quantization(Quantization::Palette1);
    let error = run(&one_bit, &model, &output).unwrap_err();
    assert!(
        error.to_string().contains("not within 10 dB of the original, the default for palette1"),
        "{error}"
    );
    let report = run(&one_bit.tolerance(Tolerance::None), &model, &output).unwrap();
    assert_eq!((report.tolerance_db, report.not_smaller), (None, None));
    let plain = run(&Optimizer::new(), &model, &output).unwrap();
    assert_eq!(plain.tolerance_db, Some(40.0));
    assert!(plain.not_smaller.unwrap().contains("weights stay as they are"));
}

/// A name, the body of a function of `x`, fp32 `[1, 64]`, and what it must compute of one value.
type Case = (&'static str, &'static str, fn(f64) -> f64);

/// Programs with blocks and lists.
fn programs_with_blocks() -> Vec<Case> {
    vec![
        (
            "a loop that carries numbers",
            "
    int32 i, tensor<fp32, [1, 64]> y = while_loop(loop_vars = (int32(0), x))
        (int32 i_c, tensor<fp32, [1, 64]> y_c) { bool go = less(x = i_c, y = int32(4)); } -> (go),
        (int32 i_b, tensor<fp32, [1, 64]> y_b) {
            tensor<fp32, [1, 64]> half = mul(x = y_b, y = fp32(0.5));
            tensor<fp32, [1, 64]> next_y = add(x = half, y = x);
            int32 next_i = add(x = i_b, y = int32(1));
        } -> (next_i, next_y);",
            |x| x * (1.0 / 16.0 + 1.0 + 0.5 + 0.25 + 0.125),
        ),
        (
            // In fp16, 2048 + 1 is 2048.
            "a counter of fp32",
            "
    fp32 n, tensor<fp32, [1, 64]> y = while_loop(loop_vars = (fp32(0), x))
        (fp32 n_c, tensor<fp32, [1, 64]> y_c) { bool go = less(x = n_c, y = fp32(2600)); } -> (go),
        (fp32 n_b, tensor<fp32, [1, 64]> y_b) {
            tensor<fp32, [1, 64]> next_y = sub(x = x, y = y_b);
            fp32 next_n = add(x = n_b, y = fp32(1));
        } -> (next_n, next_y);",
            |x| x,
        ),
        (
            "a loop until it converges, its condition carried",
            "
    tensor<fp32, [1, 64]> wanted = exp(x = x);
    bool more, tensor<fp32, [1, 64]> y = while_loop(loop_vars = (bool(true), x))
        (bool go, tensor<fp32, [1, 64]> y_c) { } -> (go),
        (bool go_b, tensor<fp32, [1, 64]> y_b) {
            tensor<fp32, [1, 64]> left = sub(x = wanted, y = y_b);
            tensor<fp32, [1, 64]> step = mul(x = left, y = fp32(0.7));
            tensor<fp32, [1, 64]> next_y = add(x = y_b, y = step);
            tensor<fp32, [1, 64]> after = sub(x = wanted, y = next_y);
            tensor<fp32, [1, 64]> size = abs(x = after);
            tensor<fp32, []> worst = reduce_max(x = size, axes = tensor<int32, [2]>([0, 1]), keep_dims = bool(false));
            bool go_on = greater(x = worst, y = fp32(0.000003));
        } -> (go_on, next_y);",
            f64::exp,
        ),
        (
            "what overflows in a loop",
            "
    tensor<fp32, [1, 64]> near = relu(x = x);
    int32 i, tensor<fp32, [1, 64]> large = while_loop(loop_vars = (int32(0), near))
        (int32 i_c, tensor<fp32, [1, 64]> l_c) { bool go = less(x = i_c, y = int32(2)); } -> (go),
        (int32 i_b, tensor<fp32, [1, 64]> l_b) {
            tensor<fp32, [1, 64]> next_l = mul(x = l_b, y = fp32(900));
            int32 next_i = add(x = i_b, y = int32(1));
        } -> (next_i, next_l);
    tensor<fp32, [1, 64]> y = mul(x = large, y = fp32(0.001));",
            |x| x.max(0.0) * 810.0,
        ),
        (
            "a list of unknown length that a loop fills, and choices inside it",
            "
    tensor<fp32, [1, 64]> a = tanh(x = x);
    list<tensor<fp32, [1, 64]>, ?> none = make_list(init_length = int32(1), elem_shape = (int32(1), int32(64)));
    int32 i, list<tensor<fp32, [1, 64]>, ?> all = while_loop(loop_vars = (int32(0), none))
        (int32 i_c, list<tensor<fp32, [1, 64]>, ?> all_c) { bool go = less(x = i_c, y = int32(4)); } -> (go),
        (int32 i_b, list<tensor<fp32, [1, 64]>, ?> all_b) {
            bool early = less(x = i_b, y = int32(2));
            tensor<fp32, [1, 64]> chosen = cond(pred = early)
                () { tensor<fp32, [1, 64]> twice = add(x = a, y = a); } -> (twice),
                () { } -> (a);
            list<tensor<fp32, [1, 64]>, ?> more = list_write(ls = all_b, index = i_b, value = chosen);
            int32 next = add(x = i_b, y = int32(1));
        } -> (next, more);
    tensor<fp32, [2, 1, 64]> some = list_gather(ls = all, indices = tensor<int32, [2]>([1, 3]));
    tensor<fp32, [1, 64]> y = reduce_sum(x = some, axes = tensor<int32, [1]>([0]), keep_dims = bool(false));",
            |x| 3.0 * x.tanh(),
        ),
        (
            "a list of known length, scattered to and read",
            "
    tensor<fp32, [1, 64]> a = exp(x = x);
    list<tensor<fp32, [64]>, 3> none = make_list(init_length = int32(3), dynamic_length = bool(false), elem_shape = (int32(64)));
    list<tensor<fp32, [64]>, 3> one = list_scatter(ls = none, indices = tensor<int32, [1]>([2]), value = a);
    tensor<fp32, [64]> read = list_read(ls = one, index = int32(2));
    tensor<fp32, [64]> zeros = list_read(ls = one, index = int32(0));
    tensor<fp32, [64]> sum = add(x = read, y = zeros);
    tensor<fp32, [1, 64]> y = expand_dims(x = sum, axes = tensor<int32, [1]>([0]));",
            f64::exp,
        ),
    ]
}

#[test]
fn loops_choices_and_lists_become_fp16_with_the_right_numbers() {
    let x: Vec<f32> = (0..64).map(|i| i as f32 / 32.0 - 1.0).collect();
    let request = InferenceRequest::new().input("x", Tensor::from_vec(&[1, 64], x.clone()).unwrap());
    for (what, body, expected) in programs_with_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let (model, output) = model(folder.path(), body);
        let samples = Samples::given(vec![request.clone()]);
        let optimizer = Optimizer::new().quantization(Quantization::Float16).samples(samples);
        run(&optimizer, &model, &output).unwrap_or_else(|e| panic!("{what}: {e}"));
        let small = Arc::new(Model::open(&output).unwrap());
        let mut session = Cpu.session(&small, &LoadOptions::default()).unwrap();
        let y = session.predict(&request).unwrap().output("y").unwrap().to_f64();
        for (x, y) in x.iter().zip(y) {
            let expected = expected(f64::from(*x));
            assert!(
                (y - expected).abs() <= 0.002 * expected.abs().max(1.0),
                "{what}: {y} of {x}, not {expected}"
            );
        }
    }
}
