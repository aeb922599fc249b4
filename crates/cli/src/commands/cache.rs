//! `milwright cache`

use std::path::PathBuf;

use milwright::cache::{Cleared, Options, Store};
use milwright::{Error, ErrorKind, Result, Target};
use serde_json::json;

use crate::common::{self, Global};
use crate::printer::{Printer, bytes, count, duration};

/// Shows, fills and clears the cache of compiled models.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright cache list
  milwright cache prewarm model.mlpackage && milwright cache prune --max-mb 500
  milwright cache verify && echo whole
  milwright cache clear")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Prints the folder.
    Path,
    /// Lists the plans and compiled models, the last used first.
    List,
    /// Makes models ready, so that the next load is fast.
    Prewarm {
        /// .mlpackage or .mlmodelc folders, or .mlmodel files.
        #[arg(required = true)]
        models: Vec<PathBuf>,
    },
    /// Checks every entry; broken ones are removed, and rebuilt when they are needed.
    Verify,
    /// Removes the entries that were not used for longest, until the others take at most so much.
    Prune {
        /// Megabytes (millions of bytes) to keep.
        #[arg(long, value_name = "MB")]
        max_mb: u64,
    },
    /// Removes every entry that is not in use.
    Clear,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let folder = global.cache_folder()?;
    if let Action::Path = args.action {
        if printer.is_json() {
            printer.json(&json!({ "path": folder.display().to_string() }));
        } else {
            printer.line(folder.display());
        }
        return Ok(());
    }
    if let Action::Prewarm { models } = &args.action {
        return prewarm(models, global, printer);
    }
    let store = Store::open(&folder, Options::default())?;
    match args.action {
        Action::Path | Action::Prewarm { .. } => {}
        Action::List => list(&store, printer)?,
        Action::Prune { max_mb } => show_removed(store.prune(max_mb.saturating_mul(1_000_000))?, printer),
        Action::Verify => {
            let verified = store.verify()?;
            let broken: Vec<_> =
                verified.broken.iter().map(|(k, f)| (k.to_string(), f.to_string())).collect();
            if printer.is_json() {
                printer.json(&json!({ "whole": verified.whole, "broken": broken }));
            } else {
                printer.line(format!("{} whole, {} broken", verified.whole, broken.len()));
                broken.iter().for_each(|(key, fault)| printer.line(format!("{key}: {fault}")));
            }
            if !broken.is_empty() {
                let entries = count(broken.len(), "entry was", "entries were");
                return Err(Error::new(ErrorKind::Io, format!("{entries} broken, and removed"))
                    .with_hint("they are compiled again when they are needed")
                    .at(folder));
            }
        }
        Action::Clear => show_removed(store.clear()?, printer),
    }
    Ok(())
}

fn prewarm(models: &[PathBuf], global: &Global, printer: &Printer) -> Result<()> {
    let mut rows = Vec::new();
    for path in models {
        let model = common::open(path)?;
        let options = global.load_options(None, 0);
        if options.cache.is_none() {
            let error = Error::new(ErrorKind::Io, "there is no cache to fill");
            return Err(error.with_hint("name a folder with --cache-dir, and leave out --no-cache"));
        }
        let session = Target::Auto.backend()?.session(&model, &options)?;
        let loaded = session.loaded();
        if printer.is_json() {
            rows.push(json!({ "model": path.display().to_string(), "loaded": loaded }));
        } else {
            let took = duration(loaded.duration);
            printer.line(format!("{}: {} for {} in {took}", path.display(), loaded.plan, loaded.backend));
        }
    }
    if printer.is_json() {
        printer.json(&rows);
    }
    Ok(())
}

fn show_removed(cleared: Cleared, printer: &Printer) {
    if printer.is_json() {
        printer.json(&json!({ "entries": cleared.entries, "bytes": cleared.bytes }));
    } else {
        let entries = count(cleared.entries, "entry", "entries");
        printer.line(format!("removed {entries}, {}", bytes(cleared.bytes)));
    }
}

fn list(store: &Store, printer: &Printer) -> Result<()> {
    let mut entries = store.list()?;
    entries.sort_by_key(|e| std::cmp::Reverse(e.used));
    let age = |t: std::time::SystemTime| {
        let seconds = t.elapsed().unwrap_or_default().as_secs();
        match seconds {
            0..60 => format!("{seconds} s ago"),
            60..3600 => format!("{} min ago", seconds / 60),
            3600..86_400 => format!("{} h ago", seconds / 3600),
            _ => format!("{} days ago", seconds / 86_400),
        }
    };
    if printer.is_json() {
        let unix =
            |t: std::time::SystemTime| t.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let rows: Vec<_> = entries
            .iter()
            .map(|e| {
                json!({ "key": e.key.to_string(), "kind": e.meta.kind(), "model": e.meta.model(), "bytes": e.bytes,
                        "created": unix(e.created), "used": unix(e.used) })
            })
            .collect();
        printer.json(&rows);
        return Ok(());
    }
    let mut table = printer.table(&["model", "kind", "size", "created", "used", "key"]);
    for e in &entries {
        let key = e.key.to_string();
        let short = key.get(..12).unwrap_or(&key).to_owned();
        table.add_row(vec![
            e.meta.model().to_owned(),
            e.meta.kind().to_owned(),
            bytes(e.bytes),
            age(e.created),
            age(e.used),
            short,
        ]);
    }
    printer.show(&table);
    Ok(())
}
