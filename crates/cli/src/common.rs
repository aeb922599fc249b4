//! What several subcommands share: global flags, the cache, opening models.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use milwright::cache::{Options, Store};
use milwright::{
    Backend, Error, ErrorKind, Isolation, Launch, LoadOptions, MAX_THREADS, Model, OutputDifference, Process,
    Result, Samples, Target,
};

use crate::interrupt;
use crate::printer::{Printer, number};

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

    /// How to make models ready. From here on, Ctrl-C cleans up.
    pub fn load_options(&self, function: Option<&str>, threads: usize) -> LoadOptions {
        let cancel = interrupt::cancel();
        LoadOptions {
            function: function.map(str::to_owned),
            threads,
            cache: self.cache(),
            cancel,
            ..LoadOptions::default()
        }
    }
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

/// Parses a number of threads.
pub fn threads(text: &str) -> std::result::Result<usize, String> {
    let threads = text.parse().ok().filter(|&n| n <= MAX_THREADS);
    threads.ok_or_else(|| format!("not a number from 0 to {MAX_THREADS}"))
}

/// Parses a tolerance.
pub fn decibels(text: &str) -> std::result::Result<f64, String> {
    let snr_db = text.parse().ok().filter(|x: &f64| x.is_finite());
    snr_db.ok_or_else(|| "not a number of decibels, such as 20".to_owned())
}

/// Opens a model.
pub fn open(path: &Path) -> Result<Arc<Model>> {
    Model::open(path).map(Arc::new)
}

/// Inputs from a folder, or drawn.
pub fn samples(
    model: &Model,
    function: Option<&str>,
    folder: Option<&Path>,
    seed: u64,
    count: usize,
) -> Result<Samples> {
    match folder {
        Some(folder) => Samples::read(model, function, folder),
        None => Samples::draw(model, function, seed, count),
    }
}

/// Shows how far outputs are apart.
pub fn show_differences(outputs: &[OutputDifference], printer: &Printer) {
    let mut table =
        printer.table(&["output", "SNR dB", "max error", "mean error", "cosine", "same class", "not finite"]);
    for o in outputs {
        table.add_row(vec![
            o.name.clone(),
            o.snr_db.map_or("equal".into(), |s| format!("{s:.1}")),
            number(o.max_abs),
            number(o.mean_abs),
            format!("{:.6}", o.cosine),
            o.agreement.map_or("–".into(), |a| format!("{:.1} %", 100.0 * a)),
            if o.non_finite == 0 { "none".into() } else { o.non_finite.to_string() },
        ]);
    }
    printer.show(&table);
}
