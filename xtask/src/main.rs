//! Development tasks: `cargo xtask TASK`.
#![expect(clippy::print_stderr, reason = "a command-line tool talks to the person who runs it")]

use std::process::ExitCode;

#[cfg_attr(not(feature = "codegen"), path = "codegen/disabled.rs")]
#[cfg_attr(feature = "codegen", path = "codegen/enabled.rs")]
mod codegen;

const USAGE: &str = "\
usage: cargo xtask TASK

tasks:
  codegen [--check]   regenerate crates/spec/src/proto from the published Core ML schema
                      (--check: only fail if the committed files differ)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.split_first() {
        Some((task, rest)) if task == "codegen" => codegen::run(rest),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
