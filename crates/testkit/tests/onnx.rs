//! ONNX models as a whole: control flow, sizes, constants for inputs, external data, and what is refused. Expected values
//! are worked out by hand.

use std::fs;

use bytes::Bytes;
use milwright_convert::onnx::{Options, Size, original_names, read};
use milwright_cpu::{Eager, Executable, Pool, compile};
use milwright_formats::onnx::OnnxFile;
use milwright_formats::onnx::proto::tensor_proto::{DataLocation, DataType};
use milwright_formats::onnx::proto::{ModelProto, StringStringEntryProto, TensorProto, type_proto};
use milwright_formats::proto::array_feature_type::ShapeFlexibility;
use milwright_formats::proto::feature_type;
use milwright_mil::{OpKind, Program, Tensor, verify};
use milwright_testkit::onnx::{Dim, examples, floats, graph, int, longs, model, node, value};
use prost::Message as _;

static ENGINE: Eager = Eager;

fn options() -> Options {
    Options { engine: Some(&ENGINE), ..Options::default() }
}

fn example(name: &str) -> OnnxFile {
    let (_, bytes) = examples().into_iter().find(|(n, _)| *n == name).unwrap();
    OnnxFile::from_bytes(bytes.into()).unwrap()
}

fn file(model: &ModelProto) -> OnnxFile {
    OnnxFile::from_bytes(Bytes::from(model.encode_to_vec())).unwrap()
}

/// A model of one node with an input `x` of fp32, [n, 3].
fn one(op: &str, output: DataType) -> ModelProto {
    let rows = [Dim::Name("n"), Dim::Size(3)];
    let (x, y) = (value("x", DataType::Float, &rows), value("y", output, &rows));
    model(graph(vec![node(op, "x", "y", vec![])], vec![x], vec![y], vec![]))
}

fn import(file: &OnnxFile, options: &Options) -> Program {
    read(file, options).unwrap().program
}

/// What stops the import, with its hint.
fn refusal(file: &OnnxFile, options: &Options) -> String {
    let error = read(file, options).unwrap_err();
    format!("{error} [{}]", error.hint().unwrap_or_default())
}

fn run(program: &Program, inputs: &[(&str, Tensor)]) -> Vec<Tensor> {
    let checked = verify(program.clone()).unwrap();
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(name, t)| (*name, t.shape())).collect();
    let plan = compile(&checked, "main", &shapes).unwrap();
    let executable = Executable::new(&plan, Pool::inline()).unwrap();
    executable.run(inputs).unwrap().into_iter().map(|(_, tensor)| tensor).collect()
}

fn rows(n: usize) -> Tensor {
    Tensor::from_vec(&[n, 3], (0..3 * n).map(|i| i as f32 - 2.0).collect()).unwrap()
}

fn ints(shape: &[usize], values: &[i32]) -> Tensor {
    Tensor::from_vec(shape, values.to_vec()).unwrap()
}

fn count(program: &Program, kind: OpKind) -> usize {
    let main = &program.functions["main"];
    main.walk().into_iter().filter(|&op| main[op].kind == kind).count()
}

#[test]
fn one_program_takes_many_sizes() {
    let program = import(&example("dense"), &options());
    for n in [1, 2, 5] {
        let y = &run(&program, &[("x", rows(n))])[0];
        // x·w + b, not below 0, for w = [[1, 2], [3, 4], [5, 6]] and b = [0.5, -0.5].
        let row = |i: usize| {
            let at = |k: usize| (3 * i + k) as f64 - 2.0;
            let dot = |w: [f64; 3]| w.iter().enumerate().map(|(k, w)| w * at(k)).sum::<f64>();
            [(dot([1., 3., 5.]) + 0.5).max(0.0), (dot([2., 4., 6.]) - 0.5).max(0.0)]
        };
        assert_eq!(y.shape(), [n, 2]);
        assert_eq!(y.to_f64(), (0..n).flat_map(row).collect::<Vec<_>>());
    }
}

