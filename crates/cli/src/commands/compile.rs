//! `milwright compile`

use std::path::PathBuf;

use milwright::{Container, Result, check_name};

use crate::common;
use crate::destination::Force;
use crate::printer::Printer;

/// Compiles a model as Core ML does on a Mac: to an .mlmodelc folder, which apps load without compiling.
///
/// The program is not changed; `milwright optimize` does that.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright compile model.mlpackage
  milwright compile model.mlpackage -o build/Model.mlmodelc")]
pub struct Args {
    /// An .mlpackage or .mlmodelc folder, or an .mlmodel file, with an ML program, or a pipeline of such and feature vectorizers.
    model: PathBuf,
    /// Where the result goes [default: NAME.mlmodelc in the current folder]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    force: Force,
}

pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let model = common::open(&args.model)?;
    let output = args.output.clone().unwrap_or_else(|| {
        let stem = args.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        PathBuf::from(format!("{stem}.mlmodelc"))
    });
    check_name(&output, Container::Mlmodelc)?;
    args.force.check_model(&output, Container::Mlmodelc, &args.model)?;
    model.compile_over(&output, args.force.existing()).map_err(Force::explain)?;
    if printer.is_json() {
        printer.json(&serde_json::json!({ "output": output.display().to_string() }));
    } else {
        printer.line(output.display().to_string());
    }
    Ok(())
}
