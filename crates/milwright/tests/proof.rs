//! What `compare` says of whole models, and on which inputs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use milwright::{
    Comparison, ErrorKind, LoadOptions, Measure, Model, Role, SampleSource, Samples, Snr, compare,
    compare_functions,
};
use milwright_formats::proto::{self as pb, model};
use milwright_mil::{text, verify};
use prost::Message as _;

/// Small constants are written into the program; there is no weight file.
struct NoWeights;

impl milwright_convert::ml_program::WeightSink for NoWeights {
    fn store(
        &mut self,
        _: milwright_formats::blob::BlobType,
        _: usize,
        _: &[u8],
    ) -> Result<pb::mil_spec::value::BlobFileValue, milwright_formats::Error> {
        unreachable!("the constants are small")
    }
}

fn model(inputs: &str, body: &str, outputs: &str) -> Arc<Model> {
    let source =
        format!("program(1.3)\n{{\n    func main<ios18>({inputs}) {{\n{body}\n    }} -> ({outputs});\n}}\n");
    let program = verify(text::parse(&source).unwrap()).unwrap();
    let program = milwright_convert::ml_program::write(&program, &mut NoWeights).unwrap();
    let r#type = Some(model::Type::MlProgram(program));
    let model = pb::Model { specification_version: 9, r#type, ..Default::default() };
    Arc::new(Model::from_bytes(model.encode_to_vec().into(), &BTreeMap::new()).unwrap())
}

fn compared(a: &Arc<Model>, b: &Arc<Model>) -> Comparison {
    let samples = Samples::draw(a, None, 0, 8).unwrap();
    compare(a, b, None, &samples, &LoadOptions::default(), &mut || ()).unwrap()
}

const X: &str = "tensor<fp32, [1, 8]> x";
/// So few elements are written into the program.
const WEIGHT: &str = "tensor<fp32, [3, 3]> w = const()[name = string(\"w\"), val = tensor<fp32, [3, 3]>([
    [1, 2, -3], [2, -1, 1], [0, 3, 1]])];\n";

/// The same with a row changed: other logits, and now and then another token.
fn damaged() -> String {
    WEIGHT.replace("[1, 2, -3]", "[-2, 1, 2]")
}