#[test]
fn arithmetic_with_shapes_stays_open() {
    let program = import(&example("shapes"), &options());
    for n in [1, 3] {
        // The last two of each row.
        let y = &run(&program, &[("x", rows(n))])[0];
        assert_eq!(y.shape(), [n, 2, 1]);
        let wanted = (0..n).flat_map(|i| [3.0 * i as f64 - 1.0, 3.0 * i as f64]);
        assert_eq!(y.to_f64(), wanted.collect::<Vec<_>>());
    }
}

#[test]
fn a_condition_chooses_at_run_time() {
    let program = import(&example("choice"), &options());
    assert_eq!(count(&program, OpKind::Cond), 1);
    let results = [1, 0].map(|c| run(&program, &[("c", ints(&[1], &[c])), ("x", rows(1))])[0].to_f64());
    assert_eq!(results, [vec![2.0, 1.0, 0.0], vec![2.0, 1.0, -0.0]]);
}

#[test]
fn a_condition_that_is_known_is_folded() {
    let c = Tensor::from_bools(&[], &[true]).unwrap();
    let frozen = Options { frozen: [("c".to_owned(), c)].into(), ..options() };
    let program = import(&example("choice"), &frozen);
    assert_eq!((count(&program, OpKind::Cond), count(&program, OpKind::Abs)), (0, 1));
    assert_eq!(program.functions["main"].inputs.len(), 1);
    assert_eq!(run(&program, &[("x", rows(2))])[0].to_f64(), [2., 1., 0., 1., 2., 3.]);
}

#[test]
fn a_loop_turns_as_often_as_asked() {
    let program = import(&example("loop"), &options());
    assert_eq!(count(&program, OpKind::WhileLoop), 1);
    for (turns, n) in [(1, 1), (3, 1), (2, 4)] {
        let found = run(&program, &[("m", ints(&[1], &[turns as i32])), ("x", rows(n))]);
        let scaled = |by: usize| rows(n).to_f64().into_iter().map(move |x| x * by as f64);
        // Each turn adds x once more; the second output has what each turn gave.
        assert_eq!(found[0].to_f64(), scaled(turns + 1).collect::<Vec<_>>());
        assert_eq!(found[1].shape(), [turns, n, 3]);
        assert_eq!(found[1].to_f64(), (2..=turns + 1).flat_map(scaled).collect::<Vec<_>>());
    }
    let frozen = Options { frozen: [("m".to_owned(), Tensor::scalar(2))].into(), ..options() };
    let unrolled = import(&example("loop"), &frozen);
    assert_eq!(count(&unrolled, OpKind::WhileLoop), 0);
    assert_eq!(run(&unrolled, &[("x", rows(1))])[0].to_f64(), [-6.0, -3.0, 0.0]);
}

#[test]
fn functions_and_sequences_leave_only_ops() {
    let twice = import(&example("functions"), &options());
    assert_eq!(run(&twice, &[("x", rows(1))])[0].to_f64(), [-4.0, -2.0, 0.0]);
    // Each column, then all of them again.
    let columns = import(&example("sequences"), &options());
    assert_eq!(run(&columns, &[("x", rows(1))])[0].to_f64(), [-2., -1., 0., -2., -1., 0.]);
}

#[test]
fn sizes_are_bound_by_name_or_place() {
    let shape = |key: &str, size: Size| {
        let options = Options { sizes: [(key.to_owned(), size)].into(), ..options() };
        let program = import(&example("dense"), &options);
        let main = &program.functions["main"];
        main[main.inputs[0]].ty.as_tensor().unwrap().fixed_shape()
    };
    assert_eq!(shape("batch", Size::Fixed(4)), Some(vec![4, 3]));
    assert_eq!(shape("x.0", Size::Fixed(4)), Some(vec![4, 3]));
    assert_eq!(shape("batch", Size::Range(1, Some(8))), None);
    assert_eq!("1..8".parse(), Ok(Size::Range(1, Some(8))));
    assert_eq!("2..".parse(), Ok(Size::Range(2, None)));
    assert_eq!("224,320".parse(), Ok(Size::OneOf(vec![224, 320])));
    assert!("8..1".parse::<Size>().is_err() && "x".parse::<Size>().is_err());
    let unknown = Options { sizes: [("bach".to_owned(), Size::Fixed(1))].into(), ..options() };
    let text = refusal(&example("dense"), &unknown);
    assert!(text.contains("no input has a size named `bach`") && text.contains("`batch`"), "{text}");
}

