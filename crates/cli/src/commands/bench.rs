//! `milwright bench`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use milwright::{
    Backend, Candidate, Cpu, Error, ErrorKind, InferenceRequest, LoadOptions, Model, PlanOrigin, Result,
    SampleSource, Session, Target,
};
use serde::Serialize;

use crate::common::{self, Global, InputArgs, TargetArg};
use crate::printer::{Printer, bytes, count, duration};

/// Measures a model: latency, throughput, memory, load time.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright bench model.mlpackage
  milwright bench model.mlpackage --threads 1 --seconds 10 --json
  milwright bench model.mlpackage --target ane --compiles 100

What the target stands for is tried in turn, and what was skipped is said. If it is not Milwright's
own engine in this process that runs the model in the end, that is measured, too: the speed-up is
the ratio of the medians.")]
pub struct Args {
    /// An .mlpackage or .mlmodelc folder, or an .mlmodel file.
    model: PathBuf,
    /// What the model should run on.
    #[arg(long, value_enum, default_value_t = TargetArg::Auto)]
    target: TargetArg,
    /// Compile the model anew so many times, and measure that.
    #[arg(long, value_name = "N", default_value_t = 0)]
    compiles: usize,
    /// Run the model in a process of its own: if that crashes, it is an error.
    #[arg(long)]
    isolated: bool,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = common::threads)]
    threads: usize,
    /// How long to measure, after a warm-up.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// The function to run [default: the model's default function]
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    #[command(flatten)]
    inputs: InputArgs,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if seconds > 0.0 && seconds <= 86_400.0 { Ok(seconds) } else { Err("between 0 and 86400".into()) }
}

#[derive(Serialize)]
struct Report {
    backend: String,
    skipped: Vec<Skipped>,
    plan: PlanOrigin,
    load_ms: f64,
    #[serde(flatten)]
    timing: Timing,
    /// Of Milwright's own engine.
    cpu_median_ms: f64,
    speed_up: f64,
    compile: Option<Compile>,
    peak_memory_bytes: Option<u64>,
    arena_bytes: u64,
    weight_bytes: u64,
    /// What it was run on.
    inputs: SampleSource,
}

/// A backend that the target asks for and that does not run the model.
#[derive(Serialize)]
struct Skipped {
    backend: String,
    reason: String,
}

#[derive(Clone, Serialize)]
struct Timing {
    runs: usize,
    min_ms: f64,
    median_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    throughput_per_second: f64,
}

/// Loading without a cache, again and again.
#[derive(Serialize)]
struct Compile {
    runs: usize,
    median_ms: f64,
    p99_ms: f64,
}

/// Runs before measuring: caches fill, clocks rise.
const WARM_UP: usize = 3;

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let start = Instant::now();
    let model = common::open(&args.model)?;
    let function = args.function.as_deref();
    let options = global.load_options(function, args.threads);
    let (candidate, mut session, skipped) = load(args, &model, &options)?;
    let load = start.elapsed();
    let samples = args.inputs.read_or_draw(&model, function, 0, 1, &options, printer)?;
    let timing =
        measure(&mut *session, &samples.requests, args.seconds).map_err(|e| samples.source.explain(e))?;
    let peak_memory_bytes = peak_memory();
    let is_baseline = candidate.name() == Cpu.name() && !args.isolated;
    let cpu_median_ms = if is_baseline {
        timing.median_ms
    } else {
        measure(&mut *Cpu.session(&model, &options)?, &samples.requests, args.seconds)?.median_ms
    };
    let loaded = session.loaded();
    let report = Report {
        backend: candidate.name(),
        skipped,
        plan: loaded.plan.clone(),
        load_ms: ms(load),
        cpu_median_ms,
        speed_up: cpu_median_ms / timing.median_ms,
        compile: compile(&candidate, &model, &options, args.compiles)?,
        timing,
        peak_memory_bytes,
        arena_bytes: loaded.arena_bytes,
        weight_bytes: loaded.weight_bytes,
        inputs: samples.source.clone(),
    };
    if printer.is_json() {
        printer.json(&report);
        return Ok(());
    }
    let timing = &report.timing;
    let time = |ms: f64| duration(Duration::from_secs_f64(ms / 1e3));
    let mut table = printer.table(&["min", "median", "p95", "p99", "per second", "peak memory", "load"]);
    table.add_row(vec![
        time(timing.min_ms),
        time(timing.median_ms),
        time(timing.p95_ms),
        time(timing.p99_ms),
        format!("{:.1}", timing.throughput_per_second),
        report.peak_memory_bytes.map_or("unknown".into(), bytes),
        duration(load),
    ]);
    printer.show(&table);
    let runs = count(timing.runs, "run", "runs");
    printer.note(format!("{runs} on {}; plan {}", report.backend, report.plan));
    if !is_baseline {
        let (ratio, median) = (report.speed_up, time(report.cpu_median_ms));
        printer.note(format!("{ratio:.2} times as fast as cpu in this process, whose median is {median}"));
    }
    for same in report.skipped.chunk_by(|a, b| a.reason == b.reason) {
        let names: Vec<&str> = same.iter().map(|s| &*s.backend).collect();
        printer.note(format!("not on {}: {}", names.join(", "), same[0].reason));
    }
    if let Some(compile) = &report.compile {
        let (median, p99) = (time(compile.median_ms), time(compile.p99_ms));
        let times = count(compile.runs, "compilation", "compilations");
        printer.note(format!("{times}: median {median}, p99 {p99}"));
    }
    Ok(())
}

