//! Every op of the numeric cases in fp16: what becomes of its outputs is known, so that what uses them fits.

use std::fs;
use std::path::{Path, PathBuf};

use milwright_mil::{DType, Input, OpKind, Program, Tensor, Type, text, verify};
use milwright_optimize::InMemory;
use milwright_optimize::float16::{self, Observed};

#[test]
fn every_case_is_valid_in_fp16() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/ops");
    let (mut tried, mut failures) = (0, Vec::new());
    for path in files(&folder) {
        let source = fs::read_to_string(&path).unwrap();
        let Ok(program) = text::parse(&source) else { continue };
        let program = scaled(program);
        let before = text::print(&program);
        let mut program = verify(program).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into_inner();
        for (name, function) in &mut program.functions {
            float16::convert(name, function, &Observed::default(), &mut InMemory, &mut |_| ()).unwrap();
        }
        tried += 1;
        let after = text::print(&program);
        if let Err(error) = verify(program) {
            failures.push(format!("{}: {error}\n{before}\n{after}", path.display()));
        }
    }
    assert!(tried > 700, "only {tried} cases");
    assert!(failures.is_empty(), "{} of {tried}:\n{}", failures.len(), failures.join("\n"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "mil") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The program with every fp32 output times a constant, which is to be of the same type.
fn scaled(mut program: Program) -> Program {
    for function in program.functions.values_mut() {
        let body = function.body;
        for i in 0..function[body].outputs.len() {
            let output = function[body].outputs[i];
            let ty = function[output].ty.clone();
            if !matches!(&ty, Type::Tensor(t) if t.dtype == DType::Fp32) {
                continue;
            }
            let (op, one) = function.make_const(format!("one_{i}"), Tensor::scalar(1f32).into());
            function[body].ops.push(op);
            let inputs = vec![Input::value("x", output), Input::value("y", one)];
            let op = function.push_op(body, OpKind::Mul, inputs, [(format!("scaled_{i}"), ty)]);
            function[body].outputs[i] = function[op].outputs[0];
        }
    }
    program
}
