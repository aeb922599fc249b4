//! `milwright convert`

use std::path::PathBuf;

use clap::ValueEnum;
use milwright::{ComputePrecision, Container, ConvertReport, Converter, Progress, Result};

use crate::common::{self, Global, InputArgs, TargetOsArg};
use crate::destination::{Force, check_extension};
use crate::printer::{Printer, bytes};
use crate::progress;

/// Writes a neural network as an ML program, in an .mlpackage, and proves that it computes the same.
///
/// Names, shapes, image types, class labels, descriptions and metadata stay. Of a pipeline, the networks in it are converted.
/// Both models run on the same inputs; where an output differs, nothing is written.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright convert old.mlmodel
  milwright convert old.mlmodel -o new.mlpackage --target-os ios16 --precision float16
  milwright convert compiled.mlmodelc -o model.mlpackage

Exit code 3 says that the result does not compute the same.")]
pub struct Args {
    /// An .mlmodel file, or an .mlpackage or .mlmodelc folder.
    model: PathBuf,
    /// Where the result goes [default: NAME.mlpackage in the current folder]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// The oldest system that it is for [default: the oldest that has what it needs]
    #[arg(long, value_enum, value_name = "OS")]
    target_os: Option<TargetOsArg>,
    /// What it computes in.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Float32)]
    precision: PrecisionArg,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    inputs: InputArgs,
    /// Seed of drawn inputs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = common::threads)]
    threads: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    /// As the network computes.
    Float32,
    /// As the Neural Engine and the GPU compute.
    Float16,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let model = common::open(&args.model)?;
    let output = args.output.clone().unwrap_or_else(|| {
        let stem = args.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        PathBuf::from(format!("{stem}.mlpackage"))
    });
    check_extension(&output, "mlpackage")?;
    args.force.check_model(&output, Container::Mlpackage, &args.model)?;
    let mut converter = Converter::new()
        .precision(match args.precision {
            PrecisionArg::Float32 => ComputePrecision::Float32,
            PrecisionArg::Float16 => ComputePrecision::Float16,
        })
        .seed(args.seed)
        .load_options(global.load_options(None, args.threads));
    if let Some(target) = args.target_os {
        converter = converter.target_os(target.into());
    }
    if let Some(samples) = args.inputs.read(&model, None, printer)? {
        converter = converter.samples(samples);
    }
    let bar = progress::bar("converting", 1);
    let mut advance = |p| {
        if let Progress::Proving { done, total } = p {
            bar.set_message("proving");
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    };
    let report = converter.convert(&model, Some(&output), &mut advance);
    bar.finish_and_clear();
    let report = report?;
    if printer.is_json() {
        printer.json(&report);
    } else {
        show(&report, printer);
    }
    Ok(())
}

fn show(report: &ConvertReport, printer: &Printer) {
    let result = &report.optimized;
    if let Some(output) = &result.output {
        // Of a pipeline, the models in it become programs.
        let becomes = match report.model_type.starts_with("pipeline") {
            true => format!("{}, its networks as ML programs,", report.model_type),
            false => format!("{} → mlProgram", report.model_type),
        };
        printer.line(format!(
            "{}: {becomes} for {} (specification version {}), {} → {}",
            output.display(),
            report.target_os,
            report.specification_version,
            bytes(result.bytes_before),
            bytes(result.bytes_after),
        ));
    }
    for comparison in &result.proof.functions {
        printer.line("");
        common::show_comparison(comparison, "outputs", printer);
    }
    result.notes.iter().for_each(|note| printer.note(note.clone()));
}
