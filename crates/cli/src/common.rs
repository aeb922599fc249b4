//! What several subcommands share: global flags, the cache, opening models.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use milwright::cache::{Options, Store};
use milwright::{Error, ErrorKind, LoadOptions, Model, OutputDifference, Result, Samples};

use crate::printer::{Printer, number};

/// Flags that every subcommand takes.
#[derive(clap::Args)]
pub struct Global {
    /// Print JSON, for machines.
    #[arg(long, global = true)]
    pub json: bool,
    /// The folder of compiled plans [default: the user's cache folder]
    #[arg(long, global = true, value_name = "DIR", env = "MILWRIGHT_CACHE_DIR", hide_env_values = true)]
    cache_dir: Option<PathBuf>,
    /// Compile plans anew, and keep none.
    #[arg(long, global = true)]
    no_cache: bool,
}

impl Global {
    /// The folder of compiled plans.
    pub fn cache_folder(&self) -> Result<PathBuf> {
        let default = || dirs::cache_dir().map(|d| d.join("milwright"));
        self.cache_dir.clone().or_else(default).ok_or_else(|| {
            Error::new(ErrorKind::Io, "there is no folder for caches: the home folder is not known")
                .with_hint("name one with --cache-dir, or use --no-cache")
        })
    }

    /// The store of compiled plans; `None` if it is not wanted. A cache that cannot be used is worth a warning, not an
    /// error.
    pub fn cache(&self) -> Option<Store> {
        if self.no_cache {
            return None;
        }
        let store = self.cache_folder().and_then(|folder| Ok(Store::open(folder, Options::default())?));
        store.map_err(|e| tracing::warn!("running without the cache: {e}")).ok()
    }

    /// How to make models ready.
    pub fn load_options(&self, function: Option<&str>, threads: usize) -> LoadOptions {
        LoadOptions {
            function: function.map(str::to_owned),
            threads,
            cache: self.cache(),
            ..Default::default()
        }
    }
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
