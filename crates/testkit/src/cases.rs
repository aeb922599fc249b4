//! The numeric cases in `ops/`, which `ops/README.md` describes, and the engines that run them.

use std::fs;
use std::path::{Path, PathBuf};

use milwright_cpu::CpuEngine;
use milwright_mil::OpKind;
use milwright_mil::engine::Engine;

pub use milwright_mil::cases::{Case, Line, Outcome, Slack};

/// An engine that runs all cases.
pub struct Subject {
    /// The engine.
    pub engine: &'static dyn Engine,
    /// The ops whose cases must pass. Cases of other ops must not.
    pub supported: Supported,
}

/// The ops that an engine has code for.
pub enum Supported {
    /// All but these.
    AllBut(&'static [OpKind]),
    /// Only these: for an engine that has just begun.
    Only(&'static [OpKind]),
}

impl Supported {
    fn contains(&self, name: &str) -> bool {
        let among = |ops: &[OpKind]| ops.iter().any(|kind| kind.name() == name);
        match self {
            Supported::AllBut(ops) => !among(ops),
            Supported::Only(ops) => among(ops),
        }
    }
}

/// Every engine, with its exceptions.
pub const SUBJECTS: &[Subject] = &[Subject {
    engine: &CpuEngine,
    // `classify` is done by the library; `conv_quantized` is in no published file.
    supported: Supported::AllBut(&[OpKind::Classify, OpKind::ConvQuantized]),
}];

impl Subject {
    /// Runs a case that is named by its path, such as `tensor/concat/ios15.mil`.
    ///
    /// # Errors
    /// It fails; or its op is not supported although `supported` has it, or passes although it does not.
    pub fn check(&self, name: &str, case: &Case) -> Result<(), String> {
        let op = Path::new(name).parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        match (case.check(self.engine), self.supported.contains(&op)) {
            (Outcome::Passed(_), true) | (Outcome::Unsupported(_), false) => Ok(()),
            (Outcome::Passed(_), false) => {
                Err(format!("it passes, but SUBJECTS says that {} does not support it", self.engine.name()))
            }
            (Outcome::Unsupported(message) | Outcome::Failed(message), _) => Err(message),
        }
    }
}

/// Returns the files of all cases with their names under `ops/`, in order.
///
/// # Panics
/// They cannot be read.
pub fn files() -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "mil") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let name = |path: &Path| {
        let parts = path.strip_prefix(&root).unwrap().iter().map(|part| part.to_string_lossy());
        parts.collect::<Vec<_>>().join("/")
    };
    found.into_iter().map(|path| (name(&path), path)).collect()
}
