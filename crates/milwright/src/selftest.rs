//! Runs the numeric cases of all ops on whatever this machine has.
//!
//! The expected values come from independent references (NumPy, PyTorch, coremltools), so that a failure says which
//! backend is wrong. The report can be sent to somebody who has no such machine.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use milwright_mil::cases::{Case, Outcome, Slack};
use serde::Serialize;

use crate::backend::seconds;
use crate::{
    Cancel, Candidate, ComputeUnits, Error, ErrorKind, InferenceRequest, LoadOptions, Model, Result,
};

/// The cases of the repository, one after the other: made by `cargo xtask docs`.
const CASES: &[u8] = include_bytes!("selftest/cases.gz");

/// The largest difference that a candidate may have, beside the tolerance of each case.
fn slack(candidate: &Candidate) -> Slack {
    let relative = match candidate.compute_units {
        // Our own engine computes as the program declares.
        _ if candidate.backend.engine().is_some() => 0.0,
        // Core ML computes fp32 programs in fp32 on the CPU, in an order of its own.
        ComputeUnits::CpuOnly => 1e-3,
        // The GPU and the Neural Engine compute in fp16, which has 11 bits.
        _ => 2e-2,
    };
    Slack { relative }
}

/// What a self-test found.
#[derive(Clone, Debug, Serialize)]
pub struct SelfTestReport {
    /// The version of Milwright.
    pub version: &'static str,
    /// The operating system.
    pub system: &'static str,
    /// The processor's architecture.
    pub architecture: &'static str,
    /// The number of cases.
    pub cases: usize,
    /// What each backend did.
    pub backends: Vec<BackendReport>,
}

/// What one backend did in a self-test.
#[derive(Clone, Debug, Serialize)]
pub struct BackendReport {
    /// The candidate: the backend's name, and the hardware if that is restricted.
    pub name: String,
    /// Why it could not be tested; `None` if it was.
    pub absent: Option<String>,
    /// What it runs on, in words.
    pub hardware: String,
    /// The number of cases with the expected results.
    pub passed: usize,
    /// The cases with other results, or none.
    pub failed: Vec<Failure>,
    /// The number of cases that were not run, by the reason.
    pub skipped: BTreeMap<String, usize>,
    /// The case whose largest difference from the expected values is closest to what is allowed, and that difference.
    pub largest_difference: Option<(String, f64)>,
    /// The time that it took.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
}

/// A case that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The case: family, op and name.
    pub case: String,
    /// What is wrong.
    pub message: String,
}

impl SelfTestReport {
    /// Whether no case failed.
    pub fn is_ok(&self) -> bool {
        self.backends.iter().all(|backend| backend.failed.is_empty())
    }
}

/// Runs the numeric cases whose name contains `word` on each candidate that is available. `progress` gets the number of
/// runs that are done, and of all.
///
/// ```
/// use milwright::{Cancel, Target, selftest};
///
/// let report = selftest(&Target::Cpu.chain(), "tensor/concat", &Cancel::default(), &mut |_, _| ())?;
/// assert!(report.is_ok() && report.backends[0].passed > 0);
/// # Ok::<(), milwright::Error>(())
/// ```
///
/// # Errors
/// No case has such a name, or the test was cancelled. Failed cases are no error: the report lists them.
pub fn selftest(
    candidates: &[Candidate],
    word: &str,
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<SelfTestReport> {
    let mut cases = cases()?;
    cases.retain(|(name, _)| name.contains(word));
    if cases.is_empty() {
        return Err(Error::invalid(format!("no case is named like `{word}`"))
            .with_hint("the names are paths such as tensor/concat: a family, an op"));
    }
    let available = candidates.iter().filter(|c| c.backend.availability().available).count();
    let (mut done, total) = (0, available * cases.len());
    let mut backends = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let availability = candidate.backend.availability();
        let mut report = BackendReport {
            name: candidate.name(),
            absent: (!availability.available).then(|| availability.reason.clone()),
            hardware: availability.reason,
            passed: 0,
            failed: Vec::new(),
            skipped: BTreeMap::new(),
            largest_difference: None,
            duration: Duration::ZERO,
        };
        let start = Instant::now();
        for (name, case) in cases.iter().filter(|_| availability.available) {
            cancel.check()?;
            report.add(name, run(candidate, case));
            done += 1;
            progress(done, total);
        }
        report.duration = start.elapsed();
        backends.push(report);
    }
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let version = env!("CARGO_PKG_VERSION");
    Ok(SelfTestReport { version, system, architecture, cases: cases.len(), backends })
}

impl BackendReport {
    fn add(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Outcome::Passed(difference) => {
                self.passed += 1;
                if self.largest_difference.as_ref().is_none_or(|(_, largest)| difference > *largest) {
                    self.largest_difference = Some((name.to_owned(), difference));
                }
            }
            Outcome::Unsupported(reason) => *self.skipped.entry(reason).or_default() += 1,
            Outcome::Failed(message) => self.failed.push(Failure { case: name.to_owned(), message }),
        }
    }
}