/// How far an open size may go in a package, and its default, follow from what it counts.
#[test]
fn open_sizes_are_long_for_signals() {
    let of = |inputs: &[(&str, DataType, &[Dim<'_>])], nodes| {
        let inputs = inputs.iter().map(|&(name, ty, shape)| value(name, ty, shape)).collect();
        let y = value("y", DataType::Float, &[Dim::Name("a"), Dim::Name("b")]);
        let model = file(&model(graph(nodes, inputs, vec![y], vec![])));
        let imported = read(&model, &Options { for_package: true, ..options() }).unwrap();
        let x = &imported.model.description.unwrap().input[0];
        let Some(feature_type::Type::MultiArrayType(x)) = x.r#type.as_ref().unwrap().r#type.clone() else {
            panic!("an array")
        };
        let Some(ShapeFlexibility::ShapeRange(range)) = x.shape_flexibility else { panic!("a range") };
        (x.shape, range.size_ranges.iter().map(|r| r.upper_bound).collect::<Vec<_>>())
    };
    let relu = || vec![node("Relu", "x", "y", vec![])];
    let (batch, length) = (Dim::Name("batch"), Dim::Name("n"));
    let waves = of(&[("x", DataType::Float, &[batch, length])], relu());
    assert_eq!(waves, (vec![1, 16000], vec![64, 1 << 20]));
    // The lengths of the waves of a batch count as the batch does.
    let lengths = ("lengths", DataType::Int64, &[batch][..]);
    let used = vec![
        node("Cast", "lengths", "l", vec![int("to", 1)]),
        node("ReduceSum", "l", "sum", vec![]),
        node("Add", "x sum", "y", vec![]),
    ];
    assert_eq!(of(&[("x", DataType::Float, &[batch, length]), lengths], used).1, [64, 1 << 20]);
    // A net that reads one frame has a default length of one: with others it would read outside of what is there.
    let x = value("x", DataType::Float, &[batch, length]);
    let y = value("y", DataType::Float, &[Dim::Name("a"), Dim::Name("b")]);
    let nodes = vec![
        node("Shape", "x", "shape", vec![]),
        node("Gather", "shape one", "length", vec![]),
        node("Div", "length frame", "index", vec![]),
        node("Gather", "table index", "row", vec![]),
        node("Add", "x row", "y", vec![]),
    ];
    let constants = vec![longs("one", &[1]), longs("frame", &[1000]), floats("table", &[1, 1], &[0.5])];
    let framed = file(&model(graph(nodes, vec![x], vec![y], constants)));
    let imported = read(&framed, &Options { for_package: true, ..options() }).unwrap();
    let text = imported.notes.join("\n");
    assert!(text.contains("`n`") && text.contains("is 1 by default"), "{text}");
    // Rows of features are no signal.
    let rows = of(&[("x", DataType::Float, &[batch, length, Dim::Size(3)])], relu());
    assert_eq!(rows.1, [64, 2048, 3]);
}

#[test]
fn only_inputs_can_be_frozen_and_only_to_what_they_hold() {
    let freeze =
        |name: &str, value: Tensor| Options { frozen: [(name.to_owned(), value)].into(), ..options() };
    let text = refusal(&example("loop"), &freeze("n", Tensor::scalar(2)));
    assert!(text.contains("there is no input `n` to freeze") && text.contains("m, x"), "{text}");
    let text = refusal(&example("loop"), &freeze("m", Tensor::scalar(2.5f32)));
    assert!(text.contains("do not fit its element type, int64"), "{text}");
}

#[test]
fn external_data_is_read_beside_the_model_only() {
    let folder = tempfile::tempdir().unwrap();
    let values = [1f32, -2.0, 3.0];
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let inner = folder.path().join("model");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("w.bin"), [&[0; 8], &bytes[..]].concat()).unwrap();
    fs::write(folder.path().join("w.bin"), &bytes).unwrap();
    let with = |entries: &[(&str, &str)]| {
        let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        let w = TensorProto {
            data_location: Some(DataLocation::External.into()),
            external_data: entries.iter().map(entry).collect(),
            float_data: Vec::new(),
            ..floats("w", &[3], &[])
        };
        let mut model = one("Add", DataType::Float);
        let graph = model.graph.as_mut().unwrap();
        graph.node[0].input.push("w".to_owned());
        graph.initializer.push(w);
        let path = inner.join("model.onnx");
        fs::write(&path, model.encode_to_vec()).unwrap();
        OnnxFile::open(&path).unwrap()
    };
    let program = import(&with(&[("location", "w.bin"), ("offset", "8"), ("length", "12")]), &options());
    assert_eq!(run(&program, &[("x", rows(1))])[0].to_f64(), [-1.0, -3.0, 3.0]);
    let text = refusal(&with(&[("location", "../w.bin")]), &options());
    assert!(text.contains("initializer `w`") && text.contains("leaves the model's folder"), "{text}");
    let text = refusal(&with(&[("location", "w.bin"), ("offset", "12")]), &options());
    assert!(text.contains("has 20 bytes"), "{text}");
    let text = refusal(&with(&[("location", "other.bin")]), &options());
    assert!(text.contains("`other.bin`") && text.contains("missing"), "{text}");
}