/// The model on the first backend of the target that is there and loads it.
fn load(
    args: &Args,
    model: &Arc<Model>,
    options: &LoadOptions,
) -> Result<(Candidate, Box<dyn Session>, Vec<Skipped>)> {
    let isolation = common::isolation(args.isolated)?;
    let mut skipped = Vec::new();
    let mut failed = None;
    for candidate in Target::from(args.target).chain() {
        let candidate = Candidate { backend: isolation.apply(candidate.backend), ..candidate };
        let availability = candidate.backend.availability();
        let loaded = if availability.available {
            let compute_units = candidate.compute_units;
            candidate.backend.session(model, &LoadOptions { compute_units, ..options.clone() })
        } else {
            Err(Error::new(ErrorKind::Unavailable, availability.reason))
        };
        match loaded {
            Ok(session) => return Ok((candidate, session, skipped)),
            // Nobody else can load it with wrong options, and nobody should after Ctrl-C.
            Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Cancelled) => return Err(e),
            Err(e) => {
                skipped.push(Skipped { backend: candidate.name(), reason: e.to_string() });
                failed = Some(e);
            }
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "the target has no backends")))
}

fn measure(session: &mut dyn Session, requests: &[InferenceRequest], seconds: f64) -> Result<Timing> {
    let mut requests = requests.iter().cycle();
    let mut next = || requests.next().expect("there is at least one set of inputs");
    for _ in 0..WARM_UP {
        let request = next();
        session.predict(request).map_err(|e| request.explain(e))?;
    }
    let mut times: Vec<Duration> = Vec::new();
    let start = Instant::now();
    while times.is_empty() || start.elapsed().as_secs_f64() < seconds {
        let request = next();
        let one = Instant::now();
        session.predict(request).map_err(|e| request.explain(e))?;
        times.push(one.elapsed());
    }
    let throughput_per_second = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    Ok(Timing {
        runs: times.len(),
        min_ms: ms(times[0]),
        median_ms: ms(quantile(&times, 0.5)),
        p95_ms: ms(quantile(&times, 0.95)),
        p99_ms: ms(quantile(&times, 0.99)),
        throughput_per_second,
    })
}

fn compile(
    candidate: &Candidate,
    model: &Arc<Model>,
    options: &LoadOptions,
    runs: usize,
) -> Result<Option<Compile>> {
    if runs == 0 {
        return Ok(None);
    }
    let compute_units = candidate.compute_units;
    let options = LoadOptions { cache: None, compute_units, ..options.clone() };
    let mut times = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        drop(candidate.backend.session(model, &options)?);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(Some(Compile { runs, median_ms: ms(quantile(&times, 0.5)), p99_ms: ms(quantile(&times, 0.99)) }))
}

/// Of times in order.
fn quantile(times: &[Duration], q: f64) -> Duration {
    times[((times.len() - 1) as f64 * q).round() as usize]
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The most memory that the process had, where the system says.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
