//! `milwright convert`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use milwright::{
    ComputePrecision, Container, ConvertReport, Converter, Error, ErrorKind, Exporter, ImportOptions, Model,
    OnnxSize, Progress, Result, Tensor, Tolerance, check_name, npy,
};

use crate::common::{self, Global, InputArgs, TargetOsArg};
use crate::destination::Force;
use crate::printer::{Printer, bytes};
use crate::progress;

/// Writes an ONNX model or a neural network as an ML program, in an .mlpackage, and proves that it computes the same.
///
/// Names, shapes, image types, class labels, descriptions and metadata stay. Of a pipeline, the networks in it are converted.
/// Both models run on the same inputs; where an output differs, nothing is written.
///
/// An ONNX model's sizes that have names, or none, stay open: --size gives them numbers, ranges or choices.
///
/// With -o OUT.onnx, an ML program or a neural network becomes an ONNX model.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright convert old.mlmodel
  milwright convert old.mlmodel -o new.mlpackage --target-os ios16 --precision float16
  milwright convert compiled.mlmodelc -o model.mlpackage
  milwright convert model.onnx --size batch=1 --size sequence=1..512
  milwright convert model.onnx --size height=224,320,640 --freeze threshold=0.5
  milwright convert model.mlpackage -o model.onnx

