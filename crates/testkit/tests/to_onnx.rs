//! The numeric cases as ONNX models: each op that has a counterpart is exported, imported again, and must give the
//! expected outputs. `scripts/check_onnx_out.py` runs the same files in ONNX Runtime; with `MILWRIGHT_ONNX_OUT=FOLDER` they are
//! kept for it.
#![expect(clippy::disallowed_methods, reason = "the environment chooses cases and a folder")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs};

use milwright_convert::{onnx, to_onnx};
use milwright_cpu::{CpuEngine, Eager};
use milwright_formats::onnx::OnnxFile;
use milwright_mil::cases::Slack;
use milwright_mil::verify;
use milwright_testkit::cases::{self, Case, Line, Outcome};
use prost::Message as _;

static ENGINE: Eager = Eager;

/// How many cases have to be exported: fewer are a step back.
const EXPORTED: usize = 790;

#[test]
fn cases_survive_export_and_import() {
    let chosen = env::var("MILWRIGHT_CASE").unwrap_or_default();
    let keep = env::var("MILWRIGHT_ONNX_OUT").map(PathBuf::from).ok();
    let (mut passed, mut failures) = (0, Vec::new());
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for (name, path) in cases::files() {
        if !name.contains(&chosen) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let case = Case::parse(&text).unwrap();
        let program = verify(case.program.clone()).unwrap();
        let model = match to_onnx::export(&program, "main", Some(&ENGINE)) {
            Ok(model) => model,
            Err(error) => {
                *refused.entry(format!("{}: {error}", name.split('/').nth(1).unwrap())).or_default() += 1;
                continue;
            }
        };
        let bytes = model.encode_to_vec();
        if let Some(folder) = &keep {
            let stem = folder.join(name.replace('/', "-"));
            fs::create_dir_all(folder).unwrap();
            fs::write(stem.with_extension("onnx"), &bytes).unwrap();
            fs::write(stem.with_extension("txt"), &text).unwrap();
        }
        match again(&case, bytes) {
            Ok(()) => passed += 1,
            Err(message) => failures.push(format!("{name}: {message}")),
        }
    }
    if env::var("MILWRIGHT_VERBOSE").is_ok() {
        refused.iter().for_each(|(what, count)| failures.push(format!("refused ×{count}: {what}")));
    }
    let failed = failures.len();
    assert!(failures.is_empty(), "{failed} failed, {passed} passed:\n{}", failures.join("\n"));
    assert!(passed >= EXPORTED || !chosen.is_empty(), "only {passed} cases were exported:\n{refused:#?}");
}

/// Runs an exported case.
fn again(case: &Case, bytes: Vec<u8>) -> Result<(), String> {
    let file = OnnxFile::from_bytes(bytes.into()).map_err(|e| format!("open: {e}"))?;
    let options = onnx::Options { engine: Some(&ENGINE), ..onnx::Options::default() };
    let imported = onnx::read(&file, &options).map_err(|e| format!("import: {e}"))?;
    // ONNX has no ints of 8 and 16 bits as inputs of packages: they become int32.
    let inputs = case.inputs.iter().map(|line| Line {
        tensor: line
            .tensor
            .converted(milwright_mil::DType::Int32)
            .filter(|_| !line.tensor.dtype().is_float())
            .unwrap_or_else(|| line.tensor.clone()),
        ..line.clone()
    });
    let twin = Case { program: imported.program, inputs: inputs.collect(), expected: case.expected.clone() };
    let outputs = twin.run(&CpuEngine).map_err(|outcome| format!("{outcome:?}"))?;
    let outputs: Vec<_> = outputs
        .into_iter()
        .zip(&case.expected)
        .map(|((name, got), want)| {
            let got = got.converted(want.tensor.dtype()).unwrap_or(got);
            (name, got.reshaped(want.tensor.shape()).unwrap_or(got))
        })
        .collect();
    match twin.judge(&outputs, Slack { relative: 1e-5 }) {
        Outcome::Passed(_) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
