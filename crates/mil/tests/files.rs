//! Runs `tests/{text,verify,passes}/*.mil`: each file says, in its first line, what is done with it, and the file of
//! the same name that ends in `.out` holds what must come out. `MILWRIGHT_BLESS=1 cargo test` rewrites those; the
//! difference is there to be reviewed. `text/harness.mil` explains the rest.
#![expect(clippy::disallowed_methods, reason = "the environment says whether to rewrite expectations")]

use std::path::{Path, PathBuf};

use milwright_mil::ops::defs::Add;
use milwright_mil::ops::{OpDef, OpView};
use milwright_mil::passes::{self, Pass};
use milwright_mil::text::{parse, print};
use milwright_mil::{Evaluate, OpKind, Program, Tensor, Type, verify};

#[test]
fn text() {
    run("text");
}

#[test]
fn verifier() {
    run("verify");
}

#[test]
fn passes() {
    run("passes");
}

fn run(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "mil"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no tests in {}", folder.display());
    let bless = std::env::var_os("MILWRIGHT_BLESS").is_some();
    let mut failed = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let actual = outcome(&text);
        let expected_file = file.with_extension("out");
        if bless {
            std::fs::write(&expected_file, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        if actual != expected {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            failed.push(format!("--- {name}: expected\n{expected}--- actual\n{actual}"));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of the files differ (MILWRIGHT_BLESS=1 accepts what came out):\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// What comes out of a file, by its first line.
fn outcome(text: &str) -> String {
    let command = text.lines().next().unwrap_or_default();
    let words: Vec<&str> = command.trim_start_matches("//").split_whitespace().collect();
    let result = match words.as_slice() {
        ["print"] => parse(text).map_err(|e| e.to_string()).map(round_trip),
        ["verify"] => checked(text).map(|_| "no errors\n".to_owned()),
        ["run", names @ ..] => optimized(text, names),
        _ => panic!("the first line must be `// print`, `// verify` or `// run PASS…`, not `{command}`"),
    };
    result.unwrap_or_else(|error| format!("{error}\n"))
}

fn round_trip(program: Program) -> String {
    let printed = print(&program);
    assert_eq!(print(&parse(&printed).unwrap()), printed, "printing is not the inverse of parsing");
    printed
}

fn checked(text: &str) -> Result<milwright_mil::Checked, String> {
    verify(parse(text).map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

/// The program after the named passes; `all` names them all.
fn optimized(text: &str, names: &[&str]) -> Result<String, String> {
    let by_name = |name: &&str| passes::by_name(name).unwrap_or_else(|| panic!("there is no pass `{name}`"));
    let list: Vec<Pass> = match names {
        ["all"] => passes::ALL.to_vec(),
        names => names.iter().map(by_name).collect(),
    };
    let program = checked(text)?;
    let interface = interface(&program);
    let (program, reports) = passes::run(program, &list, Some(&Adder)).map_err(|e| e.to_string())?;
    assert_eq!(interface, self::interface(&program), "the functions, their inputs or outputs changed");
    assert_eq!(reports.len(), list.len());
    Ok(round_trip(program.into_inner()))
}

/// What passes must not change: functions, and the names and types of their inputs and outputs.
fn interface(program: &Program) -> Vec<(String, Vec<(String, Type)>)> {
    let function = |(name, f): (&String, &milwright_mil::Function)| {
        let values = f.inputs.iter().chain(&f[f.body].outputs);
        (name.clone(), values.map(|&v| (f[v].name.clone(), f[v].ty.clone())).collect())
    };
    program.functions.iter().map(function).collect()
}

/// An engine that can only add fp32 tensors of one shape: enough to see that folding asks it.
struct Adder;

impl Evaluate for Adder {
    fn evaluate(&self, op: &OpView<'_>, _: &[Type]) -> Result<Vec<Tensor>, String> {
        if op.kind != OpKind::Add {
            return Err("not an addition".into());
        }
        let p = Add::params(op).map_err(|e| e.to_string())?;
        let (Some(x), Some(y)) = (p.x.value(), p.y.value()) else { return Err("not known".into()) };
        let (Ok(a), Ok(b)) = (x.to_vec::<f32>(), y.to_vec::<f32>()) else { return Err("not fp32".into()) };
        if x.shape() != y.shape() {
            return Err("not an addition of equal shapes".into());
        }
        let sum = a.iter().zip(b).map(|(a, b)| a + b).collect();
        Tensor::from_vec(x.shape(), sum).map(|t| vec![t]).map_err(|e| e.to_string())
    }
}
