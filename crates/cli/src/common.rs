//! What several subcommands share: global flags, the cache, opening models.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use milwright::cache::{Options, Store};
use milwright::image::Fit;
use milwright::{
    Backend, Cancel, Comparison, Error, ErrorKind, InputFolder, Isolation, Launch, Limits, LoadOptions,
    MAX_THREADS, Model, OutputDifference, PART_MARGIN_DB, Process, Result, Role, SampleSource, Samples,
    Slice, Snr, Target, TargetOs, Tolerance,
};

use crate::interrupt;
use crate::printer::{self, Printer, count, number};

/// Flags that every subcommand takes.
#[derive(clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Print JSON, for machines.
    #[arg(long, global = true)]
    pub json: bool,
    /// The folder of compiled models [env: MILWRIGHT_CACHE_DIR] [default: the user's cache folder]
    #[arg(long, global = true, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Compile models anew, and keep none.
    #[arg(long, global = true)]
    no_cache: bool,
    /// Give up after this long, such as 30s [default: 10m per prediction]
    #[arg(long, global = true, value_name = "DURATION", value_parser = time)]
    timeout: Option<Duration>,
    /// What intermediate results may take, such as 16GB [default: 8GiB]
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    memory_limit: Option<u64>,
}

impl Global {
    /// The folder of compiled plans.
    pub fn cache_folder(&self) -> Result<PathBuf> {
        #[expect(clippy::disallowed_methods, reason = "the command reads the environment, no library does")]
        let from_environment = || std::env::var_os("MILWRIGHT_CACHE_DIR").filter(|d| !d.is_empty());
        let default = || dirs::cache_dir().map(|d| d.join("milwright"));
        self.cache_dir.clone().or_else(|| from_environment().map(PathBuf::from)).or_else(default).ok_or_else(
            || {
                Error::new(ErrorKind::Io, "there is no folder for caches: the home folder is not known")
                    .with_hint("name one with --cache-dir, or use --no-cache")
            },
        )
    }

    /// The store of compiled plans; `None` if it is not wanted. A cache that cannot be used is worth a warning, not an
    /// error.
    pub fn cache(&self) -> Option<Store> {
        if self.no_cache {
            return None;
        }
        let store = self.cache_folder().and_then(|folder| Ok(Store::open(folder, Options::default())?));
        let warn = |e: Error| {
            let hint = e.hint().map_or(String::new(), |hint| format!("; {hint}"));
            tracing::warn!("running without the cache: {e}{hint}");
        };
        store.map_err(warn).ok()
    }

    /// Starts the time that the whole command may take.
    pub fn watch_the_time(&self) {
        started();
        if let Some(timeout) = self.timeout {
            give_up_after(timeout);
        }
    }

    /// How to make models ready for a search that ends early with what it has: after the first Ctrl-C, or when so much of
    /// the time is over that the rest is needed to prove and write. Also what tells it to.
    pub fn search_options(&self, threads: usize) -> (LoadOptions, Cancel) {
        const SHARE: f64 = 0.75;
        let mut load = self.load_options(None, threads);
        let (mut stop, mut cancel) = (interrupt::cancel(), interrupt::ask_first());
        if let Some(timeout) = self.timeout {
            let at = |time: Duration| started().checked_add(time);
            stop = at(timeout.mul_f64(SHARE)).map_or(stop.clone(), |at| stop.with_deadline(at));
            cancel = at(timeout).map_or(cancel.clone(), |at| cancel.with_deadline(at));
        }
        load.cancel = cancel;
        (load, stop)
    }

    /// How to make models ready. Ctrl-C stops it.
    pub fn load_options(&self, function: Option<&str>, threads: usize) -> LoadOptions {
        let mut cancel = interrupt::cancel();
        let mut limits = Limits::default();
        if let Some(memory) = self.memory_limit {
            limits.memory = memory;
        }
        if let Some(timeout) = self.timeout {
            limits.prediction = None;
            if let Some(deadline) = started().checked_add(timeout) {
                cancel = cancel.with_deadline(deadline);
            }
        }
        LoadOptions {
            function: function.map(str::to_owned),
            threads,
            cache: self.cache(),
            cancel,
            limits,
            ..LoadOptions::default()
        }
    }
}

/// When the command began.
fn started() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Ends the process when it is long past the time: work is asked to stop between ops, and one op may be endless itself,
/// or a model may take long to open. What was being written is removed.
#[expect(
    clippy::exit,
    reason = "the main thread is in an op that does not end: nobody else can end the process"
)]
fn give_up_after(timeout: Duration) {
    /// How long work may take to stop.
    const GRACE: Duration = Duration::from_secs(10);
    std::thread::spawn(move || {
        std::thread::sleep(timeout.saturating_add(GRACE));
        milwright::abandon_writes();
        let message = "the time for all of it is over, and the work did not end";
        printer::error(&Error::new(ErrorKind::DeadlineExceeded, message));
        std::process::exit(1);
    });
}

