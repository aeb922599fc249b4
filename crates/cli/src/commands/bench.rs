//! `milwright bench`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use milwright::{PlanOrigin, Result, Target};
use serde::Serialize;

use crate::common::{self, Global};
use crate::printer::{Printer, bytes, count, duration};

/// Measures a model: latency, throughput, memory, load time.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright bench model.mlpackage
  milwright bench model.mlpackage --threads 1 --seconds 10 --json")]
pub struct Args {
    /// An .mlpackage or .mlmodelc folder, or an .mlmodel file, with an ML program.
    model: PathBuf,
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
    /// A folder with inputs [default: drawn to suit the model]
    #[arg(long, value_name = "DIR")]
    inputs: Option<PathBuf>,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if seconds > 0.0 && seconds <= 86_400.0 { Ok(seconds) } else { Err("between 0 and 86400".into()) }
}

#[derive(Serialize)]
struct Report {
    backend: &'static str,
    plan: PlanOrigin,
    load_ms: f64,
    runs: usize,
    min_ms: f64,
    median_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    throughput_per_second: f64,
    peak_memory_bytes: Option<u64>,
    arena_bytes: u64,
    weight_bytes: u64,
}

/// Runs before measuring: caches fill, clocks rise.
const WARM_UP: usize = 3;

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let start = Instant::now();
    let model = common::open(&args.model)?;
    let function = args.function.as_deref();
    let options = global.load_options(function, args.threads);
    let mut session = common::backend(Target::Auto, args.isolated)?.load(&model, &options)?;
    let load = start.elapsed();
    let samples = common::samples(&model, function, args.inputs.as_deref(), 0, 1)?;
    let mut requests = samples.requests.iter().cycle();
    let mut next = || requests.next().expect("there is at least one set of inputs");
    for _ in 0..WARM_UP {
        session.predict(next())?;
    }
    let mut times: Vec<Duration> = Vec::new();
    let start = Instant::now();
    while times.is_empty() || start.elapsed().as_secs_f64() < args.seconds {
        let request = next();
        let one = Instant::now();
        session.predict(request)?;
        times.push(one.elapsed());
    }
    let throughput = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
    let loaded = session.loaded();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let report = Report {
        backend: loaded.backend,
        plan: loaded.plan.clone(),
        load_ms: ms(load),
        runs: times.len(),
        min_ms: ms(times[0]),
        median_ms: ms(at(0.5)),
        p95_ms: ms(at(0.95)),
        p99_ms: ms(at(0.99)),
        throughput_per_second: throughput,
        peak_memory_bytes: peak_memory(),
        arena_bytes: loaded.arena_bytes,
        weight_bytes: loaded.weight_bytes,
    };
    if printer.is_json() {
        printer.json(&report);
        return Ok(());
    }
    let mut table = printer.table(&["min", "median", "p95", "p99", "per second", "peak memory", "load"]);
    table.add_row(vec![
        duration(times[0]),
        duration(at(0.5)),
        duration(at(0.95)),
        duration(at(0.99)),
        format!("{throughput:.1}"),
        report.peak_memory_bytes.map_or("unknown".into(), bytes),
        duration(load),
    ]);
    printer.show(&table);
    let runs = count(report.runs, "run", "runs");
    printer.note(format!("{runs} on {}; plan {}", report.backend, report.plan));
    Ok(())
}

/// The most memory that the process had, where the system says.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
