//! `milwright doctor`

use milwright::{CoreMl, Device, Result, backends};
use serde_json::json;

use crate::common::Global;
use crate::printer::Printer;

/// Shows what this machine offers: the system, CPU features, backends, and why each is (not) available.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  milwright doctor --json")]
pub struct Args {}

pub fn run(_args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let folder = global.cache_folder();
    let cache = match (&folder, global.cache()) {
        (Ok(folder), Some(_)) => format!("{}", folder.display()),
        (Ok(folder), None) => format!("{} (not usable)", folder.display()),
        (Err(e), _) => e.to_string(),
    };
    // Where Core ML is too old to say, the table below does for it.
    let devices = CoreMl.devices().unwrap_or_default();
    let backends: Vec<_> = backends().iter().map(|b| (b.name(), b.availability())).collect();
    if printer.is_json() {
        let backends: Vec<_> = backends
            .iter()
            .map(|(name, a)| json!({ "name": name, "available": a.available, "reason": a.reason }))
            .collect();
        printer.json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "system": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
            "cores": cores,
            "cache": cache,
            "backends": backends,
            "devices": devices.iter().map(device).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    printer.line(format!(
        "milwright {} on {} {}, {cores} cores",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    ));
    printer.line(format!("cache: {cache}"));
    printer.line("");
    let mut table = printer.table(&["backend", "available", "why"]);
    for (name, a) in backends {
        table.add_row(vec![name.to_owned(), if a.available { "yes" } else { "no" }.to_owned(), a.reason]);
    }
    printer.show(&table);
    if !devices.is_empty() {
        let devices: Vec<String> = devices.iter().map(device).collect();
        printer.line(format!("Core ML can use: {}", devices.join(", ")));
    }
    Ok(())
}

fn device(device: &Device) -> String {
    match device {
        Device::NeuralEngine { cores } => format!("ane ({cores} cores)"),
        device => super::plan::name(device),
    }
}
