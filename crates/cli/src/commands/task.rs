//! Asks a command what it makes of results, for `milwright optimize --smallest --metric COMMAND`.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use milwright::{Cancel, Error, ErrorKind, MetricTask, Result, TaskResult, Tensor, npy};
use serde_json::json;

use crate::destination::FileNames;

/// How long the command may take for one answer.
const LIMIT: Duration = Duration::from_secs(600);

/// How often it is looked whether it has ended.
const INTERVAL: Duration = Duration::from_millis(5);

/// The most bytes of what it prints that are kept.
const MOST_PRINTED: u64 = 1 << 20;

/// The words of a command, the first of which is a program.
///
/// # Errors
/// There is no such program; the text says so.
pub fn command(text: &str) -> std::result::Result<Vec<String>, String> {
    // A path may have spaces.
    let words = match Path::new(text).is_file() {
        true => vec![text.to_owned()],
        false => text.split_whitespace().map(str::to_owned).collect(),
    };
    let Some(program) = words.first() else { return Err("an empty text is no command".to_owned()) };
    let is_path = program.contains(std::path::is_separator);
    let is_there = if is_path { Path::new(program).is_file() } else { is_in_path(program) };
    if is_there {
        return Ok(words);
    }
    if !is_path && Path::new(program).is_file() {
        return Err(format!("the file `{program}` is not in a folder of PATH: write ./{program}"));
    }
    Err(format!("there is no command `{program}`"))
}

/// Whether a folder of PATH has the program.
#[expect(clippy::disallowed_methods, reason = "the command finds programs as a shell does")]
fn is_in_path(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = |folder: std::path::PathBuf| {
        folder.join(program).is_file()
            || folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX)).is_file()
    };
    std::env::split_paths(&folders).any(found)
}

/// A command that prints a number for results in a folder.
#[derive(Debug)]
pub struct Script {
    words: Vec<String>,
    cancel: Cancel,
}

impl Script {
    pub fn new(words: Vec<String>, cancel: Cancel) -> Script {
        Script { words, cancel }
    }

    fn wrong(&self, what: impl std::fmt::Display, hint: &str) -> Error {
        Error::new(
            ErrorKind::InvalidInput,
            format!("the command of --metric, `{}`, {what}", self.words.join(" ")),
        )
        .with_hint(hint)
    }

    /// Waits for its end, which a cancelled search does not.
    fn wait(&self, child: &mut Child) -> Result<std::process::ExitStatus> {
        let start = Instant::now();
        loop {
            let ended =
                child.try_wait().map_err(|e| self.wrong(format!("cannot be waited for: {e}"), HINT))?;
            if let Some(status) = ended {
                return Ok(status);
            }
            let is_late = start.elapsed() > LIMIT;
            if is_late || self.cancel.is_cancelled() {
                // It may have ended by itself meanwhile.
                child.kill().and_then(|()| child.wait().map(drop)).ok();
                return Err(match is_late {
                    true => self.wrong(
                        format!("took more than {} s for one answer", LIMIT.as_secs()),
                        "give fewer samples, or a command that is faster",
                    ),
                    false => Error::new(ErrorKind::Cancelled, "cancelled"),
                });
            }
            thread::sleep(INTERVAL);
        }
    }
}

const HINT: &str =
    "it gets a folder with results, and prints a number, larger for better ones: docs/optimize.md";

impl MetricTask for Script {
    fn measure(&self, results: &[TaskResult<'_>]) -> Result<f64> {
        let io = |e: io::Error| Error::io("write results into", &std::env::temp_dir(), e);
        let folder = tempfile::Builder::new().prefix("milwright-metric-").tempdir().map_err(io)?;
        write(folder.path(), results).map_err(io)?;
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| {
            let hint =
                "it has to be executable: chmod +x FILE, or name the interpreter: --metric \"python3 FILE\"";
            self.wrong(format!("does not start: {e}"), hint)
        })?;
        // Both are read while it runs, so that it does not wait for a reader.
        let read = |from: Option<Box<dyn Read + Send>>| {
            thread::spawn(move || {
                let mut text = Vec::new();
                if let Some(mut from) = from {
                    // What was read before an error counts.
                    (&mut from).take(MOST_PRINTED).read_to_end(&mut text).ok();
                    io::copy(&mut from, &mut io::sink()).ok();
                }
                String::from_utf8_lossy(&text).into_owned()
            })
        };
        let printed = read(child.stdout.take().map(|s| Box::new(s) as _));
        let errors = read(child.stderr.take().map(|s| Box::new(s) as _));
        let status = self.wait(&mut child)?;
        let (printed, errors) = (printed.join().unwrap_or_default(), errors.join().unwrap_or_default());
        let last = |text: &str| text.lines().rev().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned);
        if !status.success() {
            let said = last(&errors).or(last(&printed)).map_or(String::new(), |said| format!(": {said}"));
            return Err(self.wrong(format!("failed ({status}){said}"), HINT));
        }
        let Some(line) = last(&printed) else { return Err(self.wrong("printed nothing", HINT)) };
        match line.parse::<f64>() {
            Ok(figure) if !figure.is_nan() => Ok(figure),
            _ => {
                let line: String = line.chars().take(80).collect();
                Err(self.wrong(format!("printed `{line}` at last, which is no number"), HINT))
            }
        }
    }
}

/// A folder for each sample, with its inputs, what the original gives and what the other model gives; and a list of them.
fn write(folder: &Path, results: &[TaskResult<'_>]) -> io::Result<()> {
    let mut list = Vec::new();
    for (at, result) in results.iter().enumerate() {
        let name = format!("{at:04}");
        let mut files = serde_json::Map::new();
        for (input, _) in result.request.inputs() {
            if let Some(file) = result.request.file(input) {
                let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
                files.insert(input.clone(), json!(file.to_string_lossy()));
            }
        }
        all(&folder.join(&name).join("inputs"), result.request.inputs())?;
        all(&folder.join(&name).join("expected"), result.expected.outputs())?;
        all(&folder.join(&name).join("found"), result.found.outputs())?;
        list.push(json!({ "folder": name, "files": files }));
    }
    std::fs::write(folder.join("samples.json"), serde_json::to_vec(&list)?)
}

fn all(folder: &Path, tensors: &[(String, Tensor)]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut names = FileNames::default();
    for (name, tensor) in tensors {
        let mut out = BufWriter::new(File::create(folder.join(format!("{}.npy", names.file(name))))?);
        npy::write_to(&mut out, tensor)?;
        io::Write::flush(&mut out)?;
    }
    Ok(())
}
