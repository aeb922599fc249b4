//! Development tasks: `cargo xtask TASK`. One file per task.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to the person who runs it"
)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod circles;
#[cfg_attr(not(feature = "codegen"), path = "codegen/disabled.rs")]
#[cfg_attr(feature = "codegen", path = "codegen/enabled.rs")]
mod codegen;
mod docs;
mod layout;
mod new_op;
mod tidy;

/// Development tasks of Milwright.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Regenerate the messages of Core ML and ONNX, in crates/formats, from the published schemas
    Codegen {
        /// Only fail if the committed files differ
        #[arg(long)]
        check: bool,
    },
    /// Write what docs say about ops and quantizations from their lists, and pack the cases of `milwright selftest`
    Docs {
        /// Only fail if the committed pages are out of date
        #[arg(long)]
        check: bool,
    },
    /// Write the files of a new op, and its lines in the lists
    NewOp {
        /// Its family and its name in MIL, such as tensor/tile
        op: String,
        /// The oldest opset that has it
        #[arg(long, default_value = "ios18")]
        since: String,
    },
    /// Check the rules that no compiler knows: who may depend on whom, unsafe code, file lengths
    Tidy,
    /// Only write the tables of messages, layout.rs beside the generated code
    Layout,
}

fn main() -> ExitCode {
    let result = match Args::parse().task {
        Task::Codegen { check } => {
            codegen::run(check).and_then(|()| layout::run(&root(), check)).map_err(Into::into)
        }
        Task::Docs { check } => docs::run(&root(), check),
        Task::NewOp { op, since } => new_op::run(&root(), &op, &since),
        Task::Tidy => tidy::run(&root()),
        Task::Layout => layout::run(&root(), false).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The result of a task. Its error is for developers.
type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Returns the root of the repository.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
