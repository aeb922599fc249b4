//! One engine with one model, timed on request: `compare.py` starts one of these for each engine and asks them in turn.
//!
//!     milwright-bench ENGINE MODEL INPUTS THREADS
//!     milwright-bench roofs
//!
//! `roofs` prints what one thread of the machine can do at best ([`roofs`]).
//!
//! ENGINE is `milwright` (MODEL is a package), `onnxruntime`, `tract` or `rten` (MODEL is an ONNX file). INPUTS is a
//! folder with `NAME.npy` for each input. When the model is ready, and after each line that it reads, it prints one
//! line of JSON:
//!
//!     (ready)       {"load_ms": 12.3}
//!     run SECONDS   {"runs": 57, "min_ms": 8.1, "median_ms": 8.2}
//!     save FOLDER   {}      the outputs of the last run are now in FOLDER/NAME.npy

mod engines;
mod roofs;

use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use engines::{Engine, Named};
use milwright::npy;
use serde_json::{Value, json};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let ["roofs"] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return answer(&roofs::measure());
    }
    let [engine, model, inputs, threads] = &arguments[..] else {
        return Err("usage: milwright-bench ENGINE MODEL INPUTS THREADS".into());
    };
    let inputs = read_inputs(Path::new(inputs))?;
    let start = Instant::now();
    let mut engine = engines::load(engine, Path::new(model), inputs, threads.parse()?)?;
    answer(&json!({ "load_ms": milliseconds(start.elapsed()) }))?;
    for line in stdin().lines() {
        match line?.split_once(' ') {
            Some(("run", seconds)) => answer(&run(&mut *engine, seconds.parse()?)?)?,
            Some(("save", folder)) => {
                for (name, tensor) in engine.outputs()? {
                    npy::write(Path::new(folder).join(format!("{}.npy", file_name(&name))), &tensor)?;
                }
                answer(&json!({}))?;
            }
            _ => return Err("expected `run SECONDS` or `save FOLDER`".into()),
        }
    }
    Ok(())
}

fn read_inputs(folder: &Path) -> Result<Named> {
    let mut inputs = Named::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|s| s.to_str()).ok_or("an input without a name")?;
        inputs.push((name.to_owned(), npy::read(&path)?));
    }
    inputs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(inputs)
}

/// Runs that fill caches again after another engine had the machine; they are not counted.
const WARM_UP: usize = 2;

fn run(engine: &mut dyn Engine, seconds: f64) -> Result<Value> {
    for _ in 0..WARM_UP {
        engine.run()?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.is_empty() || start.elapsed().as_secs_f64() < seconds {
        let one = Instant::now();
        engine.run()?;
        times.push(one.elapsed());
    }
    times.sort_unstable();
    let median = milliseconds(times[times.len() / 2]);
    Ok(json!({ "runs": times.len(), "min_ms": milliseconds(times[0]), "median_ms": median }))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// ONNX names may have characters that file names should not.
fn file_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_")
}

fn answer(value: &Value) -> Result<()> {
    println!("{value}");
    Ok(stdout().flush()?)
}
