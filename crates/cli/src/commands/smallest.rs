//! What `milwright optimize --smallest` takes and shows.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use milwright::{Cancel, Error, ErrorKind, Files, Metric, Optimizer, Result, Search, SearchReport};

use super::task::{self, Script};
use crate::common;
use crate::destination::Force;
use crate::printer::{Printer, bytes, count};

/// Options of a search.
#[derive(clap::Args)]
#[command(next_help_heading = "Search")]
pub struct SearchArgs {
    /// Search for the smallest result within --tolerance, or the best one within --size: a form for each weight. Needs samples
    /// of real inputs (--inputs): some observe and compare, and the others prove the result. Ctrl-C ends the search with the
    /// best so far.
    #[arg(long, conflicts_with_all = ["config", "no_proof"])]
    pub smallest: bool,
    /// What --tolerance is about, in its unit: one of the names below, or a command that prints a number, larger for better
    /// results (`--metric "python3 score.py"`). docs/optimize.md says what it gets [default: snr]
    #[arg(long, requires = "smallest", value_name = "METRIC", value_parser = MetricParser)]
    metric: Option<MetricArg>,
    /// Keep what is measured in a file, and go on from there if it exists: after a crash, or with another tolerance or size.
    #[arg(long, requires = "smallest", value_name = "FILE")]
    resume: Option<PathBuf>,
    /// The most that the result may take, such as 20MB.
    #[arg(long, requires = "smallest", value_name = "SIZE", value_parser = common::size)]
    size: Option<u64>,
    /// Also draw all choices that were run, bytes by figures, as a picture in SVG.
    #[arg(long, requires = "smallest", value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// A metric that Milwright has, or a command.
#[derive(Clone)]
enum MetricArg {
    Listed(Metric),
    Command(Vec<String>),
}

/// Reads a [`MetricArg`]. Help and completions show the names of the list.
#[derive(Clone)]
struct MetricParser;

impl TypedValueParser for MetricParser {
    type Value = MetricArg;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> std::result::Result<MetricArg, clap::Error> {
        let parse = |text: String| match text.parse::<Metric>() {
            Ok(metric) => Ok(MetricArg::Listed(metric)),
            Err(unknown) => {
                task::command(&text).map(MetricArg::Command).map_err(|why| format!("{unknown}, and {why}"))
            }
        };
        StringValueParser::new().try_map(parse).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let value = |m: &Metric| PossibleValue::new(m.name()).help(m.doc());
        Some(Box::new(Metric::ALL.iter().map(value)))
    }
}

impl SearchArgs {
    /// Refuses to replace the picture, unless that is wanted, or to write one where nothing can be.
    pub fn check(&self, force: &Force) -> Result<()> {
        force.check_files(self.plot.clone())?;
        let folder = self.plot.as_deref().and_then(Path::parent).filter(|p| !p.as_os_str().is_empty());
        match folder.filter(|f| !f.is_dir()) {
            Some(folder) => Err(Error::new(ErrorKind::Io, "there is no such folder for the picture")
                .with_hint("make the folder, or name another one with --plot")
                .at(folder)),
            None => Ok(()),
        }
    }

    /// Sets the search, which `stop` ends.
    pub fn set(&self, optimizer: Optimizer, cancel: Cancel, stop: Cancel) -> Optimizer {
        let mut search = Search::new().stop(stop);
        match &self.metric {
            None => {}
            Some(MetricArg::Listed(metric)) => search = search.metric(*metric),
            Some(MetricArg::Command(words)) => {
                search = search.task(Arc::new(Script::new(words.clone(), cancel)))
            }
        }
        if let Some(file) = &self.resume {
            search = search.state(file);
        }
        if let Some(size) = self.size {
            search = search.max_bytes(size);
        }
        optimizer.smallest(search)
    }

    /// Draws the curve, if that is wanted.
    pub fn draw(&self, report: &SearchReport) -> Result<()> {
        let Some(path) = &self.plot else { return Ok(()) };
        let mut files = Files::default();
        files.text(path, &report.plot())?;
        files.commit()
    }
}

/// What was found, and why.
pub fn show(report: &SearchReport, printer: &Printer) {
    let metric = report.metric;
    let mut table = printer.table(&["weight", "shape", "form", "bits", "bytes", "alone", "why"]);
    for weight in &report.weights {
        table.add_row(vec![
            weight.name.clone(),
            format!("{:?}", weight.shape),
            weight.form.clone().unwrap_or_else(|| "as it is".to_owned()),
            format!("{:.1}", weight.bits),
            bytes(weight.bytes as u64),
            weight.alone.map_or("–".to_owned(), |f| metric.show(f)),
            weight.why.clone(),
        ]);
    }
    printer.line("\nweights:");
    printer.show(&table);
    printer.line("\nthe best of every size that was run:");
    let mut curve = printer.table(&["bytes", "bits", metric.name(), "form"]);
    for point in report.curve.iter().filter(|p| p.best) {
        let form = point.form.clone().unwrap_or_else(|| "one for each weight".to_owned());
        curve.add_row(vec![
            bytes(point.bytes),
            format!("{:.2}", point.bits),
            metric.show(point.figure),
            if point.chosen { format!("{form} (the result)") } else { form },
        ]);
    }
    printer.show(&curve);
    if let Some(samples) = &report.samples {
        printer.note(format!(
            "{} observed the inputs of weights, {} compared choices, {} proved the result",
            count(samples.observed, "sample", "samples"),
            samples.searched,
            samples.proved
        ));
        if let Some(note) = &samples.note {
            printer.note(format!("warning: {note}"));
        }
    }
    match (&report.uniform, &report.form) {
        (_, Some(form)) => {
            printer.note(format!("no choice of different forms was smaller than `{form}` for all weights"))
        }
        (Some(uniform), None) => printer.note(format!(
            "the best form for all weights within it is `{}`, {}",
            uniform.form,
            bytes(uniform.bytes)
        )),
        (None, None) => printer.note("no form for all weights is within it"),
    }
    if report.refused > 0 {
        printer.note(format!(
            "{} held on the samples of the search and not on those of the proof: the result was chosen with knowledge of these",
            count(report.refused, "smaller choice", "smaller choices")
        ));
    }
    if report.stopped {
        printer.note("the search was stopped early: this is the best that it found until then");
    }
    report.notes.iter().for_each(|note| printer.note(note.clone()));
}
