//! The command is ended at any time: what was there is whole, and nothing is left over after the next run.
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::Workplace;

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
/// Of each kind.
const KILLS: u32 = 50;

#[test]
fn a_killed_optimization_leaves_the_old_package_or_the_new_one() {
    let workplace = Workplace::new();
    let schemes = ["int8", "palette2"];
    let optimize = |scheme: &str| {
        let mut command = workplace.milwright();
        command.args([
            "optimize",
            "digits.mlpackage",
            "-o",
            "out.mlpackage",
            "--force",
            "--quantize",
            scheme,
        ]);
        command
    };
    let (versions, duration) = versions(&workplace, "out.mlpackage", schemes.map(optimize));
    let mut killed = 0;
    for i in 0..KILLS {
        let status = end("KILL", &mut optimize(schemes[i as usize % 2]), duration * i / KILLS);
        killed += u32::from(status.signal() == Some(SIGKILL));
        assert!(versions.contains(&tree(&workplace.path("out.mlpackage"))), "kill {i}: {status}");
    }
    assert!(killed > 0);
    check_the_rest(&workplace, &mut optimize(schemes[0]), &["cache", "out.mlpackage"]);
}

#[test]
fn a_killed_run_leaves_old_files_or_new_ones() {
    let workplace = Workplace::new();
    let seeds = ["1", "2"];
    let run = |seed: &str| {
        let mut command = workplace.milwright();
        // Compiled anew, so that there is something to be killed in.
        command.args(["run", "digits.mlpackage", "-o", "out", "--force", "--no-cache", "--seed", seed]);
        command
    };
    let (versions, duration) = versions(&workplace, "out", seeds.map(run));
    let mut killed = 0;
    for i in 0..KILLS {
        let status = end("KILL", &mut run(seeds[i as usize % 2]), duration * i / KILLS);
        killed += u32::from(status.signal() == Some(SIGKILL));
        // Each file for itself: between two renames, one is new and the other old.
        for (name, content) in tree(&workplace.path("out")).iter().filter(|(name, _)| !name.contains("/.")) {
            assert!(versions.iter().any(|v| v.get(name) == Some(content)), "kill {i}: {name}");
        }
    }
    assert!(killed > 0);
    check_the_rest(&workplace, &mut run(seeds[0]), &["out"]);
    assert!(versions.contains(&tree(&workplace.path("out"))), "a temporary file is left");
}

#[test]
fn a_run_that_fills_the_cache_may_be_killed() {
    let workplace = Workplace::new();
    let run = || {
        let mut command = workplace.milwright();
        command.args(["run", "digits.mlpackage"]);
        command
    };
    let start = Instant::now();
    assert!(run().output().unwrap().status.success());
    let duration = start.elapsed();
    for i in 0..KILLS {
        for plan in fs::read_dir(workplace.path("cache")).unwrap() {
            let plan = plan.unwrap().path();
            if plan.extension().is_some_and(|e| e == "mwc") {
                fs::remove_file(plan).unwrap();
            }
        }
        end("KILL", &mut run(), duration * i / KILLS);
        let verified = workplace.milwright().args(["cache", "verify"]).output().unwrap();
        assert!(verified.status.success(), "kill {i}: {}", String::from_utf8_lossy(&verified.stdout));
    }
    check_the_rest(&workplace, &mut run(), &["cache"]);
}

#[test]
fn an_interrupted_optimization_cleans_up() {
    let workplace = Workplace::new();
    let schemes = ["int8", "palette2"];
    let optimize = |scheme: &str| {
        let mut command = workplace.milwright();
        command.args(["optimize", "digits.mlpackage", "-o", "out.mlpackage", "--force", "--no-cache"]);
        command.args(["--quantize", scheme]);
        command
    };
    let (versions, duration) = versions(&workplace, "out.mlpackage", schemes.map(optimize));
    let before = workplace.names("");
    let mut interrupted = 0;
    for i in 0..KILLS {
        let old = tree(&workplace.path("out.mlpackage"));
        let signal = ["INT", "TERM"][i as usize % 2];
        let status = end(signal, &mut optimize(schemes[i as usize % 2]), duration * i / KILLS);
        let new = tree(&workplace.path("out.mlpackage"));
        assert_eq!(workplace.names(""), before, "{signal} {i}: {status}");
        match status.code() {
            Some(0) => assert!(versions.contains(&new)),
            Some(code) => {
                interrupted += 1;
                let expected = if signal == "INT" { 130 } else { 143 };
                assert_eq!((code, new), (expected, old), "{signal} {i}");
            }
            // So early that it had not begun to write.
            None => assert_eq!(new, old, "{signal} {i}: {status}"),
        }
    }
    assert!(interrupted > 0);
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let workplace = Workplace::new();
    let mut child = workplace
        .milwright()
        .args(["bench", "digits.mlpackage", "--seconds", "3600"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(100));
    send("INT", child.id());
    send("INT", child.id());
    let status = child.wait().unwrap();
    assert!(status.code() == Some(130) || status.signal() == Some(SIGINT), "{status}");
}

#[test]
fn the_first_signal_ends_a_step_that_takes_long() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let workplace = Workplace::new();
        let mut child = workplace
            .milwright()
            .args(["bench", "digits.mlpackage", "--seconds", "3600"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(500));
        send(signal, child.id());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
    }
}

/// What two commands write to `out`, one after the other, and how long the second took.
fn versions(workplace: &Workplace, out: &str, commands: [Command; 2]) -> ([Tree; 2], Duration) {
    let mut duration = Duration::ZERO;
    let versions = commands.map(|mut command| {
        let start = Instant::now();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        duration = start.elapsed();
        tree(&workplace.path(out))
    });
    (versions, duration)
}

/// Starts a command, sends it a signal after a while, and waits for its end.
fn end(signal: &str, command: &mut Command, after: Duration) -> ExitStatus {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(after);
    send(signal, child.id());
    child.wait().unwrap()
}

fn send(signal: &str, process: u32) {
    // It may be gone already.
    let kill = format!("kill -{signal} {process} 2> /dev/null");
    Command::new("/bin/sh").args(["-c", &kill]).status().unwrap();
}

/// After a last run that is left alone, the folder has the examples and `made`, and the cache is whole.
fn check_the_rest(workplace: &Workplace, last: &mut Command, made: &[&str]) {
    let output = last.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut expected = ["digits.mlpackage", "digits_test_x.npy", "digits_test_y.npy"].to_vec();
    expected.extend(made);
    expected.sort_unstable();
    assert_eq!(workplace.names(""), expected);
    let cached = workplace.names("cache");
    assert!(cached.iter().all(|name| name.ends_with(".mwc")), "{cached:?}");
    if made.contains(&"cache") {
        let verified = workplace.milwright().args(["cache", "verify"]).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    }
}

/// The content of every file in a folder.
type Tree = BTreeMap<String, Vec<u8>>;

fn tree(folder: &Path) -> Tree {
    let mut files = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                files.insert(format!("/{name}"), fs::read(&path).unwrap());
            }
        }
    }
    files
}
