//! Which ops each form of weights becomes, in which opset; every result is a valid program.

use milwright_mil::{
    Arg, DType, Function, Input, OpKind, Opset, Program, Tensor, Type, Value, ValueId, verify,
};
use milwright_optimize::{Compression, Config, InMemory, optimize};

/// A `linear` of 64 to 32 channels.
fn program(opset: Opset, dtype: DType) -> Program {
    let mut function = Function::new(opset);
    let x = function.add_input("x", Type::tensor(dtype, &[1, 64]));
    let values: Vec<f32> = (0..2048).map(|i| ((i * i) as f32).sin()).collect();
    let weight = match dtype {
        DType::Fp16 => Tensor::from_vec(&[32, 64], values.iter().map(|&v| half::f16::from_f32(v)).collect()),
        _ => Tensor::from_vec(&[32, 64], values),
    };
    let (op, w) = function.make_const("w", weight.unwrap().into());
    let body = function.body;
    function[body].ops.push(op);
    let inputs = vec![Input::value("x", x), Input::value("weight", w)];
    let op = function.push_op(body, OpKind::Linear, inputs, [("y".into(), Type::tensor(dtype, &[1, 32]))]);
    let y = function[op].outputs[0];
    function[body].outputs.push(y);
    let mut program = Program::default();
    program.functions.insert("main".into(), function);
    program
}

/// The ops before the `linear`, each with the types of its constants, and which inputs come from others.
fn ops(program: &Program) -> String {
    let function = &program.functions["main"];
    let name = |v: ValueId| function[v].name.clone();
    let of = |input: &Input| match &input.args[..] {
        [Arg::Const(Value::Tensor(t))] => format!("{} {}{:?}", input.name, t.dtype(), t.shape()),
        [Arg::Value(v)] => format!("{} = {}", input.name, name(*v)),
        _ => input.name.clone(),
    };
    let lines =
        function[function.body].ops.iter().filter(|&&op| function[op].kind != OpKind::Linear).map(|&op| {
            let op = &function[op];
            let inputs: Vec<_> = op.inputs.iter().map(of).collect();
            let outputs: Vec<_> = op.outputs.iter().map(|&v| name(v)).collect();
            format!(
                "{} = {}({})\n",
                outputs.join(", "),
                op.kind.name().replace("constexpr_", ""),
                inputs.join(", ")
            )
        });
    format!("{}\n{}", function.opset.text_name(), lines.collect::<String>())
}

fn compressed(form: &str, opset: Opset, dtype: DType) -> String {
    let mut compression: Compression = form.parse().unwrap();
    compression.min_elements = 100;
    let mut program = program(opset, dtype);
    let report = optimize(&mut program, &Config::from(compression), &mut InMemory, &mut |_| {}).unwrap();
    let skipped = report.weights[0].skipped.as_ref();
    assert_eq!(skipped, None, "{form}");
    let program = verify(program).unwrap_or_else(|e| panic!("{form}: {e}"));
    ops(&program)
}

#[test]
fn old_opsets_have_forms_of_their_own() {
    for (form, expected) in [
        (
            "int8",
            "w = affine_dequantize(quantized_data int8[32, 64], zero_point int8[32], scale fp16[32], axis int32[])\n",
        ),
        (
            "uint8:tensor,asymmetric",
            "w = affine_dequantize(quantized_data uint8[32, 64], zero_point uint8[], scale fp16[], axis int32[])\n",
        ),
        ("palette6", "w = lut_to_dense(indices uint8[1536], lut fp16[64], shape uint32[2])\n"),
        (
            "prune:sparsity=0.5",
            "w = sparse_to_dense(nonzero_data fp16[1024], mask uint8[256], shape uint32[2])\n",
        ),
    ] {
        for opset in [Opset::Ios16, Opset::Ios17] {
            let name = opset.text_name();
            assert_eq!(compressed(form, opset, DType::Fp16), format!("{name}\n{expected}"));
        }
        assert!(compressed(form, Opset::Ios15, DType::Fp16).starts_with("ios16"));
    }
}