Exit code 3 says that the result does not compute the same.")]
pub struct Args {
    /// An .onnx or .mlmodel file, or an .mlpackage or .mlmodelc folder.
    model: PathBuf,
    /// Where the result goes [default: NAME.mlpackage in the current folder]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// The oldest system that it is for [default: the oldest that has what it needs]
    #[arg(long, value_enum, value_name = "OS")]
    target_os: Option<TargetOsArg>,
    /// Of an ONNX model, a size by its name: N, FIRST..LAST, FIRST.. or N,N,N; any is also INPUT.NUMBER.
    #[arg(long = "size", value_name = "NAME=SIZE", value_parser = size)]
    sizes: Vec<(String, OnnxSize)>,
    /// Of an ONNX model, an input that becomes a constant: an .npy file or a number.
    #[arg(long = "freeze", value_name = "NAME=VALUE", value_parser = frozen)]
    frozen: Vec<(String, String)>,
    /// The lowest SNR that every output must have, in dB, or none [default: 80, 30 for float16]
    #[arg(long, value_name = "DB", allow_negative_numbers = true, value_parser = common::tolerance)]
    tolerance: Option<Tolerance>,
    /// Also list what an ONNX model's nodes and the program's ops are.
    #[arg(long)]
    report: bool,
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
    let model = open(args)?;
    let output = args.output.clone().unwrap_or_else(|| {
        let stem = args.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        PathBuf::from(format!("{stem}.mlpackage"))
    });
    if output.extension().is_some_and(|end| end.eq_ignore_ascii_case("onnx")) {
        return export(args, &model, &output, global, printer);
    }
    check_name(&output, Container::Mlpackage)?;
    args.force.check_model(&output, Container::Mlpackage, &args.model)?;
    let mut converter = Converter::new()
        .precision(match args.precision {
            PrecisionArg::Float32 => ComputePrecision::Float32,
            PrecisionArg::Float16 => ComputePrecision::Float16,
        })
        .seed(args.seed)
        .existing(args.force.existing())
        .load_options(global.load_options(None, args.threads));
    if let Some(target) = args.target_os {
        converter = converter.target_os(target.into());
    }
    if let Some(tolerance) = args.tolerance {
        converter = converter.tolerance(tolerance);
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
    let report = report.map_err(Force::explain)?;
    if printer.is_json() {
        printer.json(&report);
    } else {
        show(&report, printer);
        if args.report {
            list(&report, printer)?;
        }
    }
    Ok(())
}

/// Writes an ONNX model.
fn export(args: &Args, model: &Arc<Model>, output: &Path, global: &Global, printer: &Printer) -> Result<()> {
    if args.target_os.is_some() || matches!(args.precision, PrecisionArg::Float16) {
        let message = "an ONNX model is for no system, and computes as the program does";
        let hint = "convert to an .mlpackage with these options, and that to .onnx";
        return Err(Error::new(ErrorKind::InvalidInput, message).with_hint(hint).at(output));
    }
    args.force.check_files([output.to_owned()])?;
    let mut exporter = Exporter::new()
        .seed(args.seed)
        .existing(args.force.existing())
        .load_options(global.load_options(None, args.threads));
    if let Some(tolerance) = args.tolerance {
        exporter = exporter.tolerance(tolerance);
    }
    if let Some(samples) = args.inputs.read(model, None, printer)? {
        exporter = exporter.samples(samples);
    }
    let report = exporter.export(model, output, &mut || {}).map_err(Force::explain)?;
    if printer.is_json() {
        printer.json(&report);
        return Ok(());
    }
    let from = model.info().model_type();
    printer.line(format!("{}: {from} → ONNX, {}", output.display(), bytes(report.bytes)));
    for comparison in report.proof.iter().flat_map(|proof| &proof.functions) {
        printer.line("");
        common::show_comparison(comparison, "outputs", printer);
    }
    report.notes.iter().for_each(|note| printer.note(note.clone()));
    Ok(())
}

/// Opens the model, an ONNX model with the options for it.
fn open(args: &Args) -> Result<Arc<Model>> {
    let mut options = ImportOptions::new();
    // Inputs in files have the names of the ONNX model.
    if !args.inputs.is_given() {
        options = options.for_package();
    }
    if let Some(target) = args.target_os {
        options = options.target_os(target.into());
    }
    for (name, size) in &args.sizes {
        options = options.size(name, size.clone());
    }
    for (name, value) in &args.frozen {
        let tensor = match value.parse::<f64>() {
            Ok(number) if number.fract() == 0.0 && number.abs() <= f64::from(i32::MAX) => {
                Tensor::scalar(number as i32)
            }
            Ok(number) => Tensor::scalar(number),
            Err(_) => npy::read(value)?,
        };
        options = options.freeze(name, tensor);
    }
    let is_plain = args.sizes.is_empty() && args.frozen.is_empty();
    let model =
        if is_plain { Model::open_with(&args.model, &options) } else { Model::import(&args.model, &options) };
    model.map(Arc::new)
}

/// Parses `NAME=VALUE`.
fn frozen(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE, such as k=5 or mask=mask.npy")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Parses `NAME=SIZE`.
fn size(text: &str) -> std::result::Result<(String, OnnxSize), String> {
    // A name may itself contain the sign.
    let (name, size) = text.rsplit_once('=').ok_or("not NAME=SIZE, such as batch=1")?;
    Ok((name.to_owned(), size.parse()?))
}

/// Lists the nodes that were lowered, and the ops of the result.
fn list(report: &ConvertReport, printer: &Printer) -> Result<()> {
    let words = |counts: &BTreeMap<String, usize>| {
        counts.iter().map(|(op, n)| format!("{op} ×{n}")).collect::<Vec<_>>().join(", ")
    };
    if !report.lowered.is_empty() {
        printer.line(format!("nodes: {}", words(&report.lowered)));
    }
    if let Some(output) = &report.optimized.output {
        let model = Model::open(output)?;
        if let Some(function) = model.info().function(None) {
            printer.line(format!("ops: {}", words(&function.ops)));
        }
    }
    Ok(())
}

fn show(report: &ConvertReport, printer: &Printer) {
    let result = &report.optimized;
    if let Some(output) = &result.output {
        // Of a pipeline, the models in it become programs.
        let becomes = match report.model_type.starts_with("pipeline") {
            true => format!("{}, its networks as ML programs,", report.model_type),
            false if report.model_type == "onnx" => "ONNX → mlProgram".to_owned(),
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
