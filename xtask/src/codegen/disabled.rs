//! Stands in for the code generator in builds without it: builds and runs the one that has it.

use std::process::Command;

/// Runs this same task in a build that has the `codegen` feature.
pub fn run(check: bool) -> Result<(), String> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "xtask", "--features", "codegen", "--", "codegen"])
        .args(check.then_some("--check"))
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("codegen failed: {status}")) }
}