#[test]
fn new_forms_raise_the_opset() {
    for (form, expected) in [
        ("int4", "w = blockwise_shift_scale(data int4[32, 64], scale fp32[32, 1])\n"),
        (
            "uint4:block=16",
            "w = blockwise_shift_scale(data uint4[32, 64], scale fp32[32, 4], offset uint4[32, 4])\n",
        ),
        (
            "int8:block=8x0,asymmetric",
            "w = blockwise_shift_scale(data int8[32, 64], scale fp32[4, 1], offset int8[4, 1])\n",
        ),
        ("palette3", "w = lut_to_dense(indices uint3[32, 64], lut fp32[1, 1, 8, 1])\n"),
        ("palette4:group=8", "w = lut_to_dense(indices uint4[32, 64], lut fp32[4, 1, 16, 1])\n"),
        ("palette2:group=16,axis=1", "w = lut_to_dense(indices uint2[32, 64], lut fp32[1, 4, 4, 1])\n"),
        (
            "palette4:vector=2",
            "w = lut_to_dense(indices uint4[16, 64], lut fp32[1, 1, 16, 2], vector_axis int32[])\n",
        ),
        (
            "palette1:vector=4,group=16",
            "w = lut_to_dense(indices uint1[8, 64], lut fp32[2, 1, 2, 4], vector_axis int32[])\n",
        ),
        ("palette4:rows", "w = lut_to_dense(indices uint4[32, 64], lut fp32[32, 1, 16, 1])\n"),
        (
            "prune:sparsity=0.75+int8",
            "w_mask, w_values = sparse_blockwise_shift_scale(data_mask uint1[32, 64], nonzero_data int8[512], scale fp32[32, 1])\n\
             w = sparse_to_dense(nonzero_data = w_values, mask = w_mask)\n",
        ),
        (
            "prune:ratio=1:2+palette4",
            "w_mask, w_values = lut_to_sparse(indices_mask uint1[32, 64], indices_nonzero_data uint4[1024], lut fp32[1, 1, 16, 1])\n\
             w = sparse_to_dense(nonzero_data = w_values, mask = w_mask)\n",
        ),
        (
            "palette4:group=8+int8",
            "w_palette = blockwise_shift_scale(data int8[4, 1, 16, 1], scale fp32[4, 1, 1, 1])\n\
             w = lut_to_dense(indices uint4[32, 64], lut = w_palette)\n",
        ),
        (
            "int8+palette4",
            "w_palette = blockwise_shift_scale(data int8[32, 1, 16, 1], scale fp32[32, 1, 1, 1])\n\
             w = lut_to_dense(indices uint4[32, 64], lut = w_palette)\n",
        ),
        (
            "prune:sparsity=0.5+palette4:vector=2+uint8:tensor",
            "w_palette = blockwise_shift_scale(data uint8[1, 1, 16, 2], scale fp32[1, 1, 1, 1], offset uint8[1, 1, 1, 1])\n\
             w_mask, w_values = lut_to_sparse(indices_mask uint1[16, 64], indices_nonzero_data uint4[768], lut = w_palette, \
             vector_axis int32[])\n\
             w = sparse_to_dense(nonzero_data = w_values, mask = w_mask)\n",
        ),
        // Nothing is left: there are no integers to store.
        ("int4+prune:sparsity=1", "w = sparse_to_dense(nonzero_data fp32[0], mask uint1[32, 64])\n"),
        (
            "int4+prune:sparsity=0.5",
            "w_mask, w_values = sparse_blockwise_shift_scale(data_mask uint1[32, 64], nonzero_data int4[1024], scale fp32[32, 1])\n\
             w = sparse_to_dense(nonzero_data = w_values, mask = w_mask)\n",
        ),
    ] {
        for opset in [Opset::Ios15, Opset::Ios17, Opset::Ios18] {
            let found = compressed(form, opset, DType::Fp32);
            // How many vectors are kept depends on the values.
            let number = |text: &str| {
                text.replace("uint4[7", "uint4[").chars().filter(|c| c.is_alphabetic()).collect::<String>()
            };
            if form.contains("vector=2+") {
                assert_eq!(number(&found), number(&format!("ios18\n{expected}")), "{form}");
            } else {
                assert_eq!(found, format!("ios18\n{expected}"), "{form}");
            }
        }
    }
}

/// A program that is compressed already is raised with its compressed constants.
#[test]
fn compressed_constants_are_raised() {
    for form in ["palette4", "palette1", "prune:sparsity=0.5", "int8"] {
        let mut compression: Compression = form.parse().unwrap();
        compression.min_elements = 100;
        let mut program = program(Opset::Ios16, DType::Fp32);
        optimize(&mut program, &compression.into(), &mut InMemory, &mut |_| {}).unwrap();
        let function = &mut program.functions["main"];
        let (op, extra) =
            function.make_const("v", Tensor::from_vec(&[2, 2048], vec![1f32; 4096]).unwrap().into());
        let body = function.body;
        function[body].ops.insert(0, op);
        let ty = Type::tensor(DType::Fp32, &[2, 2048]);
        function.push_op(body, OpKind::Relu, vec![Input::value("x", extra)], [("z".into(), ty)]);
        let int4: Compression = "int4".parse().unwrap();
        optimize(&mut program, &int4.into(), &mut InMemory, &mut |_| {}).unwrap();
        assert!(verify(program.clone()).is_ok(), "{form}: {}", ops(&program));
        assert!(ops(&program).starts_with("ios18"));
    }
}

