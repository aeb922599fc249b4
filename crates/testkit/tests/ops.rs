//! Every numeric case in `ops/` on every engine, compiled: `ops/README.md` describes the cases, and
//! `cases::SUBJECTS` lists the engines and the ops that they do not support.
//!
//! `MILWRIGHT_CASE=scatter cargo test -p milwright-testkit --test ops` runs those whose path contains the word.
#![expect(clippy::disallowed_methods, reason = "the environment chooses cases")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{env, fs};

use milwright_testkit::cases::{self, Case, SUBJECTS};

#[test]
fn cases() {
    let chosen = env::var("MILWRIGHT_CASE").unwrap_or_default();
    for subject in SUBJECTS {
        let mut failures = Vec::new();
        let mut passed = 0;
        for (name, path) in cases::files() {
            if !name.contains(&chosen) {
                continue;
            }
            let run = || subject.check(&name, &Case::parse(&fs::read_to_string(&path).unwrap())?);
            let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("panicked".into()));
            match outcome {
                Err(message) => failures.push(format!("{name}: {message}")),
                Ok(()) => passed += 1,
            }
        }
        let engine = subject.engine.name();
        assert!(passed > 0 || !failures.is_empty(), "no case is named like `{chosen}`");
        let failed = failures.len();
        assert!(failures.is_empty(), "{engine}: {failed} failed, {passed} passed:\n{}", failures.join("\n"));
    }
}
