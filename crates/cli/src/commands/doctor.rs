//! `milwright doctor`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use milwright::{
    CoreMl, Device, Error, ErrorKind, Fp16Finding, Fp16Signal, Result, backends, find_fp16_losses,
};
use serde_json::json;

use crate::common::{self, Global, InputArgs};
use crate::printer::{self, Printer, count, number};

/// Shows what this machine offers: the system, CPU features, backends, and why each is (not) available; or what fp16
/// loses in a model.
///
/// Of a model, the program runs in fp32 and in fp16, on drawn or given inputs. Three signals are looked for: numbers
/// above 65504; results that are much worse than what they are computed from, because numbers are too small or have too
/// many digits; and steps inside ops such as softplus or a norm that leave the range where a unit computes them in fp16.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright doctor --json
  milwright doctor model.mlpackage --inputs samples/

The margin is the factor by which a number may grow, or shrink, before the limit: below 1 it is lost.
A model that computes in fp16 already is compared with the same program in fp32.")]
pub struct Args {
    /// A model with a program or a network: the question is then what fp16 does to it.
    model: Option<PathBuf>,
    /// The function to run [default: the model's default function]
    #[arg(long, value_name = "NAME", requires = "model")]
    function: Option<String>,
    /// The seed for drawn inputs.
    #[arg(long, default_value_t = 0, requires = "model")]
    seed: u64,
    #[command(flatten)]
    inputs: InputArgs,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    if let Some(model) = &args.model {
        return examine(args, model, global, printer);
    }
    if args.inputs.is_given() {
        let error = Error::new(ErrorKind::InvalidInput, "inputs are for a model, and none is named");
        return Err(error.with_hint("name it: `milwright doctor MODEL --inputs DIR`"));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let folder = global.cache_folder();
    let cache = match (&folder, global.cache()) {
        (Ok(folder), Some(_)) => format!("{}", folder.display()),
        (Ok(folder), None) => format!("{} (not usable)", folder.display()),
        (Err(e), _) => e.to_string(),
    };
    // Where Core ML is too old to say, the table below does for it.
    let devices = CoreMl.devices().unwrap_or_default();
    let backends: Vec<_> = backends().iter().map(|b| (b.name(), b.availability())).collect();
    if printer.is_json() {
        let backends: Vec<_> = backends
            .iter()
            .map(|(name, a)| json!({ "name": name, "available": a.available, "reason": a.reason }))
            .collect();
        printer.json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "system": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
            "cores": cores,
            "cache": cache,
            "backends": backends,
            "devices": devices.iter().map(device).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    printer.line(format!(
        "milwright {} on {} {}, {cores} cores",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    ));
    printer.line(format!("cache: {cache}"));
    printer.line("");
    let mut table = printer.table(&["backend", "available", "why"]);
    for (name, a) in backends {
        table.add_row(vec![name.to_owned(), if a.available { "yes" } else { "no" }.to_owned(), a.reason]);
    }
    printer.show(&table);
    if !devices.is_empty() {
        let devices: Vec<String> = devices.iter().map(device).collect();
        printer.line(format!("Core ML can use: {}", devices.join(", ")));
    }
    Ok(())
}

fn device(device: &Device) -> String {
    match device {
        Device::NeuralEngine { cores } => format!("ane ({cores} cores)"),
        device => super::plan::name(device),
    }
}

/// How many sets of inputs are drawn.
const DRAWN: usize = 4;
/// How many findings the table has.
const SHOWN: usize = 30;

/// Says what fp16 does to a model.
fn examine(args: &Args, path: &Path, global: &Global, printer: &Printer) -> Result<()> {
    let model = common::open(path)?;
    let function = args.function.as_deref();
    let options = global.load_options(function, 0);
    let samples = args.inputs.read_or_draw(&model, function, args.seed, DRAWN, &options, printer)?;
    let report = find_fp16_losses(&model, function, &samples, &options)?;
    if printer.is_json() {
        printer.json(&report);
        return Ok(());
    }
    let becomes = if report.is_fp16 { "computes in fp16" } else { "would compute in fp16" };
    let ops = count(report.ops, "op", "ops");
    printer.line(format!(
        "it {becomes}: {ops}, on {} of inputs, {}",
        count(report.sets, "set", "sets"),
        report.inputs
    ));
    let lost: BTreeSet<_> =
        report.findings.iter().filter(|f| f.lost).map(|f| (&f.function, &f.name)).collect();
    let lost = lost.len();
    if !report.findings.is_empty() {
        let heads = ["", "op", "name", "what", "number", "limit", "margin", "SNR dB"];
        let mut table = printer.table(&heads);
        printer::align_right(&mut table, &[4, 5, 6, 7]);
        let (first, rest): (Vec<_>, Vec<_>) = report.findings.iter().partition(|f| f.lost);
        for finding in first.into_iter().chain(rest).take(SHOWN) {
            table.add_row(row(finding));
        }
        printer.line("");
        printer.show(&table);
        if report.findings.len() > SHOWN {
            printer.line(format!("and {} more; --json lists them all", report.findings.len() - SHOWN));
        }
    }
    printer.line(match lost {
        0 => "nothing is lost on these inputs".to_owned(),
        n => format!("{} numbers that fp16 cannot hold", count(n, "op has", "ops have")),
    });
    if let Some(headroom) = report.headroom.filter(|_| lost == 0) {
        printer.line(format!("all values may grow {} times before one overflows", number(headroom)));
    }
    // Only losses that Milwright's own engine has, too, fail the proof.
    let shows = report.findings.iter().any(|f| f.lost && f.signal != Fp16Signal::Inner);
    if shows && !report.is_fp16 {
        printer.note("hint: if its proof fails, `milwright optimize --quantize float16` keeps such ops in fp32, and says which");
    }
    if report.hidden > 0 {
        let ops = count(report.hidden, "op", "ops");
        printer.note(format!("{ops} inside loops and conditionals were not looked at one by one"));
    }
    if report.inputs.is_drawn() {
        printer.note(
            "note: drawn inputs find what depends on the model alone; --inputs DIR shows it on real ones",
        );
    }
    Ok(())
}

fn row(finding: &Fp16Finding) -> Vec<String> {
    let what = match (finding.signal, finding.inner) {
        (Fp16Signal::Inner, Some(inner)) => format!("{inner} of `{}`", finding.value),
        (Fp16Signal::Overflow, _) => "overflow".to_owned(),
        (Fp16Signal::Underflow, _) => {
            let share = 100.0 * finding.share.unwrap_or_default();
            format!("underflow of `{}`, {share:.0} % of it", finding.value)
        }
        (Fp16Signal::Digits, _) => "too many digits".to_owned(),
        _ => String::new(),
    };
    vec![
        if finding.lost { "lost" } else { "close" }.to_owned(),
        finding.op.to_owned(),
        finding.name.clone(),
        what,
        number(finding.magnitude),
        number(finding.limit),
        number(finding.margin),
        finding.snr_db.map_or("–".to_owned(), |snr| snr.to_string()),
    ]
}