#[test]
fn what_is_refused_is_named_with_a_reason_and_a_remedy() {
    let text = refusal(&file(&one("StringNormalizer", DataType::Float)), &options());
    assert!(text.contains("(StringNormalizer)") && text.contains("strings"), "{text}");
    let text = refusal(&file(&one("Reluu", DataType::Float)), &options());
    assert!(text.contains("there is no op of this name") && text.contains("`Relu`"), "{text}");
    let mut newer = one("Relu", DataType::Float);
    newer.opset_import[0].version = Some(99);
    let text = refusal(&file(&newer), &options());
    assert!(text.contains("opset 99") && text.contains("export the model for opset"), "{text}");
    let mut foreign = one("Fft", DataType::Float);
    foreign.graph.as_mut().unwrap().node[0].domain = Some("com.example".to_owned());
    let text = refusal(&file(&foreign), &options());
    assert!(text.contains("com.example") && text.contains("export the model without them"), "{text}");
    let mut dangling = one("Relu", DataType::Float);
    dangling.graph.as_mut().unwrap().node[0].input[0] = "z".to_owned();
    let text = refusal(&file(&dangling), &options());
    assert!(text.contains("`z` is not defined"), "{text}");
    let mut unranked = one("Relu", DataType::Float);
    unranked.graph.as_mut().unwrap().input[0] = {
        use milwright_formats::onnx::proto::{TypeProto, ValueInfoProto, type_proto};
        let tensor = type_proto::Tensor { elem_type: Some(DataType::Float.into()), shape: None };
        let ty = TypeProto { denotation: None, value: Some(type_proto::Value::TensorType(tensor)) };
        ValueInfoProto { name: Some("x".to_owned()), r#type: Some(ty), ..ValueInfoProto::default() }
    };
    let text = refusal(&file(&unranked), &options());
    assert!(text.contains("its number of dimensions is not known"), "{text}");
}

/// All nodes that cannot be lowered are named at once; those that only need their results are not.
#[test]
fn all_faults_are_listed() {
    let x = || value("x", DataType::Float, &[Dim::Size(3)]);
    let nodes = vec![
        node("StringSplit", "x", "a", vec![]),
        node("Relu", "a", "b", vec![]),
        node("Nonsense", "x", "c", vec![]),
        node("Add", "b c", "y", vec![]),
    ];
    let y = value("y", DataType::Float, &[Dim::Size(3)]);
    let text = refusal(&file(&model(graph(nodes, vec![x()], vec![y], vec![]))), &options());
    assert!(text.contains("StringSplit") && text.contains("Nonsense") && !text.contains("Relu)"), "{text}");
}

#[test]
fn names_that_were_changed_are_kept_in_the_metadata() {
    let (old, out) = (r"in;put=a\b", "y:0");
    let mut odd = one("Relu", DataType::Float);
    let graph = odd.graph.as_mut().unwrap();
    graph.input[0].name = Some(old.to_owned());
    graph.node[0].input[0] = old.to_owned();
    graph.output[0].name = Some(out.to_owned());
    graph.node[0].output[0] = out.to_owned();
    let as_it_is = import(&file(&odd), &options());
    let main = &as_it_is.functions["main"];
    assert_eq!(main[main.inputs[0]].name, old);
    assert_eq!(main[main[main.body].outputs[0]].name, out);
    let imported = read(&file(&odd), &Options { for_package: true, ..options() }).unwrap();
    let main = &imported.program.functions["main"];
    let (x, y) = (main[main.inputs[0]].name.clone(), main[main[main.body].outputs[0]].name.clone());
    let metadata = imported.model.description.unwrap().metadata.unwrap().user_defined;
    let names = original_names(&metadata.into_iter().collect());
    assert_eq!((&names[&x][..], &names[&y][..]), (old, out));
}

/// What a program gives may not be called as what it takes.
#[test]
fn an_input_may_be_an_output() {
    let shape = [Dim::Name("n"), Dim::Size(3)];
    let both = |name: &str| value(name, DataType::Float, &shape);
    let taken = "x_output";
    let through =
        graph(vec![node("Relu", "x", taken, vec![])], vec![both("x")], vec![both("x"), both(taken)], vec![]);
    for for_package in [false, true] {
        let imported = read(&file(&model(through.clone())), &Options { for_package, ..options() }).unwrap();
        let main = &imported.program.functions["main"];
        let names: Vec<&str> = main[main.body].outputs.iter().map(|&v| &main[v].name[..]).collect();
        assert_eq!(names, ["x_output_1", taken]);
        let metadata = imported.model.description.unwrap().metadata.unwrap().user_defined;
        assert_eq!(original_names(&metadata.into_iter().collect())["x_output_1"], "x");
        let results = run(&imported.program, &[("x", rows(2))]);
        assert_eq!(results[0], rows(2));
    }
}

/// Nodes tell how many dimensions an input has, or the user does.
#[test]
fn inputs_without_declared_dimensions() {
    let mut x = value("x", DataType::Float, &[]);
    let Some(type_proto::Value::TensorType(ty)) = x.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
        panic!("a tensor")
    };
    ty.shape = None;
    let with = |nodes| {
        let y = value("y", DataType::Float, &[Dim::Name("n"), Dim::Name("m")]);
        file(&model(graph(nodes, vec![x.clone()], vec![y], vec![floats("w", &[3, 1], &[1., 2., 3.])])))
    };
    let told = with(vec![node("Relu", "x", "h", vec![]), node("Gemm", "h w", "y", vec![])]);
    assert_eq!(run(&import(&told, &options()), &[("x", rows(2))])[0].to_f64(), [0.0, 14.0]);
    let open = with(vec![node("Relu", "x", "y", vec![])]);
    let refused = refusal(&open, &options());
    assert!(refused.contains("number of dimensions") && refused.contains("--size x.0=1"), "{refused}");
    let sizes = [("x.0".to_owned(), Size::Range(1, None)), ("x.1".to_owned(), Size::Fixed(3))];
    let given = Options { sizes: sizes.into_iter().collect(), ..options() };
    assert_eq!(run(&import(&open, &given), &[("x", rows(4))])[0].shape(), [4, 3]);
}

