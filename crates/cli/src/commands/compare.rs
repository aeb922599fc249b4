//! `milwright compare`

use std::path::PathBuf;

use milwright::{Error, ErrorKind, Proof, Result, Samples, compare, compare_functions};

use crate::common::{self, Global, InputArgs};
use crate::printer::Printer;
use crate::progress;

/// Runs two models on the same inputs and compares every output.
///
/// Numbers are compared by signal to noise in dB; labels, indices and truth values by how many agree, of which a tolerance
/// asks for 90 % at 20 dB, 99 % at 40 dB, 99.9 % at 60 dB. A lost or new output, another shape or type, and NaN or
/// infinity in one of the two only fail at any tolerance.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright compare model.mlpackage small.mlpackage
  milwright compare a.mlpackage b.mlpackage --inputs samples/ --tolerance 40

Exit code 3 says that an output is not within the tolerance, cannot be judged by it, or fails at any.
In JSON `snr_db` is a number, \"equal\", or null, and then `reason` or `faults` say why.")]
pub struct Args {
    /// The original.
    a: PathBuf,
    /// The model that is compared with it.
    b: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    /// The least signal-to-noise ratio of every output, in dB.
    #[arg(long, value_name = "SNR_DB", allow_negative_numbers = true, value_parser = common::decibels)]
    tolerance: Option<f64>,
    /// Seed of drawn inputs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The function to run [default: all of them]
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = common::threads)]
    threads: usize,
}

/// Sets of inputs that are drawn where none are given.
const DRAWN: usize = 4;

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let (a, b) = (common::open(&args.a)?, common::open(&args.b)?);
    let function = args.function.as_deref();
    let options = global.load_options(function, args.threads);
    let bar = progress::bar("comparing", 0);
    let mut samples = |function: Option<&str>| {
        // What was given is for the default function.
        let is_default = function.is_none_or(|f| args.function.is_some() || f == a.info().default_function);
        let samples = match is_default {
            true => args.inputs.read_or_draw(&a, function, args.seed, DRAWN, &options, printer)?,
            false => Samples::draw_within(&a, function, args.seed, DRAWN, &options)?,
        };
        bar.inc_length(samples.requests.len() as u64);
        Ok(samples)
    };
    let proof = match function {
        Some(_) => compare(&a, &b, function, &samples(function)?, &options, &mut || bar.inc(1))
            .map(|one| Proof { functions: vec![one] }),
        None => compare_functions(&a, &b, &mut samples, &options, &mut || bar.inc(1)),
    };
    bar.finish_and_clear();
    let proof = proof?;
    if printer.is_json() {
        printer.json(&proof.rows());
    } else {
        let is_one = proof.functions.len() == 1;
        for comparison in &proof.functions {
            let name = if is_one { String::new() } else { format!(" of {}", comparison.function) };
            common::show_comparison(comparison, &format!("outputs{name}"), printer);
        }
    }
    if args.tolerance.is_some()
        && let Some(drawn) = proof.functions.iter().find(|c| c.inputs.is_drawn())
    {
        common::note_smoke_test(&drawn.inputs, printer);
    }
    let failures = proof.failures(args.tolerance);
    if failures.is_empty() {
        return Ok(());
    }
    let what = args.tolerance.map_or("not the same".to_owned(), |t| format!("not within {t} dB"));
    Err(Error::new(ErrorKind::Tolerance, format!("{what}: {}", failures.join("; "))).at(&args.b))
}
