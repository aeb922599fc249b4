//! The command `milwright`. One file per subcommand; this one declares them, prints errors and sets the exit code.
#![forbid(unsafe_code)]

mod commands;
mod common;
mod destination;
mod inputs;
mod interrupt;
mod log;
mod outputs;
mod printer;
mod progress;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use milwright::ErrorKind;

use commands::{
    bench, cache, compare, compile, convert, doctor, inspect, optimize, plan, profile, run, selftest,
};
use common::Global;
use printer::Printer;

const AFTER_HELP: &str = "\
Exit codes:
  0    success
  1    a file cannot be read or written, or the run failed
  2    the command line or an input is wrong
  3    a result is not within the tolerance, cannot be judged by it, or is broken: docs/proof.md
  4    the model is malformed, or uses something that is not supported
  130  interrupted by Ctrl-C, which cleans up; a second one ends at once
  143  ended by SIGTERM (129 by SIGHUP), in the same way

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
    Profile(profile::Args),
    Plan(plan::Args),
    Cache(cache::Args),
    Doctor(doctor::Args),
    Selftest(selftest::Args),
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
    // A worker ends with the process that started it.
    if !matches!(cli.command, Command::Worker) {
        interrupt::watch();
    }
    cli.global.watch_the_time();
    let printer = Printer::new(cli.global.json);
    let result = match cli.command {
        Command::Inspect(args) => inspect::run(&args, &printer),
        Command::Optimize(args) => optimize::run(&args, &cli.global, &printer),
        Command::Run(args) => run::run(&args, &cli.global, &printer),
        Command::Compare(args) => compare::run(&args, &cli.global, &printer),
        Command::Compile(args) => compile::run(&args, &printer),
        Command::Convert(args) => convert::run(&args, &cli.global, &printer),
        Command::Bench(args) => bench::run(&args, &cli.global, &printer),
        Command::Profile(args) => profile::run(&args, &cli.global, &printer),
        Command::Plan(args) => plan::run(&args, &cli.global, &printer),
        Command::Cache(args) => cache::run(&args, &cli.global, &printer),
        Command::Doctor(args) => doctor::run(&args, &cli.global, &printer),
        Command::Selftest(args) => selftest::run(&args, &cli.global, &printer),
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
        ErrorKind::InvalidInput | ErrorKind::Exists => 2,
        ErrorKind::Tolerance => 3,
        ErrorKind::Malformed | ErrorKind::Unsupported => 4,
        ErrorKind::Cancelled => interrupt::exit_code(),
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

    /// Options of other commands that messages name.
    const FOREIGN: &[&str] = &["local-dir"];

    /// What messages tell people to type is there: every `milwright COMMAND` and every `--option` in a string of the
    /// libraries and of the command.
    #[test]
    fn remedies_exist() {
        let command = Cli::command();
        let commands: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let mut options: Vec<&str> = Vec::from(["help", "version"]);
        let with_subcommands = |c: &clap::Command| c.get_subcommands().cloned().collect::<Vec<_>>();
        let all: Vec<clap::Command> = with_subcommands(&command)
            .into_iter()
            .flat_map(|c| with_subcommands(&c).into_iter().chain([c]))
            .chain([command.clone()])
            .collect();
        options.extend(all.iter().flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_long));

        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        // The development tools have commands of their own.
        let crates = crates.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let mut folders: Vec<_> =
            crates.filter(|path| !path.ends_with("testkit")).map(|path| path.join("src")).collect();
        let (mut seen, mut missing) = (0, Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                if path.extension().is_none_or(|e| e != "rs") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]").next().unwrap();
                // What strings are does not matter: comments should name what there is, too.
                for (at, _) in text.match_indices("`milwright ") {
                    let word: String =
                        text[at + 11..].chars().take_while(|c| c.is_ascii_lowercase()).collect();
                    if !commands.contains(&word.as_str()) {
                        missing.push(format!("{}: `milwright {word}`", path.display()));
                    }
                    seen += 1;
                }
                for literal in text.split('"').skip(1).step_by(2) {
                    for (at, _) in literal.match_indices("--") {
                        let word: String = literal[at + 2..]
                            .chars()
                            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                            .collect();
                        let others = FOREIGN.contains(&word.as_str()) || word.trim_matches('-').is_empty();
                        if !others && !options.contains(&word.as_str()) {
                            missing.push(format!("{}: --{word}", path.display()));
                        }
                        seen += 1;
                    }
                }
            }
        }
        assert!(missing.is_empty(), "{missing:#?}");
        assert!(seen > 20, "{seen}");
    }
}