/// Runs a case: on the engine beneath a backend if there is one, and otherwise as a model.
fn run(candidate: &Candidate, case: &Case) -> Outcome {
    let run = || match candidate.backend.engine() {
        Some(engine) => case.check(engine),
        None => match as_model(candidate, case) {
            Ok(outcome) => outcome,
            Err(e) => Outcome::Failed(e.to_string()),
        },
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Outcome::Failed("it panicked".into()))
}

/// Writes a case as a package, and has a backend load and run it.
fn as_model(candidate: &Candidate, case: &Case) -> Result<Outcome> {
    let model = match Model::from_program(case.program.clone()) {
        Ok(model) => model,
        Err(e) if e.kind() == ErrorKind::Unsupported => {
            return Ok(Outcome::Unsupported(
                "its inputs or outputs have a type that a model cannot have".into(),
            ));
        }
        Err(e) => return Err(e),
    };
    let folder = tempfile::tempdir().map_err(|e| Error::io("write into", &std::env::temp_dir(), e))?;
    let path = folder.path().join("case.mlpackage");
    model.save(&path)?;
    let outputs = predict(candidate, case, &path)?;
    // In the order of the expected ones, and in the types that the program declares.
    let ordered = case.expected.iter().filter_map(|line| {
        let (name, tensor) = outputs.iter().find(|(name, _)| *name == line.name)?;
        Some((name.clone(), tensor.converted(line.tensor.dtype()).unwrap_or_else(|| tensor.clone())))
    });
    Ok(case.judge(&ordered.collect::<Vec<_>>(), slack(candidate)))
}

fn predict(candidate: &Candidate, case: &Case, path: &Path) -> Result<Vec<(String, crate::Tensor)>> {
    let options = LoadOptions { compute_units: candidate.compute_units, ..LoadOptions::default() };
    let mut session = candidate.backend.session(&Arc::new(Model::open(path)?), &options)?;
    let input = |request: InferenceRequest, line: &milwright_mil::cases::Line| {
        request.input(&line.name, line.tensor.clone())
    };
    let request = case.inputs.iter().fold(InferenceRequest::new(), input);
    Ok(session.predict(&request)?.into_outputs())
}

/// Reads the cases: each begins with a line `=== NAME`.
fn cases() -> Result<Vec<(String, Case)>> {
    let damaged = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Runtime, format!("the cases: {e}"));
    let mut text = String::new();
    GzDecoder::new(CASES).read_to_string(&mut text).map_err(|e| damaged(&e))?;
    let parse = |part: &str| {
        let (name, text) = part.split_once('\n').unwrap_or((part, ""));
        Ok((name.to_owned(), Case::parse(text).map_err(|e| damaged(&format!("{name}: {e}")))?))
    };
    text.split("=== ").filter(|part| !part.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Availability, Backend, Cpu, LoadedModel, Target};

    #[test]
    fn all_cases_pass() {
        let report = selftest(&Target::Cpu.chain(), "", &Cancel::default(), &mut |_, _| ()).unwrap();
        assert!(report.is_ok(), "{:?}", report.backends[0].failed);
        assert!(report.backends[0].passed > 800);
        assert!(report.backends[0].skipped.is_empty());
    }

    /// A backend that shows no engine: its cases are written, opened and run as models.
    struct Opaque;

    impl Backend for Opaque {
        fn name(&self) -> &'static str {
            "opaque"
        }

        fn availability(&self) -> Availability {
            Cpu.availability()
        }

        fn load(&self, model: &Arc<Model>, options: &LoadOptions) -> Result<Arc<dyn LoadedModel>> {
            Cpu.load(model, options)
        }
    }

    #[test]
    fn cases_run_as_models() {
        let candidates = [Candidate { backend: Arc::new(Opaque), compute_units: ComputeUnits::CpuOnly }];
        let report = selftest(&candidates, "elementwise", &Cancel::default(), &mut |_, _| ()).unwrap();
        let [found] = &report.backends[..] else { panic!("one backend") };
        assert!(found.failed.is_empty(), "{:?}", found.failed);
        assert!(found.passed > 100 && found.skipped.values().sum::<usize>() > 0, "{found:?}");
    }

    #[test]
    fn what_is_absent_is_said() {
        let report = selftest(&Target::Auto.chain(), "relu6", &Cancel::default(), &mut |_, _| ()).unwrap();
        let own = report.backends.iter().find(|b| b.name == "cpu").unwrap();
        assert!(own.passed > 0 && own.absent.is_none());
        let error = selftest(&[], "no such case", &Cancel::default(), &mut |_, _| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
