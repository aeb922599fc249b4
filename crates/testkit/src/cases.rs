//! The numeric cases in `ops/`, which `ops/README.md` describes.

use std::fs;
use std::path::{Path, PathBuf};

use milwright_cpu::{Executable, Pool, compile};
use milwright_mil::text::{parse, parse_value};
use milwright_mil::{Program, Tensor, verify};

/// The engine's error for an op that it knows but does not support.
pub const OPTED_OUT: &str = "known, not supported on this engine";

/// A program of one op, its inputs, and the expected outputs.
#[derive(Clone, Debug)]
pub struct Case {
    /// The program: its function is `main`.
    pub program: Program,
    /// The inputs of `main`.
    pub inputs: Vec<Line>,
    /// The outputs.
    pub expected: Vec<Line>,
}

/// A line of numbers in a case.
#[derive(Clone, Debug)]
pub struct Line {
    /// The input or output.
    pub name: String,
    /// The numbers.
    pub tensor: Tensor,
    /// The largest difference allowed in an element.
    pub tolerance: f64,
}

/// Returns the files of all cases with their names under `ops/`, in order.
///
/// # Panics
/// They cannot be read.
pub fn files() -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "mil") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    found.into_iter().map(|path| (name(&path), path)).collect()
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// The text is not a case; the error says why.
    pub fn parse(text: &str) -> Result<Case, String> {
        let program = parse(text).map_err(|e| format!("parse: {e}"))?;
        Ok(Case { program, inputs: lines(text, "// input ")?, expected: lines(text, "// expect ")? })
    }

    /// Runs the case and compares its outputs.
    ///
    /// # Errors
    /// The case does not run, or its outputs differ from the expected ones. The error says how.
    pub fn check(&self) -> Result<(), String> {
        let outputs = self.run()?;
        if outputs.len() != self.expected.len() {
            return Err(format!("{} outputs, expected {}", outputs.len(), self.expected.len()));
        }
        for ((name, got), want) in outputs.iter().zip(&self.expected) {
            if *name != want.name {
                return Err(format!("output `{name}`, expected `{}`", want.name));
            }
            compare(got, want).map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }

    /// Runs the case.
    ///
    /// # Errors
    /// The case is not valid, or does not run.
    pub fn run(&self) -> Result<Vec<(String, Tensor)>, String> {
        let checked = verify(self.program.clone()).map_err(|e| format!("verify: {e}"))?;
        let plan = compile(&checked, "main", &[]).map_err(|e| format!("compile: {e}"))?;
        let executable = Executable::new(&plan, Pool::inline()).map_err(|e| format!("load: {e}"))?;
        let named: Vec<(&str, Tensor)> =
            self.inputs.iter().map(|l| (l.name.as_str(), l.tensor.clone())).collect();
        executable.run(&named).map_err(|e| format!("run: {e}"))
    }
}

fn compare(got: &Tensor, want: &Line) -> Result<(), String> {
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

fn lines(text: &str, start: &str) -> Result<Vec<Line>, String> {
    text.lines().filter_map(|l| l.strip_prefix(start)).map(line).collect()
}

/// `NAME TYPE SHAPE [atol TOLERANCE] = VALUES`
fn line(text: &str) -> Result<Line, String> {
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
    Ok(Line { name: name.to_owned(), tensor, tolerance })
}
