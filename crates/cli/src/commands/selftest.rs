//! `milwright selftest`

use milwright::{BackendReport, Candidate, Error, ErrorKind, Result, selftest};

use crate::common::Global;
use crate::printer::{self, Printer};
use crate::progress;

/// Runs the numeric cases of all ops on every backend of this machine.
///
/// The cases are part of the command: some 800 small programs, with results that NumPy, PyTorch and coremltools gave.
/// The report says which of them fail on which backend. A report of a machine that the authors do not have is welcome.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright selftest
  milwright selftest --backend coreml/ane --json > report.json

Exit code 3 says that a case failed.")]
pub struct Args {
    /// Only this backend, by its name in the report, such as cpu or coreml/gpu; may be repeated [default: all]
    #[arg(long = "backend", value_name = "NAME")]
    backends: Vec<String>,
    /// Only the cases whose name contains this, such as conv or tensor/concat
    #[arg(long, value_name = "WORD", default_value = "")]
    case: String,
}

/// The failures of a backend that are shown.
const SHOWN: usize = 20;

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let mut candidates = Candidate::all();
    if let Some(unknown) = args.backends.iter().find(|name| !candidates.iter().any(|c| c.name() == **name)) {
        let names: Vec<String> = candidates.iter().map(|c| c.name()).collect();
        let error = Error::new(ErrorKind::InvalidInput, format!("there is no backend `{unknown}`"));
        return Err(error.with_hint(format!("the backends are: {}", names.join(", "))));
    }
    candidates.retain(|c| args.backends.is_empty() || args.backends.contains(&c.name()));
    let bar = progress::bar("testing", 0);
    let options = global.load_options(None, 0);
    let report = selftest(&candidates, &args.case, &options.cancel, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let report = report?;
    if printer.is_json() {
        printer.json(&report);
    } else {
        let mut table = printer.table(&["backend", "passed", "failed", "not run", "time"]);
        for backend in &report.backends {
            table.add_row(row(backend));
        }
        printer::align_right(&mut table, &[1, 2, 3, 4]);
        printer.show(&table);
        report.backends.iter().for_each(|backend| details(backend, printer));
    }
    match report.backends.iter().map(|b| b.failed.len()).sum::<usize>() {
        0 => Ok(()),
        n => Err(Error::new(ErrorKind::Tolerance, format!("{} failed", printer::count(n, "case", "cases")))),
    }
}

fn row(backend: &BackendReport) -> Vec<String> {
    if backend.absent.is_some() {
        return [&backend.name, "–", "–", "–", "–"].map(str::to_owned).into();
    }
    let skipped: usize = backend.skipped.values().sum();
    let numbers = [backend.passed, backend.failed.len(), skipped].map(|n| n.to_string());
    let name = [backend.name.clone()];
    name.into_iter().chain(numbers).chain([printer::duration(backend.duration)]).collect()
}

fn details(backend: &BackendReport, printer: &Printer) {
    let name = &backend.name;
    if let Some(why) = &backend.absent {
        printer.line(format!("{name}: not tested: {why}"));
    }
    for (reason, n) in &backend.skipped {
        printer.line(format!("{name}: {n} not run: {reason}"));
    }
    for failure in backend.failed.iter().take(SHOWN) {
        printer.line(format!("{name}: {}: {}", failure.case, failure.message));
    }
    if backend.failed.len() > SHOWN {
        printer.line(format!("{name}: and {} more; --json lists them all", backend.failed.len() - SHOWN));
    }
}