/// Detectors: a limit of "as many as there are", and images on which nothing is found.
#[test]
fn detectors_may_find_nothing() {
    let limit = longs("limit", &[i64::MAX]);
    let thresholds = [floats("iou", &[1], &[0.5]), floats("least", &[1], &[0.1])];
    let suppress = graph(
        vec![node("NonMaxSuppression", "boxes scores limit iou least", "y", vec![])],
        vec![
            value("boxes", DataType::Float, &[Dim::Size(1), Dim::Name("n"), Dim::Size(4)]),
            value("scores", DataType::Float, &[Dim::Size(1), Dim::Size(1), Dim::Name("n")]),
        ],
        vec![value("y", DataType::Int64, &[Dim::Name("m"), Dim::Size(3)])],
        [vec![limit], thresholds.to_vec()].concat(),
    );
    let program = import(&file(&model(suppress)), &options());
    let boxes = vec![0., 0., 10., 10., 0., 1., 10., 10., 20., 20., 30., 30.];
    let boxes = Tensor::from_vec(&[1, 3, 4], boxes).unwrap();
    for (scores, wanted) in [([0.9, 0.8, 0.2], &[0, 0, 0, 0, 0, 2][..]), ([0.05, 0.1, 0.0], &[])] {
        let scores = Tensor::from_vec(&[1, 1, 3], scores.to_vec()).unwrap();
        let y = &run(&program, &[("boxes", boxes.clone()), ("scores", scores)])[0];
        assert_eq!(y.shape(), [wanted.len() / 3, 3]);
        assert_eq!(y.to_i64().unwrap(), wanted);
    }

    let align = graph(
        vec![
            node("Greater", "scores half", "hit", vec![]),
            node("NonZero", "hit", "places", vec![]),
            node("Squeeze", "places zero", "at", vec![]),
            node("Gather", "regions at", "found", vec![]),
            node("Mul", "at zero", "image", vec![]),
            node("RoiAlign", "x found image", "y", vec![int("output_height", 2), int("output_width", 3)]),
        ],
        vec![
            value("x", DataType::Float, &[Dim::Size(1), Dim::Size(2), Dim::Size(8), Dim::Name("w")]),
            value("regions", DataType::Float, &[Dim::Name("n"), Dim::Size(4)]),
            value("scores", DataType::Float, &[Dim::Name("n")]),
        ],
        vec![value("y", DataType::Float, &[Dim::Name("m"), Dim::Size(2), Dim::Size(2), Dim::Size(3)])],
        vec![longs("zero", &[0]), floats("half", &[1], &[0.5])],
    );
    let program = import(&file(&model(align)), &options());
    let x = Tensor::from_vec(&[1, 2, 8, 9], vec![2.0f32; 144]).unwrap();
    let regions = Tensor::from_vec(&[2, 4], vec![1.0f32, 1., 6., 5., 2., 2., 7., 6.]).unwrap();
    for (scores, found) in [([1.0f32, 0.0], 1), ([0.0, 0.0], 0)] {
        let scores = Tensor::from_vec(&[2], scores.to_vec()).unwrap();
        let inputs = [("x", x.clone()), ("regions", regions.clone()), ("scores", scores)];
        let y = &run(&program, &inputs)[0];
        assert_eq!(y.shape(), [found, 2, 2, 3]);
        assert!(y.to_f64().iter().all(|&y| y == 2.0));
    }
}

