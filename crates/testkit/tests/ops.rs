//! Every numeric case in `ops/` on the engine, compiled: `ops/README.md` describes the cases.
//!
//! A case of an op that the engine declares as not supported is passed over: the support matrix lists those.
//!
//! `MILWRIGHT_CASE=scatter cargo test -p milwright-testkit --test ops` runs those whose path contains the word.
#![expect(clippy::disallowed_methods, reason = "the environment chooses cases")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{env, fs};

use milwright_cpu::{Executable, Pool, compile};
use milwright_mil::Tensor;
use milwright_mil::text::{parse, parse_value};
use milwright_mil::verify::verify;

/// How the engine says that it knows an op and has opted out.
const OPTED_OUT: &str = "known, not supported on this engine";

#[test]
fn cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops");
    let chosen = env::var("MILWRIGHT_CASE").unwrap_or_default();
    let mut failures = Vec::new();
    let mut passed = 0;
    for path in files(&root) {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        if !name.contains(&chosen) {
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&fs::read_to_string(&path).unwrap())))
            .unwrap_or_else(|_| Err("panicked".into()));
        match outcome {
            Err(message) if message.contains(OPTED_OUT) => {}
            Err(message) => failures.push(format!("{name}: {message}")),
            Ok(()) => passed += 1,
        }
    }
    assert!(passed > 0 || !failures.is_empty(), "no case is named like `{chosen}`");
    assert!(failures.is_empty(), "{} failed, {passed} passed:\n{}", failures.len(), failures.join("\n"));
}

/// Runs one case; says what is wrong.
fn run(text: &str) -> Result<(), String> {
    let inputs = lines(text, "// input ")?;
    let expected = lines(text, "// expect ")?;
    let program = parse(text).map_err(|e| format!("parse: {e}"))?;
    let checked = verify(program).map_err(|e| format!("verify: {e}"))?;
    let plan = compile(&checked, "main", &[]).map_err(|e| format!("compile: {e}"))?;
    let executable = Executable::new(&plan, Pool::inline()).map_err(|e| format!("load: {e}"))?;
    let named: Vec<(&str, Tensor)> = inputs.iter().map(|l| (l.name, l.tensor.clone())).collect();
    let outputs = executable.run(&named).map_err(|e| format!("run: {e}"))?;
    if outputs.len() != expected.len() {
        return Err(format!("{} outputs, expected {}", outputs.len(), expected.len()));
    }
    for ((name, got), want) in outputs.iter().zip(&expected) {
        if name != want.name {
            return Err(format!("output `{name}`, expected `{}`", want.name));
        }
        compare(got, want).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

fn compare(got: &Tensor, want: &Line<'_>) -> Result<(), String> {
    if (got.dtype(), got.shape()) != (want.tensor.dtype(), want.tensor.shape()) {
        return Err(format!("{:?}, expected {:?}", got.ty(), want.tensor.ty()));
    }
    let differs = |(i, (a, b)): (usize, (f64, f64))| {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= want.tolerance;
        (!same).then(|| format!("element {i} is {a}, expected {b} within {}", want.tolerance))
    };
    match got.to_f64().into_iter().zip(want.tensor.to_f64()).enumerate().find_map(differs) {
        Some(message) => Err(message),
        None => Ok(()),
    }
}

/// A line of numbers in a case.
struct Line<'a> {
    name: &'a str,
    tensor: Tensor,
    tolerance: f64,
}

fn lines<'a>(text: &'a str, start: &str) -> Result<Vec<Line<'a>>, String> {
    text.lines().filter_map(|l| l.strip_prefix(start)).map(line).collect()
}

/// `NAME TYPE SHAPE [atol TOLERANCE] = VALUES`
fn line(text: &str) -> Result<Line<'_>, String> {
    let (head, values) = text.split_once(" =").ok_or("a line has no `=`")?;
    let (name, rest) = head.split_once(' ').ok_or("a line has no type")?;
    let (dtype, rest) = rest.split_once(' ').ok_or("a line has no shape")?;
    let (shape, rest) = rest.split_once(']').ok_or("a shape has no `]`")?;
    let tolerance = match rest.trim().strip_prefix("atol ") {
        Some(number) => number.parse().map_err(|_| format!("`{number}` is no tolerance"))?,
        None => 0.0,
    };
    let values = values.split_whitespace().collect::<Vec<_>>().join(", ");
    let literal = match shape {
        "[" => format!("tensor<{dtype}, []>({values})"),
        _ => format!("tensor<{dtype}, {shape}]>([{values}])"),
    };
    let value = parse_value(&literal).map_err(|e| format!("`{name}`: {e}"))?;
    let tensor = value.as_tensor().cloned().ok_or("a line holds no tensor")?;
    Ok(Line { name, tensor, tolerance })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "mil") {
            found.push(path);
        }
    }
    found
}