/// A step on weights that are compressed already gives the ops that the same steps at once give, in either form of
/// opset; and what it cannot follow stays as it is, with the reason.
#[test]
fn a_step_follows_those_of_an_earlier_compression() {
    let run = |program: &mut Program, form: &str| {
        let mut compression: Compression = form.parse().unwrap();
        compression.min_elements = 100;
        let report = optimize(program, &compression.into(), &mut InMemory, &mut |_| {}).unwrap();
        verify(program.clone()).unwrap_or_else(|e| panic!("{form}: {e}: {}", ops(program)));
        report.weights
    };
    // Ops that became useless stay until dead ones are removed.
    let last = |program: &Program| {
        let text = ops(program);
        let chain = |line: &str| line.starts_with("w = ") || line.starts_with("w_");
        text.lines().filter(|l| chain(l)).collect::<Vec<_>>().join("\n")
    };
    for (first, then, at_once) in [
        ("prune:sparsity=0.5", "int8:block=16", "prune:sparsity=0.5+int8:block=16"),
        ("prune:sparsity=0.5", "uint4:asymmetric", "prune:sparsity=0.5+uint4:asymmetric"),
        ("prune:sparsity=0.75", "palette4:group=8", "prune:sparsity=0.75+palette4:group=8"),
        ("int8:block=16", "prune:sparsity=0.5", "int8:block=16+prune:sparsity=0.5"),
        ("palette4:group=8", "prune:sparsity=0.5", "palette4:group=8+prune:sparsity=0.5"),
        ("palette4:group=8", "int8:tensor", "palette4:group=8+int8:tensor"),
        ("int8", "palette4", "int8+palette4"),
        ("int8:tensor", "palette3:group=8", "int8:tensor+palette3:group=8"),
    ] {
        for opset in [Opset::Ios16, Opset::Ios18] {
            let mut two = program(opset, DType::Fp16);
            run(&mut two, first);
            let reports = run(&mut two, &format!("joint+{then}"));
            assert_eq!(reports[0].skipped, None, "{first} {then}");
            assert!(reports[0].bytes_before < 4096 && reports[0].snr_db.is_some(), "{reports:?}");
            let mut one = program(opset, DType::Fp16);
            run(&mut one, at_once);
            assert_eq!(last(&two), last(&one), "{first} {then}");
        }
    }
    // The third step.
    let mut three = program(Opset::Ios18, DType::Fp16);
    for form in ["prune:sparsity=0.5", "joint+palette4", "joint+int8:tensor"] {
        assert_eq!(run(&mut three, form)[0].skipped, None, "{form}");
    }
    let mut one = program(Opset::Ios18, DType::Fp16);
    run(&mut one, "prune:sparsity=0.5+palette4+int8:tensor");
    let found = last(&three).replace("_1", "");
    assert!(found.ends_with(&last(&one)), "{found}");

    for (first, then, why) in [
        ("int8", "int4", "cannot follow one of its kind"),
        ("palette4", "palette2", "cannot follow one of its kind"),
        ("prune:sparsity=0.5", "prune:sparsity=0.75", "cannot follow one of its kind"),
        ("palette3", "int8:tensor", "fewer than 10 values"),
        ("int8:block=16", "palette4", "one scale for each channel"),
        ("prune:sparsity=1", "int8", "nothing left"),
        ("palette4:vector=2", "prune:sparsity=0.5", "vectors are pruned first"),
    ] {
        let mut two = program(Opset::Ios18, DType::Fp16);
        run(&mut two, first);
        let before = ops(&two);
        let reports = run(&mut two, &format!("joint+{then}"));
        let skipped = reports[0].skipped.as_deref().unwrap_or("done");
        assert!(skipped.contains(why), "{first} {then}: {skipped}");
        assert_eq!(ops(&two), before, "{first} {then}");
    }
    // Without the word, what is compressed stays.
    let mut two = program(Opset::Ios18, DType::Fp16);
    run(&mut two, "palette4");
    assert!(run(&mut two, "int8").is_empty());
}