/// Parses a duration.
fn time(text: &str) -> std::result::Result<Duration, String> {
    let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)];
    let seconds = with_unit(text, &units).filter(|s| *s > 0.0);
    seconds
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "not a duration, such as 30s, 5m or 2h".to_owned())
}

/// Parses a number of bytes.
pub fn size(text: &str) -> std::result::Result<u64, String> {
    let units = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
        ("kB", 1e3),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("B", 1.0),
        ("", 1.0),
    ];
    let bytes = with_unit(text, &units).filter(|n| *n >= 0.0 && *n < 1e18);
    bytes.map(|n| n as u64).ok_or_else(|| "not a size, such as 500MB or 16GB".to_owned())
}

/// A number with one of these units, the first that fits.
fn with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (number, unit) = units.iter().find_map(|(unit, x)| Some((text.strip_suffix(unit)?, x)))?;
    number.trim().parse().ok().filter(|x: &f64| x.is_finite()).map(|x| x * unit)
}

/// What runs models: in this process, or in one of its own.
pub fn backend(target: Target, isolated: bool) -> Result<Arc<dyn Backend>> {
    Ok(isolation(isolated)?.apply(target.backend()?.into()))
}

/// Where models run: in this process, or in one of their own.
pub fn isolation(isolated: bool) -> Result<Isolation> {
    if !isolated {
        return Ok(Isolation::None);
    }
    let program = std::env::current_exe().map_err(|e| Error::io("find", Path::new("milwright"), e))?;
    Ok(Isolation::Process(Process::new(Launch::new(program, ["worker"]))))
}

/// The targets, as users write them.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum TargetArg {
    Auto,
    Ane,
    Gpu,
    Cpu,
}

impl From<TargetArg> for Target {
    fn from(target: TargetArg) -> Target {
        match target {
            TargetArg::Auto => Target::Auto,
            TargetArg::Ane => Target::Ane,
            TargetArg::Gpu => Target::Gpu,
            TargetArg::Cpu => Target::Cpu,
        }
    }
}

/// The systems that a model is for, as users write them.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum TargetOsArg {
    /// macOS 12.
    Ios15,
    /// macOS 13.
    Ios16,
    /// macOS 14.
    Ios17,
    /// macOS 15.
    Ios18,
}

impl From<TargetOsArg> for TargetOs {
    fn from(target: TargetOsArg) -> TargetOs {
        match target {
            TargetOsArg::Ios15 => TargetOs::Ios15,
            TargetOsArg::Ios16 => TargetOs::Ios16,
            TargetOsArg::Ios17 => TargetOs::Ios17,
            TargetOsArg::Ios18 => TargetOs::Ios18,
        }
    }
}

/// How images of another size are made to fit, as users write it.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
pub enum FitArg {
    /// Scaled in proportion to cover the model's size, and cut off on both sides.
    #[default]
    Crop,
    /// Scaled in proportion to lie within the model's size, on black.
    Pad,
    /// Scaled out of proportion.
    Stretch,
    /// Not at all: another size is an error.
    Exact,
}

impl From<FitArg> for Fit {
    fn from(fit: FitArg) -> Fit {
        match fit {
            FitArg::Crop => Fit::Crop,
            FitArg::Pad => Fit::Pad,
            FitArg::Stretch => Fit::Stretch,
            FitArg::Exact => Fit::Exact,
        }
    }
}

/// Parses a number of threads.
pub fn threads(text: &str) -> std::result::Result<usize, String> {
    let threads = text.parse().ok().filter(|&n| n <= MAX_THREADS);
    threads.ok_or_else(|| format!("not a number from 0 to {MAX_THREADS}"))
}

/// Parses a number of decibels.
pub fn decibels(text: &str) -> std::result::Result<f64, String> {
    let snr_db = text.parse().ok().filter(|x: &f64| x.is_finite());
    snr_db.ok_or_else(|| "not a number of decibels, such as 20".to_owned())
}

/// Parses a tolerance that can be lifted.
pub fn tolerance(text: &str) -> std::result::Result<Tolerance, String> {
    if text == "none" {
        return Ok(Tolerance::None);
    }
    decibels(text).map(Tolerance::Decibels).map_err(|e| format!("{e}, nor `none`"))
}

/// Opens a model.
pub fn open(path: &Path) -> Result<Arc<Model>> {
    Model::open(path).map(Arc::new)
}

/// Inputs that are in a folder.
#[derive(clap::Args)]
pub struct InputArgs {
    /// A folder with inputs: an image or array for each run, or a folder with a file for each input [default: drawn to suit the
    /// model]
    #[arg(long, value_name = "DIR")]
    inputs: Option<PathBuf>,
    /// How an image of another size is made to fit.
    #[arg(long, value_enum, default_value_t)]
    fit: FitArg,
}

impl InputArgs {
    /// The folder, if one is given.
    pub fn folder(
        &self,
        model: &Model,
        function: Option<&str>,
        printer: &Printer,
    ) -> Result<Option<InputFolder>> {
        let Some(folder) = &self.inputs else { return Ok(None) };
        let folder = InputFolder::open(model, function, folder)?;
        note_ignored(&folder, printer);
        Ok(Some(folder))
    }

