//! Numeric cases: a small program as text, its inputs, and the outputs that independent references give.
//!
//! ```text
//! // input x fp32 [2] = -1 2
//! // expect y fp32 [2] atol 1e-6 = 0 2
//! program(1.3) { func main<ios15>(tensor<fp32, [2]> x) { … } -> (y); }
//! ```
//!
//! The repository has some 800 of them, for every op. Every engine and backend runs the same ones.

use crate::engine::{CompileFault, CompileOptions, Engine, ExecuteOptions, RunOptions};
use crate::text::{parse, parse_value};
use crate::{Program, Tensor, verify};

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

/// What became of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its outputs are the expected ones, within the tolerance; the largest difference of an element.
    Passed(f64),
    /// The engine knows an op of the case, and has no code for it; the op and the reason.
    Unsupported(String),
    /// It does not run, or its outputs differ. The text says how.
    Failed(String),
}

/// A tolerance beside that of each case, for backends that compute in another precision than the program declares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slack {
    /// The largest difference allowed in an element, relative to the largest magnitude of an output.
    pub relative: f64,
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

    /// Runs the case on an engine, and compares its outputs.
    pub fn check(&self, engine: &dyn Engine) -> Outcome {
        match self.run(engine) {
            Ok(outputs) => self.judge(&outputs, Slack::default()),
            Err(outcome) => outcome,
        }
    }

    /// Runs the case on an engine, on the thread that calls.
    ///
    /// # Errors
    /// The case is not valid, or does not run.
    pub fn run(&self, engine: &dyn Engine) -> Result<Vec<(String, Tensor)>, Outcome> {
        let failed = |what: &str, e: &dyn std::fmt::Display| Outcome::Failed(format!("{what}: {e}"));
        let checked = verify(self.program.clone()).map_err(|e| failed("verify", &e))?;
        let plan = engine.compile(&checked, "main", &[], CompileOptions::default());
        let plan = plan.map_err(|e| match e.cause {
            CompileFault::Unsupported => Outcome::Unsupported(e.to_string()),
            _ => failed("compile", &e),
        })?;
        let options = ExecuteOptions { threads: 1, ..ExecuteOptions::default() };
        let executable = plan.load(options).map_err(|e| failed("load", &e))?;
        let named: Vec<(&str, Tensor)> =
            self.inputs.iter().map(|l| (l.name.as_str(), l.tensor.clone())).collect();
        executable.run(&named, RunOptions::default()).map_err(|e| failed("run", &e))
    }

    /// Compares outputs with the expected ones.
    pub fn judge(&self, outputs: &[(String, Tensor)], slack: Slack) -> Outcome {
        if outputs.len() != self.expected.len() {
            let (got, want) = (outputs.len(), self.expected.len());
            return Outcome::Failed(format!("{got} outputs, expected {want}"));
        }
        let mut largest: f64 = 0.0;
        for ((name, got), want) in outputs.iter().zip(&self.expected) {
            if *name != want.name {
                return Outcome::Failed(format!("output `{name}`, expected `{}`", want.name));
            }
            match compare(got, want, slack) {
                Ok(difference) => largest = largest.max(difference),
                Err(message) => return Outcome::Failed(format!("{name}: {message}")),
            }
        }
        Outcome::Passed(largest)
    }
}

/// Returns the largest difference, or what differs.
fn compare(got: &Tensor, want: &Line, slack: Slack) -> Result<f64, String> {
    if (got.dtype(), got.shape()) != (want.tensor.dtype(), want.tensor.shape()) {
        return Err(format!("{:?}, expected {:?}", got.ty(), want.tensor.ty()));
    }
    let expected = want.tensor.to_f64();
    let magnitude = expected.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
    let tolerance = want.tolerance + slack.relative * magnitude;
    let mut largest: f64 = 0.0;
    for (i, (a, b)) in got.to_f64().into_iter().zip(expected).enumerate() {
        if a == b || (a.is_nan() && b.is_nan()) {
            continue;
        }
        let difference = (a - b).abs();
        if difference > tolerance || difference.is_nan() {
            return Err(format!("element {i} is {a}, expected {b} within {tolerance}"));
        }
        largest = largest.max(difference);
    }
    Ok(largest)
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