/// Outputs of each kind that a program may have, and how each is judged.
const HEADS: [(&str, &str, Measure); 8] = [
    ("y", "tensor<fp32, [1, 3]> y = relu(x = h)[name = string(\"y\")];", Measure::Numbers),
    (
        "y",
        "tensor<int32, [1]> y = reduce_argmax(x = h, axis = int32(1), keep_dims = bool(false))[name = string(\"y\")];",
        Measure::Choices,
    ),
    (
        "y",
        "tensor<int32, [1, 1]> i = reduce_argmax(x = h, axis = int32(1), keep_dims = bool(true))[name = string(\"i\")];
         tensor<fp32, [1, 1]> y = cast(x = i, dtype = string(\"fp32\"))[name = string(\"y\")];",
        Measure::Choices,
    ),
    (
        "y",
        "tensor<fp32, [1, 2]> v, tensor<int32, [1, 2]> y = topk(x = h, k = int32(2), axis = int32(1))[name = string(\"y\")];",
        Measure::Choices,
    ),
    ("y", "tensor<bool, [1, 3]> y = greater(x = h, y = fp32(0))[name = string(\"y\")];", Measure::Choices),
    (
        "y",
        "tensor<bool, [1, 3]> m = greater(x = h, y = fp32(0))[name = string(\"m\")];
         tensor<fp32, [1, 3]> y = cast(x = m, dtype = string(\"fp32\"))[name = string(\"y\")];",
        Measure::Choices,
    ),
    (
        "y",
        "tensor<fp32, [1, 3]> s = mul(x = h, y = fp32(100))[name = string(\"s\")];
         tensor<fp32, [1, 3]> r = round(x = s)[name = string(\"r\")];
         tensor<int32, [1, 3]> y = cast(x = r, dtype = string(\"int32\"))[name = string(\"y\")];",
        Measure::Numbers,
    ),
    ("y", "tensor<fp32, [1, 3]> y = softmax(x = h, axis = int32(1))[name = string(\"y\")];", Measure::Scores),
];

#[test]
fn every_kind_of_output_is_judged() {
    for (output, head, measure) in HEADS {
        let with = |weight: &str| {
            let body = format!(
                "{weight} tensor<fp32, [1, 3]> h = linear(x = x, weight = w)[name = string(\"h\")];\n{head}"
            );
            model("tensor<fp32, [1, 3]> x", &body, output)
        };
        let (a, b) = (with(WEIGHT), with(&damaged()));
        let same = compared(&a, &a);
        assert_eq!(same.failures(1e9), [""; 0], "{head}");
        assert_eq!((same.outputs[0].measure, same.outputs[0].snr_db), (measure, Snr::Equal), "{head}");
        let other = compared(&a, &b);
        assert_eq!(other.failures(60.0).len(), 1, "{head}: {other:?}");
        assert_eq!(other.failures(None), [""; 0], "{head}");
    }
}

/// Models that draw random numbers draw the same ones, or else none would be like itself.
#[test]
fn random_numbers_are_drawn_alike() {
    let with = |scale: f32| {
        let body = format!(
            "tensor<fp32, [1, 8]> r = random_normal(shape = tensor<int32, [2]>([1, 8]), mean = fp32(0), stddev = fp32(1), \
             seed = int32(-1))[name = string(\"r\")];
             tensor<fp32, [1, 8]> s = mul(x = r, y = fp32({scale}))[name = string(\"s\")];
             tensor<fp32, [1, 8]> y = add(x = x, y = s)[name = string(\"y\")];"
        );
        model(X, &body, "y")
    };
    let (a, b) = (with(1.0), with(3.0));
    assert_eq!(compared(&a, &a).failures(100.0), [""; 0]);
    assert_eq!(compared(&a, &b).failures(20.0).len(), 1);
}

/// Each op takes the result of the one before it twice: there are 2^60 ways back to the input.
#[test]
fn a_value_is_traced_once() {
    let mut body =
        "tensor<fp32, [1, 8]> v0 = mul(x = x, y = fp32(1e-9))[name = string(\"v0\")];\n".to_owned();
    for i in 0..60 {
        let (op, next) = (["add", "maximum"][i % 2], i + 1);
        body += &format!(
            "tensor<fp32, [1, 8]> v{next} = {op}(x = v{i}, y = v{i})[name = string(\"v{next}\")];\n"
        );
    }
    let doubled = model(X, &body, "v60");
    let found = compared(&doubled, &doubled);
    assert_eq!(found.failures(60.0), [""; 0]);
    assert_eq!(found.outputs[0].measure, Measure::Numbers);
}

#[test]
fn lost_and_new_outputs_are_named() {
    let body = "tensor<fp32, [1, 8]> boxes = relu(x = x)[name = string(\"boxes\")];
        tensor<fp32, [1, 8]> scores = sigmoid(x = x)[name = string(\"scores\")];";
    let (two, one) = (model(X, body, "boxes, scores"), model(X, body, "boxes"));
    let lost = compared(&two, &one);
    assert_eq!(lost.failures(None), ["scores: it is lost: the second model does not have it"]);
    let new = compared(&one, &two);
    assert_eq!(new.failures(None), ["scores: it is new: the first model does not have it"]);
    let flat = "tensor<fp32, [8]> boxes = reshape(x = x, shape = tensor<int32, [1]>([8]))[name = string(\"boxes\")];";
    let shape = compared(&one, &model(X, flat, "boxes"));
    assert_eq!(shape.failures(None), ["boxes: it has the shape [8], not [1, 8]"]);
    let whole =
        "tensor<int32, [1, 8]> boxes = cast(x = x, dtype = string(\"int32\"))[name = string(\"boxes\")];";
    let dtype = compared(&one, &model(X, whole, "boxes"));
    assert_eq!(dtype.failures(None), ["boxes: it has elements of type int32, not fp32"]);
}

#[test]
fn models_of_other_inputs_are_told_apart() {
    let of = |name: &str| {
        let body = format!("tensor<fp32, [1, 8]> y = relu(x = {name})[name = string(\"y\")];");
        model(&format!("tensor<fp32, [1, 8]> {name}"), &body, "y")
    };
    let (a, b) = (described(&of("x"), &["x"]), described(&of("z"), &["z"]));
    let samples = Samples::draw(&a, None, 0, 2).unwrap();
    let error = compare(&a, &b, None, &samples, &LoadOptions::default(), &mut || ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("the two models take different inputs"), "{error}");
    assert_eq!(error.hint(), Some("the inputs of the first are: x; those of the second: z"));
}

/// The same model with a description of its inputs, fp32 `[1, 8]` each.
fn described(model: &Arc<Model>, inputs: &[&str]) -> Arc<Model> {
    let array = pb::ArrayFeatureType {
        shape: vec![1, 8],
        data_type: pb::array_feature_type::ArrayDataType::Float32.into(),
        ..Default::default()
    };
    let ty =
        pb::FeatureType { r#type: Some(pb::feature_type::Type::MultiArrayType(array)), ..Default::default() };
    with_description(model, inputs.iter().map(|name| feature(name, ty.clone())).collect(), Vec::new())
}

fn feature(name: &str, ty: pb::FeatureType) -> pb::FeatureDescription {
    pb::FeatureDescription { name: name.to_owned(), r#type: Some(ty), ..Default::default() }
}

/// The same model with a description.
fn with_description(
    model: &Arc<Model>,
    input: Vec<pb::FeatureDescription>,
    output: Vec<pb::FeatureDescription>,
) -> Arc<Model> {
    let program = milwright_convert::ml_program::write(model.program().unwrap(), &mut NoWeights).unwrap();
    let description = Some(Box::new(pb::ModelDescription { input, output, ..Default::default() }));
    let r#type = Some(model::Type::MlProgram(program));
    let model = pb::Model { specification_version: 9, description, r#type, ..Default::default() };
    Arc::new(Model::from_bytes(model.encode_to_vec().into(), &BTreeMap::new()).unwrap())
}

#[test]
fn what_is_always_zero_proves_nothing() {
    let zero = "tensor<fp32, [1, 8]> low = sub(x = x, y = fp32(100))[name = string(\"low\")];
        tensor<fp32, [1, 8]> y = relu(x = low)[name = string(\"y\")];";
    let found = compared(&model(X, zero, "y"), &model(X, zero, "y"));
    assert!(found.outputs[0].constant);
    let why = "y: not judged: it does not depend on the inputs, so that it proves nothing";
    assert_eq!(found.failures(-100.0), [why]);
    assert_eq!(found.failures(None), [""; 0]);

    // What cannot depend on them is another matter.
    let table = "tensor<fp32, [4]> anchors = const()[name = string(\"anchors\"), val = tensor<fp32, [4]>([0, 0, 0, 0])];
        tensor<fp32, [1, 8]> y = relu(x = x)[name = string(\"y\")];
        tensor<fp32, [4]> grid = add(x = anchors, y = fp32(0))[name = string(\"grid\")];";
    let table = model(X, table, "y, grid");
    assert_eq!(compared(&table, &table).failures(1e9), [""; 0]);
}

#[test]
fn states_are_compared_after_several_steps() {
    let step = |op: &str, factor: &str| {
        let body = format!(
            "tensor<fp16, [1, 8]> half = cast(x = x, dtype = string(\"fp16\"))[name = string(\"half\")];
            tensor<fp16, [1, 8]> old = read_state(input = total)[name = string(\"old\")];
            tensor<fp16, [1, 8]> sum = {op}(x = old, y = half)[name = string(\"sum\")];
            tensor<fp16, [1, 8]> new = mul(x = sum, y = fp16({factor}))[name = string(\"new\")];
            write_state(input = total, data = new);
            tensor<fp32, [1, 8]> y = relu(x = x)[name = string(\"y\")];"
        );
        model(&format!("{X}, state<tensor<fp16, [1, 8]>> total"), &body, "y")
    };
    let a = step("add", "1");
    let same = compared(&a, &a);
    assert_eq!(same.failures(1e9), [""; 0]);
    assert_eq!((same.outputs[1].name.as_str(), same.outputs[1].role), ("total", Role::State));
    // The output does not show it.
    for b in [step("add", "0.5"), step("sub", "1"), step("maximum", "1")] {
        let found = compared(&a, &b);
        assert_eq!(found.outputs[0].snr_db, Snr::Equal);
        let failures = found.failures(20.0);
        assert!(failures.len() == 1 && failures[0].starts_with("total: "), "{failures:?}");
    }
}

#[test]
fn what_is_drawn_suits_the_model_and_is_said() {
    let table = "tensor<fp32, [4, 2]> table = const()[name = string(\"table\"), val = tensor<fp32, [4, 2]>([
            [1, 2], [3, 4], [5, 6], [7, 8]])];
        tensor<int32, [1, 40]> moved = add(x = ids, y = int32(1))[name = string(\"moved\")];
        tensor<fp32, [1, 40, 2]> rows = gather(x = table, indices = moved, axis = int32(0))[name = string(\"rows\")];
        tensor<int32, [40]> whole = cast(x = words, dtype = string(\"int32\"))[name = string(\"whole\")];
        tensor<fp32, [40, 7]> hot = one_hot(indices = whole, one_hot_vector_size = int32(7), axis = int32(-1), on_value = fp32(1), off_value = fp32(0))[name = string(\"hot\")];
        tensor<fp32, [3, 40]> masked = cast(x = attention_mask, dtype = string(\"fp32\"))[name = string(\"masked\")];
        tensor<fp32, [4]> z = relu(x = x)[name = string(\"z\")];";
    let inputs = "tensor<int32, [1, 40]> ids, tensor<fp32, [40]> words, tensor<int32, [3, 40]> attention_mask, tensor<fp32, [4]> x";
    let model = model(inputs, table, "rows, hot, masked, z");
    let samples = Samples::draw(&model, None, 3, 8).unwrap();
    let SampleSource::Drawn { seed, ranges } = &samples.source else { panic!("{:?}", samples.source) };
    let ranges: Vec<(&str, &str)> = ranges.iter().map(|(n, r)| (n.as_str(), r.as_str())).collect();
    let expected = [
        ("attention_mask", "a mask: ones, then zeros"),
        ("ids", "whole numbers, 0 to 2"),
        ("words", "whole numbers, 0 to 6"),
        ("x", "-1 to 1"),
    ];
    assert_eq!((*seed, &ranges[..]), (3, &expected[..]));
    for request in &samples.requests {
        let of = |name: &str| request.inputs().iter().find(|(n, _)| n == name).unwrap().1.to_f64();
        assert!(of("ids").iter().all(|&x| (0.0..=2.0).contains(&x)));
        assert!(of("words").iter().all(|&x| (0.0..=6.0).contains(&x) && x.fract() == 0.0));
        for row in of("attention_mask").chunks(40) {
            assert!(
                row[0] == 1.0 && row.is_sorted_by(|a, b| a >= b) && row.iter().all(|&x| x == 0.0 || x == 1.0)
            );
        }
    }
    let found = compare(&model, &model, None, &samples, &LoadOptions::default(), &mut || ()).unwrap();
    assert_eq!(found.failures(1e9), [""; 0]);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json[0]["inputs"]["kind"], "drawn");
    assert_eq!(json[0]["inputs"]["ranges"]["ids"], "whole numbers, 0 to 2");
    assert_eq!(json[0]["snr_db"], "equal");
}

/// Models of all kinds run on what is drawn for them, and are the same as themselves.
#[test]
fn every_kind_of_model_is_compared() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "mlmodel") {
            let Ok(model) = Model::open(&path) else { continue };
            let found = compared(&Arc::new(model), &Arc::new(Model::open(&path).unwrap()));
            assert!(!found.outputs.is_empty());
            let wrong = found.outputs.iter().find(|o| o.snr_db != Snr::Equal || o.failure(None).is_some());
            assert_eq!(wrong, None, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 12, "{seen}");
}

/// A model that swaps what the one colour order calls the first and the last plane is wrong, whichever side it is on.
#[test]
fn the_order_of_colors_is_part_of_a_picture() {
    let of = |weight: &str, input: &str, output: &str| {
        let body = format!(
            "tensor<fp32, [1, 3, 1, 1]> w = const()[name = string(\"w\"), val = tensor<fp32, [1, 3, 1, 1]>([{weight}])];
             tensor<fp32, [1, 3, 2, 2]> y = mul(x = x, y = w)[name = string(\"y\")];"
        );
        let model = model("tensor<fp32, [1, 3, 2, 2]> x", &body, "y");
        let image = |color: &str| {
            let color_space = pb::image_feature_type::ColorSpace::from_str_name(color).unwrap().into();
            let image = pb::ImageFeatureType { width: 2, height: 2, color_space, ..Default::default() };
            pb::FeatureType { r#type: Some(pb::feature_type::Type::ImageType(image)), ..Default::default() }
        };
        with_description(&model, vec![feature("x", image(input))], vec![feature("y", image(output))])
    };
    let (rgb, bgr) = ("[[[1]], [[0.5]], [[0.25]]]", "[[[0.25]], [[0.5]], [[1]]]");
    let a = of(rgb, "RGB", "RGB");
    // All planes are turned, or none.
    for same in [of(rgb, "RGB", "RGB"), of(bgr, "BGR", "BGR")] {
        assert_eq!(compared(&a, &same).failures(1e9), [""; 0]);
    }
    for other in [of(rgb, "BGR", "RGB"), of(rgb, "RGB", "BGR"), of(rgb, "BGR", "BGR"), of(bgr, "RGB", "RGB")]
    {
        assert_eq!(compared(&a, &other).failures(20.0).len(), 1);
    }
}

#[test]
fn what_only_one_model_declares_is_said() {
    let array = || pb::FeatureType {
        r#type: Some(pb::feature_type::Type::MultiArrayType(pb::ArrayFeatureType::default())),
        ..Default::default()
    };
    let body = "tensor<fp32, [1, 8]> y = relu(x = x)[name = string(\"y\")];";
    let plain = model(X, body, "y");
    let declared = with_description(&plain, Vec::new(), vec![feature("y", array())]);
    let silent = with_description(&plain, Vec::new(), Vec::new());
    let lost = compared(&declared, &silent);
    assert_eq!(lost.failures(None), ["y: it is lost: the second model does not declare it"]);
}

/// A model that is the same at the default size only is not the same.
#[test]
fn flexible_inputs_are_run_at_other_sizes() {
    let declared = |model: &Arc<Model>, flexibility: Option<pb::array_feature_type::ShapeFlexibility>| {
        let array = pb::ArrayFeatureType {
            shape: vec![1, 4],
            data_type: pb::array_feature_type::ArrayDataType::Float32.into(),
            shape_flexibility: flexibility,
            ..Default::default()
        };
        let ty = pb::FeatureType {
            r#type: Some(pb::feature_type::Type::MultiArrayType(array)),
            ..Default::default()
        };
        with_description(model, vec![feature("x", ty)], Vec::new())
    };
    let flexible = |body: &str, shapes| declared(&model("tensor<fp32, [1, ?]> x", body, "y"), Some(shapes));
    let range = |least, most| {
        let range = |lower_bound, upper_bound| pb::SizeRange { lower_bound, upper_bound };
        let size_ranges = vec![range(1, 1), range(least, most)];
        pb::array_feature_type::ShapeFlexibility::ShapeRange(pb::array_feature_type::ShapeRange {
            size_ranges,
        })
    };
    let enumerated = || {
        let shape = |n| pb::array_feature_type::Shape { shape: vec![1, n] };
        let shapes = pb::array_feature_type::EnumeratedShapes { shapes: vec![shape(4), shape(2), shape(16)] };
        pb::array_feature_type::ShapeFlexibility::EnumeratedShapes(shapes)
    };
    let relu = "tensor<fp32, [1, ?]> y = relu(x = x)[name = string(\"y\")];";
    // More where there are more than four, or fewer.
    let trick = |compare: &str| {
        format!(
            "tensor<int32, [2]> s = shape(x = x)[name = string(\"s\")];
             tensor<int32, []> n = gather(x = s, indices = int32(1), axis = int32(0))[name = string(\"n\")];
             tensor<bool, []> b = {compare}(x = n, y = int32(4))[name = string(\"b\")];
             tensor<fp32, []> f = cast(x = b, dtype = string(\"fp32\"))[name = string(\"f\")];
             tensor<fp32, [1, ?]> r = relu(x = x)[name = string(\"r\")];
             tensor<fp32, [1, ?]> y = add(x = r, y = f)[name = string(\"y\")];"
        )
    };
    for shapes in [range(1, -1), range(2, 64), enumerated()] {
        let a = flexible(relu, shapes.clone());
        let same = compared(&a, &a);
        assert_eq!((same.failures(1e9), same.sets, same.fails_at), (vec![], 10, None));
        for compare in ["less", "greater"] {
            let b = flexible(&trick(compare), shapes.clone());
            assert_eq!(compared(&a, &b).failures(20.0).len(), 1, "{compare}");
        }
        // A state that is wrong after another size only.
        let counting = |body: &str| {
            let inputs = "tensor<fp32, [1, ?]> x, state<tensor<fp16, [1, 1]>> count";
            let body = format!(
                "tensor<fp16, [1, 1]> old = read_state(input = count)[name = string(\"old\")];
                 {body}
                 tensor<fp16, [1, 1]> new = add(x = old, y = step)[name = string(\"new\")];
                 write_state(input = count, data = new);
                 {relu}"
            );
            declared(&model(inputs, &body, "y"), Some(shapes.clone()))
        };
        let one = counting("fp16 step = const()[name = string(\"step\"), val = fp16(1)];");
        let other = counting(
            "tensor<int32, [2]> s = shape(x = x)[name = string(\"s\")];
             tensor<int32, []> n = gather(x = s, indices = int32(1), axis = int32(0))[name = string(\"n\")];
             tensor<bool, []> b = equal(x = n, y = int32(4))[name = string(\"b\")];
             tensor<fp16, []> step = cast(x = b, dtype = string(\"fp16\"))[name = string(\"step\")];",
        );
        assert_eq!(compared(&one, &one).failures(1e9), [""; 0]);
        let failures = compared(&one, &other).failures(20.0);
        assert!(failures.len() == 1 && failures[0].starts_with("count: "), "{failures:?}");
        // Sizes that the original does not take are not asked of the other; those that the other does not take are said.
        let halves = "tensor<fp32, [1, 2, ?]> h = reshape(x = x, shape = tensor<int32, [3]>([1, 2, -1]))[name = string(\"h\")];
             tensor<fp32, [1, ?]> y = reshape(x = h, shape = tensor<int32, [2]>([1, -1]))[name = string(\"y\")];";
        let halves = flexible(halves, shapes);
        assert_eq!(compared(&halves, &halves).failures(1e9), [""; 0]);
        let fixed = model(
            "tensor<fp32, [1, 4]> x",
            "tensor<fp32, [1, 4]> y = relu(x = x)[name = string(\"y\")];",
            "y",
        );
        let fixed = compared(&a, &declared(&fixed, None));
        assert_eq!(fixed.failures(None), [""; 0]);
        // A result of `optimize` or `convert` would be broken.
        assert!(fixed.fails_at.as_ref().is_some_and(|why| why.contains("only the first model runs")));
        let failures = fixed.failures(20.0);
        assert!(failures[0].contains("not judged: at `x` [1, "), "{failures:?}");
    }
}

#[test]
fn all_functions_are_compared() {
    let of = |functions: &[(&str, &str)]| {
        let function = |(name, op): &(&str, &str)| {
            format!(
                "func {name}<ios18>({X}) {{ tensor<fp32, [1, 8]> y = {op}(x = x)[name = string(\"y\")]; }} -> (y);\n"
            )
        };
        let functions: String = functions.iter().map(function).collect();
        let program = verify(text::parse(&format!("program(1.3)\n{{\n{functions}}}\n")).unwrap()).unwrap();
        let program = milwright_convert::ml_program::write(&program, &mut NoWeights).unwrap();
        let r#type = Some(model::Type::MlProgram(program));
        let model = pb::Model { specification_version: 9, r#type, ..Default::default() };
        Arc::new(Model::from_bytes(model.encode_to_vec().into(), &BTreeMap::new()).unwrap())
    };
    let compared = |a: &Arc<Model>, b: &Arc<Model>| {
        let mut draw = |function: Option<&str>| Samples::draw(a, function, 0, 4);
        compare_functions(a, b, &mut draw, &LoadOptions::default(), &mut || ())
    };
    let two = of(&[("main", "relu"), ("other", "sin")]);
    assert_eq!(compared(&two, &two).unwrap().failures(1e9), [""; 0]);
    let found = compared(&two, &of(&[("main", "relu"), ("other", "cos")])).unwrap();
    let failures = found.failures(20.0);
    assert!(failures.len() == 1 && failures[0].starts_with("other.y: "), "{failures:?}");
    let rows = serde_json::to_value(found.rows()).unwrap();
    assert_eq!((&rows[0]["function"], &rows[1]["function"]), (&"main".into(), &"other".into()));
    let one = of(&[("main", "relu")]);
    for (a, b) in [(&two, &one), (&one, &two)] {
        let error = compared(a, b).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("has no `other`"), "{error}");
    }
    assert_eq!(compared(&one, &one).unwrap().failures(1e9), [""; 0]);
    // Nothing is proved on nothing.
    let none = Samples::given(Vec::new());
    let error = compare(&one, &one, None, &none, &LoadOptions::default(), &mut || ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
