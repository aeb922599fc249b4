//! The command `milwright`. One file per subcommand; this one declares them, prints errors and sets the exit code.
#![forbid(unsafe_code)]

mod commands;
mod common;
mod inputs;
mod interrupt;
mod log;
mod outputs;
mod printer;
mod progress;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use milwright::ErrorKind;

use commands::{bench, cache, compare, compile, convert, doctor, inspect, optimize, plan, run};
use common::Global;
use printer::Printer;

const AFTER_HELP: &str = "\
Exit codes:
  0    success
  1    a file cannot be read or written, or the run failed
  2    the command line or an input is wrong
  3    a result is not within the tolerance, cannot be judged by it, or is broken: docs/proof.md
  4    the model is malformed, or uses something that is not supported
  130  interrupted (Ctrl-C cleans up; a second one ends at once)

Results go to standard output, everything for people to standard error.
Set MILWRIGHT_LOG=debug to see what happens inside.";

/// Core ML models on any machine: inspect, optimize, prove, run.
#[derive(Parser)]
#[command(name = "milwright", version, after_help = AFTER_HELP, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Optimize(optimize::Args),
    Run(run::Args),
    Compare(compare::Args),
    Compile(compile::Args),
    Convert(convert::Args),
    Bench(bench::Args),
    Plan(plan::Args),
    Cache(cache::Args),
    Doctor(doctor::Args),
    /// Prints a completion script for a shell.
    #[command(
        after_help = "Example:\n  milwright completions bash > ~/.local/share/bash-completion/completions/milwright"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Runs models for another process of Milwright, which starts this by itself.
    #[command(hide = true)]
    Worker,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log::init();
    interrupt::outlive_file_limits();
    let printer = Printer::new(cli.global.json);
    let result = match cli.command {
        Command::Inspect(args) => inspect::run(&args, &printer),
        Command::Optimize(args) => optimize::run(&args, &cli.global, &printer),
        Command::Run(args) => run::run(&args, &cli.global, &printer),
        Command::Compare(args) => compare::run(&args, &cli.global, &printer),
        Command::Compile(args) => compile::run(&args, &printer),
        Command::Convert(args) => convert::run(&args, &cli.global, &printer),
        Command::Bench(args) => bench::run(&args, &cli.global, &printer),
        Command::Plan(args) => plan::run(&args, &cli.global, &printer),
        Command::Cache(args) => cache::run(&args, &cli.global, &printer),
        Command::Doctor(args) => doctor::run(&args, &cli.global, &printer),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "milwright", &mut script);
            printer.text(&String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Worker => milwright::worker::serve(),
    };
    let mut code = 0;
    for error in [result.err(), printer.finish().err()].into_iter().flatten() {
        printer::error(&error);
        code = code.max(exit_code(error.kind()));
    }
    ExitCode::from(code)
}

fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput => 2,
        ErrorKind::Tolerance => 3,
        ErrorKind::Malformed | ErrorKind::Unsupported => 4,
        ErrorKind::Cancelled => interrupt::EXIT_CODE,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
