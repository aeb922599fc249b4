//! `milwright cache`

use milwright::cache::{Options, Store};
use milwright::{Error, ErrorKind, Result};
use serde_json::json;

use crate::common::Global;
use crate::printer::{Printer, bytes, count};

/// Shows and clears the cache of compiled plans.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  milwright cache list
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
    /// Lists the plans, the last used first.
    List,
    /// Checks every plan; broken ones are removed, and rebuilt when they are needed.
    Verify,
    /// Removes every plan.
    Clear,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let folder = global.cache_folder()?;
    if let Action::Path = args.action {
        if printer.is_json() {
            printer.json(&json!({ "path": folder }));
        } else {
            printer.line(folder.display());
        }
        return Ok(());
    }
    let store = Store::open(&folder, Options::default())?;
    match args.action {
        Action::Path => {}
        Action::List => list(&store, printer)?,
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
                let plans = count(broken.len(), "plan was", "plans were");
                return Err(Error::new(ErrorKind::Io, format!("{plans} broken, and removed"))
                    .with_hint("they are compiled again when they are needed")
                    .at(folder));
            }
        }
        Action::Clear => {
            let cleared = store.clear()?;
            if printer.is_json() {
                printer.json(&json!({ "plans": cleared.entries, "bytes": cleared.bytes }));
            } else {
                let plans = count(cleared.entries, "plan", "plans");
                printer.line(format!("removed {plans}, {}", bytes(cleared.bytes)));
            }
        }
    }
    Ok(())
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
    let mut table = printer.table(&["model", "size", "created", "used", "key"]);
    for e in &entries {
        let key = e.key.to_string();
        let short = key.get(..12).unwrap_or(&key).to_owned();
        table.add_row(vec![e.meta.model().to_owned(), bytes(e.bytes), age(e.created), age(e.used), short]);
    }
    printer.show(&table);
    Ok(())
}
