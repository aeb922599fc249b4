//! `milwright profile`

use std::path::PathBuf;
use std::time::Duration;

use milwright::{Backend, Cpu, Error, ErrorKind, Files, Profile, ProfiledStep, Result, SampleSource};
use serde::Serialize;

use crate::common::{self, Global, InputArgs};
use crate::destination::Force;
use crate::printer::{Printer, bytes, count, duration};

/// Shows where the time of a prediction goes: each step of Milwright's own engine, and its kernel.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright profile model.mlpackage
  milwright profile model.mlpackage --threads 1 --all
  milwright profile model.mlpackage --trace trace.json

A step is an op with the element-wise ops that are fused into it; its name is that of the layer in
the source, as far as the converter kept it. Operations and bytes are the least that the step needs,
from the types of its operands. https://ui.perfetto.dev opens a trace.")]
pub struct Args {
    /// An .mlpackage or .mlmodelc folder, or an .mlmodel file.
    model: PathBuf,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = common::threads)]
    threads: usize,
    /// How often to run the model, after a warm-up.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Show all steps, in the order in which they run, not just the slowest.
    #[arg(long)]
    all: bool,
    /// Write a trace that Perfetto and Chrome open.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// The function to run [default: the model's default function]
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    inputs: InputArgs,
}

/// Steps that are shown without `--all`.
const SHOWN: usize = 15;
/// Runs before measuring: caches fill, clocks rise.
const WARM_UP: usize = 3;

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    profile: &'a Profile,
    /// What it was run on.
    inputs: &'a SampleSource,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    args.force.check_files(args.trace.clone())?;
    let model = common::open(&args.model)?;
    let function = args.function.as_deref();
    let options = global.load_options(function, args.threads);
    let mut session = Cpu.session(&model, &options)?;
    let samples = args.inputs.read_or_draw(&model, function, 0, 1, &options, printer)?;
    let missing = || Error::new(ErrorKind::InvalidInput, "there are no inputs to run it on");
    let request = samples.requests.first().ok_or_else(missing)?;
    let mut profile = |runs| {
        session.profile(request, runs).map_err(|e| samples.source.explain(request.explain(e)).at(&args.model))
    };
    profile(WARM_UP)?;
    let profile = profile(args.runs as usize)?;
    if let Some(path) = &args.trace {
        let mut files = Files::new(args.force.existing());
        files.text(path, &trace(&profile))?;
        files.commit().map_err(Force::explain)?;
    }
    if printer.is_json() {
        printer.json(&Report { profile: &profile, inputs: &samples.source });
        return Ok(());
    }
    let all: u64 = profile.steps.iter().map(|s| s.median_ns).sum();
    let mut steps: Vec<&ProfiledStep> = profile.steps.iter().collect();
    if !args.all {
        steps.sort_by_key(|step| std::cmp::Reverse(step.median_ns));
        steps.truncate(SHOWN);
    }
    let mut table = printer.table(&["time", "share", "GFLOP/s", "GB/s", "kernel", "ops", "name"]);
    for step in &steps {
        // Operations in a nanosecond are billions in a second.
        let rate = |n: u64| match (n, step.median_ns) {
            (0, _) | (_, 0) => String::new(),
            (n, ns) => format!("{:.1}", n as f64 / ns as f64),
        };
        table.add_row(vec![
            duration(Duration::from_nanos(step.median_ns)),
            format!("{:.1} %", 100.0 * step.median_ns as f64 / all.max(1) as f64),
            rate(step.flops),
            rate(step.bytes),
            step.kernel.clone().unwrap_or_default(),
            step.ops.clone(),
            step.name.clone(),
        ]);
    }
    printer.show(&table);
    let whole = duration(Duration::from_nanos(profile.run_ns));
    let (shown, total) = (steps.len(), count(profile.steps.len(), "step", "steps"));
    let runs = count(profile.runs, "run", "runs");
    printer.note(format!("{shown} of {total}; a run takes {whole}, the median of {runs}"));
    let read: u64 = profile.steps.iter().map(|s| s.bytes).sum();
    let flops: u64 = profile.steps.iter().map(|s| s.flops).sum();
    printer.note(format!("all steps: {:.3} GFLOP, {} read and written", flops as f64 / 1e9, bytes(read)));
    Ok(())
}

/// The steps of one run one after the other, with their median times, in the JSON of the trace event format.
fn trace(profile: &Profile) -> String {
    let mut start = 0;
    let event = |step: &ProfiledStep| {
        let at = start;
        start += step.median_ns;
        serde_json::json!({
            "name": step.name,
            "cat": step.ops,
            "ph": "X",
            "ts": at as f64 / 1e3,
            "dur": step.median_ns as f64 / 1e3,
            "pid": 1,
            "tid": 1,
            "args": { "ops": step.ops, "kernel": step.kernel, "flops": step.flops, "bytes": step.bytes },
        })
    };
    let events: Vec<_> = profile.steps.iter().map(event).collect();
    serde_json::json!({ "displayTimeUnit": "ns", "traceEvents": events }).to_string()
}
