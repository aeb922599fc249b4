//! Every numeric case in `ops/` on the engine, compiled: `ops/README.md` describes the cases.
//!
//! A case of an op that the engine declares as not supported is passed over: the support matrix lists those.
//!
//! `MILWRIGHT_CASE=scatter cargo test -p milwright-testkit --test ops` runs those whose path contains the word.
#![expect(clippy::disallowed_methods, reason = "the environment chooses cases")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{env, fs};

use milwright_testkit::cases::{self, Case, OPTED_OUT};

#[test]
fn cases() {
    let chosen = env::var("MILWRIGHT_CASE").unwrap_or_default();
    let mut failures = Vec::new();
    let mut passed = 0;
    for (name, path) in cases::files() {
        if !name.contains(&chosen) {
            continue;
        }
        let run = || Case::parse(&fs::read_to_string(&path).unwrap())?.check();
        let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("panicked".into()));
        match outcome {
            Err(message) if message.contains(OPTED_OUT) => {}
            Err(message) => failures.push(format!("{name}: {message}")),
            Ok(()) => passed += 1,
        }
    }
    assert!(passed > 0 || !failures.is_empty(), "no case is named like `{chosen}`");
    assert!(failures.is_empty(), "{} failed, {passed} passed:\n{}", failures.len(), failures.join("\n"));
}
