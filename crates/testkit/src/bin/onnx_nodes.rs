//! Runs the node tests of the onnx package: converts each model, runs it on the engine, and compares its outputs with the
//! test's.
//!
//! ```sh
//! python scripts/onnx_nodes.py --freeze        # once: writes target/onnx-nodes
//! cargo run -p milwright-testkit --bin onnx_nodes -- target/onnx-nodes/node [WORD] [--verbose] [--write=FOLDER]
//! ```
//!
//! A test is *right* if every output has the expected shape and, cast to the expected type, the expected elements within the
//! test's tolerance. Otherwise it is *refused* (the importer names a reason), *failed* (an error of a later stage), *wrong*, or
//! it *panicked*. `onnx_nodes.txt` beside this crate's manifest lists the known differences with their reasons, and how many
//! tests have to be right. The exit code is 1 if there is any other difference, or fewer are right.
#![expect(clippy::print_stdout, reason = "it is a command for developers")]
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use milwright_convert::ml_program::{self, WeightSink};
use milwright_convert::onnx::{self, Numbers, Options};
use milwright_cpu::{Eager, Executable, Pool, compile};
use milwright_formats::PackageWriter;
use milwright_formats::blob::BlobType;
use milwright_formats::onnx::OnnxFile;
use milwright_formats::onnx::proto::TensorProto;
use milwright_formats::proto::mil_spec::value::BlobFileValue;
use milwright_formats::proto::{Model, model};
use milwright_mil::{Checked, DType, Tensor, Type, verify};
use prost::Message as _;

static ENGINE: Eager = Eager;

/// What became of a test.
enum Outcome {
    Right,
    Refused(String),
    Failed(String),
    Wrong(String),
    Panicked,
}

fn main() -> ExitCode {
    let mut words = env::args().skip(1).filter(|a| !a.starts_with("--"));
    let Some(folder) = words.next().map(PathBuf::from) else {
        println!("usage: onnx_nodes FOLDER [WORD] [--verbose]");
        return ExitCode::from(2);
    };
    let word = words.next().unwrap_or_default();
    let verbose = env::args().any(|a| a == "--verbose");
    let packages = env::args().find_map(|a| a.strip_prefix("--write=").map(PathBuf::from));
    let tests = match fs::read_to_string(folder.join("tests.tsv")) {
        Ok(tests) => tests,
        Err(error) => {
            println!("{}: {error}; python scripts/onnx_nodes.py writes the tests", folder.display());
            return ExitCode::from(2);
        }
    };
    let set = folder.file_name().and_then(|n| n.to_str()).unwrap_or("node").to_owned();
    let known = Known::read(&set);
    std::panic::set_hook(Box::new(|_| {}));

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut bad = Vec::new();
    for line in tests.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(rtol), Some(atol)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if !name.contains(&word) {
            continue;
        }
        let tolerance = (rtol.parse().unwrap_or(1e-3), atol.parse().unwrap_or(1e-7));
        let package = packages.as_ref().map(|folder| folder.join(format!("{name}.mlpackage")));
        let run = || check(&folder.join(name), tolerance, package.as_deref());
        let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or(Outcome::Panicked);
        let listed = known.differences.get(name);
        let (kind, text) = match outcome {
            Outcome::Right if listed.is_some() => {
                // Last places depend on the CPU, and on the NumPy that wrote the expected values.
                println!("{name}: right here, and listed as a known difference");
                ("right", None)
            }
            Outcome::Right => ("right", None),
            Outcome::Refused(reason) => {
                reasons.entry(reason.clone()).or_default().push(name.to_owned());
                ("refused", Some(reason))
            }
            Outcome::Wrong(text) | Outcome::Failed(text) if listed.is_some() => {
                ("known difference", Some(text))
            }
            Outcome::Failed(text) => {
                bad.push(format!("{name}: failed: {text}"));
                ("failed", Some(text))
            }
            Outcome::Wrong(text) => {
                bad.push(format!("{name}: wrong: {text}"));
                ("wrong", Some(text))
            }
            Outcome::Panicked => {
                bad.push(format!("{name}: panicked"));
                ("panicked", None)
            }
        };
        *counts.entry(kind).or_default() += 1;
        if verbose {
            println!("{kind}\t{name}\t{}", text.unwrap_or_default());
        }
    }
    let mut grouped: Vec<_> = reasons.into_iter().collect();
    grouped.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    for (reason, names) in &grouped {
        println!(
            "refused {:4}  {reason}  ({}{})",
            names.len(),
            names[0],
            if names.len() > 1 { ", …" } else { "" }
        );
    }
    for line in &bad {
        println!("{line}");
    }
    let total: usize = counts.values().sum();
    let parts: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    println!("{set}: {total} tests: {}", parts.join(", "));
    let right = counts.get("right").copied().unwrap_or(0);
    let fewer = word.is_empty() && right < known.right;
    if fewer {
        println!("fewer are right than the {} that have to be", known.right);
    }
    if bad.is_empty() && !fewer { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What `onnx_nodes.txt` says: `SET right COUNT`, and `TEST: reason` or `SET TEST: reason` for each known difference.
#[derive(Default)]
struct Known {
    right: usize,
    differences: BTreeMap<String, String>,
}

impl Known {
    fn read(set: &str) -> Known {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx_nodes.txt");
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut known = Known::default();
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
            if let Some(count) = line.strip_prefix(&format!("{set} right ")) {
                known.right = count.trim().parse().unwrap_or(0);
            } else if let Some((name, reason)) = line.split_once(": ") {
                let name = match name.split_once(' ') {
                    Some((of, name)) if of == set => name,
                    Some(_) => continue,
                    None => name,
                };
                known.differences.insert(name.to_owned(), reason.to_owned());
            }
        }
        known
    }
}