    /// Whether a folder is given.
    pub fn is_given(&self) -> bool {
        self.inputs.is_some()
    }

    /// The inputs in the folder, if one is given.
    pub fn read(&self, model: &Model, function: Option<&str>, printer: &Printer) -> Result<Option<Samples>> {
        let folder = self.folder(model, function, printer)?;
        folder.map(|folder| folder.read_all(self.fit())).transpose()
    }

    /// The inputs in the folder, or drawn.
    pub fn read_or_draw(
        &self,
        model: &Model,
        function: Option<&str>,
        seed: u64,
        count: usize,
        options: &LoadOptions,
        printer: &Printer,
    ) -> Result<Samples> {
        match self.read(model, function, printer)? {
            Some(samples) => Ok(samples),
            None => Samples::draw_within(model, function, seed, count, options),
        }
    }

    pub fn fit(&self) -> Fit {
        self.fit.into()
    }
}

/// Says what of a folder is no input.
fn note_ignored(folder: &InputFolder, printer: &Printer) {
    const SHOWN: usize = 3;
    let name = |p: &PathBuf| p.strip_prefix(folder.root()).unwrap_or(p).display().to_string();
    let names: Vec<String> = folder.ignored().iter().take(SHOWN).map(name).collect();
    if !names.is_empty() {
        let more = match folder.ignored().len() - names.len() {
            0 => String::new(),
            n => format!(", and {n} more"),
        };
        printer.note(format!("no inputs, and ignored: {}{more}", names.join(", ")));
    }
}

/// Says that a tolerance was met, or not, on drawn inputs only.
pub fn note_smoke_test(inputs: &SampleSource, printer: &Printer) {
    if inputs.is_drawn() {
        printer
            .note("note: a tolerance on drawn inputs is a smoke test; --inputs DIR proves it on real ones");
    }
}

/// Shows what was run, and how far outputs are apart; what the table has no room for is said below it.
pub fn show_comparison(comparison: &Comparison, what: &str, printer: &Printer) {
    let sets = count(comparison.sets, "set", "sets");
    match &comparison.inputs {
        SampleSource::Given { .. } => {
            printer.line(format!("{what}, on {sets} of inputs, {}:", comparison.inputs))
        }
        SampleSource::Drawn { .. } => {
            printer.line(format!("{what}, a smoke test on {sets} of inputs, {}:", comparison.inputs));
        }
    }
    show_differences(&comparison.outputs, printer);
}

fn show_differences(outputs: &[OutputDifference], printer: &Printer) {
    let mut table =
        printer.table(&["output", "SNR dB", "max error", "mean error", "cosine", "same class", "not finite"]);
    let dash = || "–".to_owned();
    for o in outputs {
        let state = if o.role == Role::State { " (state)" } else { "" };
        table.add_row(vec![
            format!("{}{state}", o.name),
            if o.snr_db == Snr::Unknown { dash() } else { o.snr_db.to_string() },
            o.max_abs.map_or_else(dash, number),
            o.mean_abs.map_or_else(dash, number),
            o.cosine.map_or_else(dash, |c| format!("{c:.6}")),
            o.agreement.map_or_else(dash, |a| format!("{:.1} %", 100.0 * a)),
            if o.non_finite == 0 { "none".into() } else { o.non_finite.to_string() },
        ]);
    }
    printer.show(&table);
    for o in outputs {
        for remark in remarks(o) {
            printer.line(format!("{}: {remark}", o.name));
        }
    }
}

/// The error is a tenth of the signal.
const POOR_DB: f64 = 20.0;

/// What is to be said of an output besides its figures.
fn remarks(o: &OutputDifference) -> Vec<String> {
    let mut remarks = o.faults.clone();
    remarks.extend(o.other_type.as_ref().map(|t| format!("it has elements of type {t} in the second model")));
    if let Some(reason) = o.reason.as_ref().filter(|_| o.faults.is_empty()) {
        remarks.push(format!("not judged: {reason}"));
    } else if o.constant {
        remarks.push("it does not depend on the inputs that were run".to_owned());
    }
    // Parts are worth a word where they are poor, and much worse than the whole.
    let is_poor = |part: Snr| match (part.decibels(), o.snr_db.decibels()) {
        (Some(part), Some(whole)) => part < (whole - PART_MARGIN_DB / 2.0).min(POOR_DB),
        _ => false,
    };
    if let Some(part) = o.worst_set.filter(|p| is_poor(p.snr_db)) {
        remarks.push(format!("{} dB on set {} of the inputs by itself", part.snr_db, part.index + 1));
    }
    if let Some(slice) = o.worst_slice.filter(|s| is_poor(s.snr_db)) {
        let Slice { axis, index, snr_db } = slice;
        remarks.push(format!("{snr_db} dB in slice {index} along dimension {axis} by itself"));
    }
    if let Some(varying) = o.varying_snr_db.filter(|&v| is_poor(v)) {
        remarks.push(format!("{varying} dB in what changes with the inputs"));
    }
    remarks
}
