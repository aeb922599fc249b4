//! The command as a user meets it. Each page in `tests/commands` is a Markdown file whose `console` blocks are run:
//!
//! ```console
//! $ milwright inspect missing.mlpackage
//! ! error: missing.mlpackage: cannot open it: No such file or directory (os error 2)
//! ? 1
//! ```
//!
//! `$ ` starts a command, which a shell runs. Below it are the lines that it printed to standard output, then those to
//! standard error, after `! `, and the exit code, after `? `, if it is not 0. `[..]` stands for any part of a line, a line
//! `...` for any lines. `SNAPSHOTS=overwrite cargo test -p milwright-cli` rewrites the pages; read the difference.
//!
//! A page has a folder of its own, with the files of `examples/`, the packages of `support/packages.rs` that it names
//! in `bad/`, the pipelines of the library's tests in `pipelines/`, the inputs of `support/inputs.rs` in `in/`, and the cache in `cache/`.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::Path;

use snapbox::{Assert, Data};

use support::Workplace;

macro_rules! pages {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        const PAGES: &[&str] = &[$(stringify!($name)),*];
    };
}

pages! {
    bad_inputs
    bad_models
    bench
    cache
    compare
    compile
    completions
    convert
    doctor
    help
    images
    inspect
    limits
    no_space
    optimize
    outputs
    pipelines
    plan
    profile
    run
    selftest
    standard_output
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/commands/{name}.md"));
    let page = fs::read_to_string(&path).unwrap();
    let workplace = Workplace::new();
    workplace.add_packages(&page);
    workplace.add_pipelines(&page);
    if page.contains("in/") {
        workplace.add_inputs(&page);
    }
    let transcript = transcript(&page, &workplace);
    // Paths are not normalized: a backslash is a backslash.
    let assert = Assert::new().action_env("SNAPSHOTS").normalize_paths(false);
    assert.eq(Data::text(transcript), Data::read_from(&path, None));
}

/// The page with what its commands print now.
fn transcript(page: &str, workplace: &Workplace) -> String {
    let mut transcript = String::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if inside && !line.starts_with("$ ") => continue,
            _ => {}
        }
        transcript += line;
        transcript += "\n";
        if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let output = workplace.shell(command).output().unwrap();
            transcript += &String::from_utf8_lossy(&output.stdout);
            if !transcript.ends_with('\n') {
                transcript += "[no final line break]\n";
            }
            for line in String::from_utf8_lossy(&output.stderr).lines() {
                transcript += format!("! {line}").trim_end();
                transcript += "\n";
            }
            match output.status.code() {
                Some(0) => {}
                Some(code) => transcript += &format!("? {code}\n"),
                None => transcript += &format!("? {}\n", output.status),
            }
        }
    }
    transcript
}

#[test]
fn every_page_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands");
    let pages = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = pages.map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    pages.sort();
    assert_eq!(pages, PAGES);
}
