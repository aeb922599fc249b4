//! `milwright optimize`

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use milwright::{
    Activations, Compression, CompressionConfig, Container, Error, ErrorKind, Family, KeptOp, OPTIONS,
    OptimizeReport, Optimizer, Progress, Quantization, Result, Tolerance, WeightReport, check_name,
    read_text,
};

use super::smallest;
use crate::common::{self, Global, InputArgs, TargetArg, TargetOsArg};
use crate::destination::Force;
use crate::printer::{Printer, bytes, duration, number};
use crate::progress;

/// Makes a model smaller and proves that it still computes the same.
///
/// The original and the result run on the same inputs; every output is compared, as `milwright compare` does it. A result
/// that is not within the tolerance, or that is NaN or infinite where the original is not, is an error, and nothing is
/// written. On inputs that were drawn this is a smoke test: real ones may go elsewhere.
#[derive(clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// An .mlpackage or .mlmodelc folder, or an .mlmodel file: an ML program, a neural network, or a pipeline of such.
    model: PathBuf,
    /// Where the result goes [default: NAME-QUANTIZATION.mlpackage in the current folder]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    force: Force,
    /// What the result should run on: ane and gpu compute in fp16.
    #[arg(long, visible_alias = "for", value_enum, default_value_t = TargetArg::Auto)]
    target: TargetArg,
    /// How weights are stored: one of the names below, with options after a colon (`int4:block=32`); or several, joined by
    /// a plus, the second of which works on the result of the first (`prune:sparsity=0.75+palette4`).
    #[arg(long, value_name = "FORM", value_parser = Forms, default_value_t = Compression::default())]
    quantize: Compression,
    /// A file that says how weights are stored, by the ops that use them: a configuration of coremltools in YAML, or one with
    /// forms (`op_type_configs: {linear: int4:block=32}`).
    #[arg(long, value_name = "FILE", conflicts_with = "quantize")]
    config: Option<PathBuf>,
    /// The oldest system that the result must run on; without it, a newer one is chosen if the form of weights needs it.
    #[arg(long, value_enum)]
    target_os: Option<TargetOsArg>,
    #[arg(long, value_name = "SNR_DB", help = tolerance_help(), allow_negative_numbers = true, value_parser = common::tolerance)]
    tolerance: Option<Tolerance>,
    /// Observe the inputs of weights on half of the samples, and compress so that outputs lose least; the other half proves it.
    #[arg(long, requires = "inputs", conflicts_with_all = ["no_proof", "smallest"])]
    calibrate: bool,
    /// Make values between ops int8, too, in ranges that half of the samples show (the other half proves it): mse, minmax or
    /// percentile=P, and asymmetric after a comma. What loses most stays a float, if the tolerance asks for it.
    #[arg(long, value_name = "RANGES", requires = "inputs", conflicts_with_all = ["no_proof", "smallest"])]
    activations: Option<Activations>,
    /// A graph pass to leave out; may be given several times.
    #[arg(long, value_name = "PASS")]
    without_pass: Vec<String>,
    /// Write the result without running it, to prove it elsewhere.
    #[arg(long, conflicts_with_all = ["tolerance", "inputs"])]
    no_proof: bool,
    #[command(flatten)]
    inputs: InputArgs,
    /// Seed of drawn inputs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = common::threads)]
    threads: usize,
    #[command(flatten)]
    search: smallest::SearchArgs,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let model = common::open(&args.model)?;
    let output = args.output.clone().unwrap_or_else(|| default_output(args));
    check_name(&output, Container::Mlpackage)?;
    args.force.check_model(&output, Container::Mlpackage, &args.model)?;
    args.search.check(&args.force)?;
    let mut optimizer = Optimizer::new()
        .target(args.target.into())
        .config(configuration(args)?)
        .seed(args.seed)
        .existing(args.force.existing());
    optimizer = if args.search.smallest {
        let (load, stop) = global.search_options(args.threads);
        let cancel = load.cancel.clone();
        args.search.set(optimizer.load_options(load), cancel, stop)
    } else {
        optimizer.load_options(global.load_options(None, args.threads))
    };
    if let Some(tolerance) = args.tolerance {
        optimizer = optimizer.tolerance(tolerance);
    }
    if let Some(target) = args.target_os {
        optimizer = optimizer.target_os(target.into());
    }
    if args.calibrate {
        optimizer = optimizer.calibrated();
    }
    if let Some(activations) = args.activations {
        optimizer = optimizer.activations(activations);
    }
    for pass in &args.without_pass {
        optimizer = optimizer.without_pass(pass)?;
    }
    if args.no_proof {
        optimizer = optimizer.without_proof();
    }
    if let Some(samples) = args.inputs.read(&model, None, printer)? {
        optimizer = optimizer.samples(samples);
    }
    let default_db = optimizer.default_db();
    let bar = progress::bar("compressing", 1);
    let mut advance = |p| match p {
        Progress::Compressing { done, total } => {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
        Progress::Searching { done, total } => {
            bar.set_message("searching");
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
        Progress::Writing => bar.set_message("writing"),
        Progress::Proving { done, total } => {
            bar.set_message("proving");
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
        _ => {}
    };
    let report = optimizer.optimize(&model, Some(&output), &mut advance);
    bar.finish_and_clear();
    let report = report.map_err(Force::explain)?;
    if let Some(found) = &report.search {
        args.search.draw(found)?;
    }
    if printer.is_json() {
        printer.json(&report);
    } else {
        show(&report, printer);
    }
    if report.search.is_none() && args.tolerance.is_some_and(|t| t != Tolerance::None) {
        for comparison in report.proof.functions.iter().filter(|c| c.inputs.is_drawn()).take(1) {
            common::note_smoke_test(&comparison.inputs, printer);
        }
    }
    if args.tolerance == Some(Tolerance::None) {
        let default = default_db;
        for failure in report.proof.failures(default) {
            printer.note(format!("warning: {failure}; the default tolerance of {default} dB refuses it"));
        }
    }
    if let Some(headroom) = report.fp16_headroom {
        printer.note(format!(
            "note: on these inputs nothing that is fp16 inside is above {}; real ones may go beyond 65504, where fp16 ends",
            number(65504.0 / headroom)
        ));
    }
    if let Some(why) = &report.not_smaller {
        printer.note(format!("nothing became smaller: {why}"));
    }
    Ok(())
}

/// What `--quantize` or `--config` says.
fn configuration(args: &Args) -> Result<CompressionConfig> {
    let Some(path) = &args.config else { return Ok(args.quantize.clone().into()) };
    read_text(path)?.parse().map_err(|why: String| {
        Error::new(ErrorKind::InvalidInput, why)
            .with_hint("docs/optimize.md has examples of configurations")
            .at(path)
    })
}

/// Reads a form of weights. Help and completions show the names of the list.
#[derive(Clone)]
struct Forms;

impl TypedValueParser for Forms {
    type Value = Compression;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> std::result::Result<Compression, clap::Error> {
        let parse = |text: String| text.parse::<Compression>();
        StringValueParser::new().try_map(parse).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let value = |q: &Quantization| PossibleValue::new(q.name()).help(q.info().doc);
        Some(Box::new(Quantization::ALL.iter().map(value)))
    }
}

fn after_help() -> String {
    const WIDTH: usize = 78;
    let mut text = String::from("Options of forms, separated by commas:\n");
    for family in Family::ALL {
        let suits = OPTIONS.iter().filter(|o| o.of.contains(family));
        let forms: Vec<&str> = suits.map(|o| o.form).collect();
        text += &wrapped(&format!("  {:<10}{}", family.name(), forms.join(", ")), WIDTH, 12);
    }
    text += "\
docs/quantizations.md says what they do.

Examples:
  milwright optimize model.mlpackage --quantize float16
  milwright optimize model.mlpackage --quantize palette4 --tolerance 20 -o small.mlpackage
  milwright optimize model.mlpackage --quantize int4:block=32 --inputs samples/
  milwright optimize model.mlpackage --smallest --tolerance 30 --inputs samples/
  milwright optimize model.mlpackage --quantize prune:sparsity=0.75+palette4 --target-os ios18

The folder of --inputs has a file NAME.npy (or NAME.png for an image) for each input.";
    text
}

/// Breaks a line at spaces; the later lines are indented.
fn wrapped(line: &str, width: usize, indent: usize) -> String {
    let (start, rest) = line.split_at(indent);
    let mut lines = vec![start.to_owned()];
    for word in rest.split(' ') {
        let last = lines.last_mut().expect("there is a first line");
        if last.len() + word.len() >= width {
            lines.push(" ".repeat(indent) + word);
        } else {
            if last.len() > indent {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

fn tolerance_help() -> String {
    let mut groups: Vec<(f64, Vec<&str>)> = Vec::new();
    for info in Quantization::ALL.iter().map(|q| q.info()) {
        match groups.iter_mut().find(|(db, _)| *db == info.tolerance_db) {
            Some((_, names)) => names.push(info.name),
            None => groups.push((info.tolerance_db, vec![info.name])),
        }
    }
    let groups: Vec<_> = groups.iter().map(|(db, names)| format!("{db} for {}", names.join(", "))).collect();
    format!(
        "The least signal-to-noise ratio of every output, in dB, or `none` [default: {}; at most 30 for ane and gpu]",
        groups.join("; ")
    )
}

fn default_output(args: &Args) -> PathBuf {
    let stem = args.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let suffix = if args.config.is_some() {
        "compressed".to_owned()
    } else if args.search.smallest {
        "smallest".to_owned()
    } else if args.quantize.is_none() {
        "optimized".to_owned()
    } else {
        args.quantize.file_name()
    };
    PathBuf::from(format!("{stem}-{suffix}.mlpackage"))
}

fn show(report: &OptimizeReport, printer: &Printer) {
    if let Some(output) = &report.output {
        let ratio = report.bytes_after as f64 / report.bytes_before as f64;
        printer.line(format!(
            "{}: {} → {} ({:.1} %)",
            output.display(),
            bytes(report.bytes_before),
            bytes(report.bytes_after),
            100.0 * ratio
        ));
    }
    for comparison in &report.proof.functions {
        let several = report.proof.functions.len() > 1;
        let name = if several { format!(" of {}", comparison.function) } else { String::new() };
        printer.line("");
        common::show_comparison(comparison, &format!("outputs{name}"), printer);
    }
    if let Some(found) = &report.search {
        smallest::show(found, printer);
    }
    let mut lossy: Vec<&WeightReport> =
        report.weights.iter().filter(|w| w.snr_db.is_some_and(f64::is_finite)).collect();
    // Where inputs were observed, what a weight makes of them counts, and not the weight itself.
    let loss = |w: &WeightReport| w.output_snr_db.or(w.snr_db);
    let observed = lossy.iter().any(|w| w.output_snr_db.is_some());
    lossy.sort_by(|a, b| loss(a).partial_cmp(&loss(b)).unwrap_or(std::cmp::Ordering::Equal));
    if !lossy.is_empty() && report.search.is_none() {
        let shown = lossy.len().min(8);
        printer.line(format!("\nweights that lost most ({shown} of {}):", lossy.len()));
        let mut heads = vec!["weight", "shape", "SNR dB", "max error", "before", "after"];
        if observed {
            heads.insert(2, "outputs dB");
        }
        let mut table = printer.table(&heads);
        for w in &lossy[..shown] {
            let mut row = vec![
                w.name.clone(),
                format!("{:?}", w.shape),
                w.snr_db.map_or(String::new(), |s| {
                    if s.is_finite() { format!("{s:.1}") } else { "equal".into() }
                }),
                number(w.max_error),
                bytes(w.bytes_before as u64),
                bytes(w.bytes_after as u64),
            ];
            if observed {
                row.insert(2, w.output_snr_db.map_or("–".into(), |s| format!("{s:.1}")));
            }
            table.add_row(row);
        }
        printer.show(&table);
    }
    report.notes.iter().for_each(|note| printer.note(note.clone()));
    show_kept(&report.kept, printer);
    for w in report.weights.iter().filter(|w| w.skipped.is_some()) {
        printer.note(format!("left alone: {}: {}", w.name, w.skipped.as_deref().unwrap_or_default()));
    }
    let written = duration(report.optimize_time);
    printer.note(if report.proved {
        format!("compressed and written in {written}, proved in {}", duration(report.proof_time))
    } else {
        format!("compressed and written in {written}; not proved, as asked: it was neither run nor compared")
    });
}

/// Ops that stay in fp32, those of one reason in one line.
fn show_kept(kept: &[KeptOp], printer: &Printer) {
    let mut groups: Vec<(&KeptOp, usize)> = Vec::new();
    for k in kept {
        match groups.iter_mut().find(|(g, _)| g.op == k.op && g.reason == k.reason) {
            Some((_, count)) => *count += 1,
            None => groups.push((k, 1)),
        }
    }
    for (k, count) in groups {
        let others = if count > 1 { format!(" and {} others", count - 1) } else { String::new() };
        printer.note(format!("stays in fp32: {} `{}`{others}: {}", k.op, k.name, k.reason));
    }
}