fn check(folder: &Path, tolerance: (f64, f64), package: Option<&Path>) -> Outcome {
    match attempt(folder, tolerance, package) {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

fn attempt(folder: &Path, tolerance: (f64, f64), package: Option<&Path>) -> Result<Outcome, Outcome> {
    let failed = |stage: &str, e: &dyn std::fmt::Display| Outcome::Failed(format!("{stage}: {e}"));
    let file = OnnxFile::open(folder.join("model.onnx")).map_err(|e| failed("open", &e))?;
    let options = Options { engine: Some(&ENGINE), ..Options::default() };
    let imported = onnx::read(&file, &options).map_err(|e| {
        let hint = e.hint().map_or_else(|| " [no hint]".to_owned(), |h| format!(" [{h}]"));
        Outcome::Refused(reason(&format!("{e}{hint}")))
    })?;
    let data = folder.join("test_data_set_0");
    let main = &imported.program.functions["main"];
    let mut inputs = Vec::new();
    let graph = file.model().graph.as_deref().ok_or_else(|| failed("open", &"no graph"))?;
    let initialized: Vec<&str> = graph.initializer.iter().map(|t| t.name()).collect();
    let given = graph.input.iter().filter(|i| !initialized.contains(&i.name()));
    for (i, input) in given.enumerate() {
        let path = data.join(format!("input_{i}.pb"));
        let numbers = read(&path).map_err(Outcome::Refused)?;
        // Inputs that the function does not have were resolved at import.
        let found = main.inputs.iter().find(|v| main[**v].name == input.name());
        let Some(&value) = found else { continue };
        let Type::Tensor(ty) = &main[value].ty else { return Err(failed("input", &"not a tensor")) };
        let tensor = tensor(&numbers, ty.dtype, ty.rank()).map_err(Outcome::Refused)?;
        inputs.push((input.name().to_owned(), tensor));
    }
    let checked = verify(imported.program).map_err(|e| failed("verify", &e))?;
    if let Some(path) = package {
        write_package(path, &checked, imported.model).map_err(|e| failed("write", &e))?;
    }
    let shapes: Vec<(&str, &[usize])> = inputs.iter().map(|(n, t)| (n.as_str(), t.shape())).collect();
    let plan = compile(&checked, "main", &shapes).map_err(|e| failed("compile", &e))?;
    let executable = Executable::new(&plan, Pool::inline()).map_err(|e| failed("load", &e))?;
    let named: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let outputs = executable.run(&named).map_err(|e| failed("run", &e))?;
    for (i, output) in graph.output.iter().enumerate() {
        let expected = read(&data.join(format!("output_{i}.pb"))).map_err(Outcome::Refused)?;
        let found = outputs.iter().find(|(name, _)| name == output.name());
        let (name, found) = found.ok_or_else(|| failed("output", &output.name()))?;
        compare(found, &expected, tolerance).map_err(|e| Outcome::Wrong(format!("{name}: {e}")))?;
    }
    Ok(Outcome::Right)
}

/// Weights that go to a package.
struct Weights(PackageWriter);

impl WeightSink for Weights {
    fn store(
        &mut self,
        dtype: BlobType,
        elements: usize,
        data: &[u8],
    ) -> Result<BlobFileValue, milwright_formats::Error> {
        self.0.append(dtype, elements as u64, data)
    }
}

/// Writes a package, for other tools to read.
fn write_package(path: &Path, program: &Checked, mut model: Model) -> Result<(), String> {
    let mut sink = Weights(PackageWriter::create(path).map_err(|e| e.to_string())?);
    let program = ml_program::write(program, &mut sink).map_err(|e| e.to_string())?;
    model.r#type = Some(model::Type::MlProgram(program));
    let staged = sink.0.stage(&model).map_err(|e| e.to_string())?;
    staged.commit().map_err(|e| e.to_string())
}

/// A reason without the names of this test, to count equal ones together.
fn reason(text: &str) -> String {
    let mut short = String::new();
    let mut quoted = false;
    for c in text.chars() {
        if c == '`' {
            quoted = !quoted;
            short.push('`');
        } else if !quoted {
            short.push(c);
        }
    }
    short
}

fn read(path: &Path) -> Result<Numbers, String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let proto = TensorProto::decode(&bytes[..]).ok().filter(|p| p.data_type.is_some() && p.segment.is_none());
    let proto = proto.ok_or("test data: a sequence, or an optional without a tensor")?;
    onnx::numbers(&proto).map_err(|e| format!("test data: {e}"))
}

/// The numbers in the type and rank that the function takes.
fn tensor(numbers: &Numbers, dtype: DType, rank: usize) -> Result<Tensor, String> {
    let shape = if numbers.shape.len() < rank { vec![1; rank] } else { numbers.shape.clone() };
    let made = match dtype {
        DType::Fp32 => Tensor::from_vec(&shape, numbers.values.iter().map(|&x| x as f32).collect()),
        DType::Fp16 => {
            Tensor::from_vec(&shape, numbers.values.iter().map(|&x| half::f16::from_f64(x)).collect())
        }
        _ => {
            let ints = numbers.ints.clone().unwrap_or_default();
            let narrow: Option<Vec<i32>> = ints.iter().map(|&i| i32::try_from(i).ok()).collect();
            let narrow = narrow.ok_or("test data: an integer beyond int32")?;
            Tensor::from_vec(&shape, narrow)
        }
    };
    made.map_err(|e| e.to_string())
}

fn compare(found: &Tensor, expected: &Numbers, (rtol, atol): (f64, f64)) -> Result<(), String> {
    if found.shape() != expected.shape {
        return Err(format!("shape {:?}, expected {:?}", found.shape(), expected.shape));
    }
    let values = found.to_f64();
    for (i, (&a, &b)) in values.iter().zip(&expected.values).enumerate() {
        let a = expected.rounded(a);
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= atol + rtol * b.abs();
        if !same {
            return Err(format!("element {i} is {a}, expected {b} ({})", expected.elem));
        }
    }
    Ok(())
}