/// coremltools takes the shape of a choice from its two operands, not from the condition.
#[test]
fn one_operand_of_a_choice_is_as_wide_as_its_result() {
    for (dtype, shape) in
        [(DataType::Float, vec![]), (DataType::Float, vec![Dim::Size(1)]), (DataType::Int64, vec![])]
    {
        let cond = value("c", DataType::Bool, &[Dim::Name("n"), Dim::Size(2)]);
        let (a, b) = (value("a", dtype, &shape), value("b", dtype, &shape));
        let y = value("y", dtype, &[Dim::Name("n"), Dim::Size(2)]);
        let wide = graph(vec![node("Where", "c a b", "y", vec![])], vec![cond, a, b], vec![y], vec![]);
        let program = import(&file(&model(wide)), &options());
        let main = &program.functions["main"];
        let choices = main.walk().into_iter().filter(|&op| main[op].kind == OpKind::Select);
        for op in choices.map(|op| &main[op]) {
            let rank =
                |name: &str| op.value(name).and_then(|v| main[v].ty.as_tensor()).map_or(0, |ty| ty.rank());
            let result = main[op.outputs[0]].ty.as_tensor().unwrap().rank();
            assert_eq!(rank("a").max(rank("b")), result);
        }
        let pair = |a: i32, b: i32| match dtype {
            DataType::Float => [a, b].map(|v| Tensor::from_vec(&[1], vec![v as f32]).unwrap()),
            _ => [a, b].map(|v| ints(&[1], &[v])),
        };
        let [a, b] = pair(7, -9);
        let inputs = [("c", ints(&[2, 2], &[1, 0, 0, 1])), ("a", a), ("b", b)];
        assert_eq!(run(&program, &inputs)[0].to_f64(), [7., -9., -9., 7.]);
    }
}
