//! Keeps what a search measures in a file, so that a later one goes on from there.
//!
//! A search is deterministic: with what it measured before at hand, it takes the same steps again, without running anything,
//! until it comes to what is not known yet.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::path::Choice;
use super::weights::Trial;
use crate::compare::{Part, Slice};
use crate::paths::stage;
use crate::{
    Comparison, Error, ErrorKind, InferenceRequest, Measure, Model, OutputDifference, Result, Role,
    SampleSource, Snr,
};

/// The first bytes of such a file. The number changes when the same settings give other measurements than before.
const MAGIC: &[u8] = b"milwright search 1\n";

/// How often the file is written.
const INTERVAL: Duration = Duration::from_secs(5);

/// The most bytes of a file that is read: a search writes some hundred bytes for each of its runs.
const MOST_BYTES: u64 = 1 << 28;

/// What measurements depend on.
pub(super) struct Of(blake3::Hasher);

impl Of {
    pub fn new(model: &Model) -> Of {
        let mut hasher = blake3::Hasher::new();
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes()).update(&model.digest());
        Of(hasher)
    }

    /// Adds samples.
    pub fn add(&mut self, what: &str, requests: &[InferenceRequest]) {
        self.part(what.as_bytes());
        for request in requests {
            for (name, tensor) in request.inputs() {
                self.part(name.as_bytes());
                self.part(
                    format!("{:?} {:?} {:?}", tensor.dtype(), tensor.shape(), tensor.strings()).as_bytes(),
                );
                self.part(tensor.bytes());
            }
        }
    }

    pub fn settings(mut self, settings: &str) -> [u8; 32] {
        self.part(settings.as_bytes());
        self.0.finalize().into()
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }
}

/// What was measured.
#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// Whether values stay in fp32, the weight, its form.
    forms: BTreeMap<(bool, usize, usize), Form>,
    /// Whether values stay in fp32, whether it ran on the first samples only, and the choice.
    runs: BTreeMap<(bool, bool, Choice), Run>,
}

#[derive(Serialize, Deserialize)]
struct Form {
    bytes: usize,
    local_db: f64,
    left: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Run {
    cost: f64,
    sets: usize,
    task: Option<f64>,
    outputs: Vec<Output>,
}

/// The part of an [`OutputDifference`] that searches look at.
#[derive(Serialize, Deserialize)]
struct Output {
    name: String,
    is_state: bool,
    measure: Measure,
    snr_db: Option<f64>,
    psnr_db: Option<f64>,
    kl: Option<f64>,
    agreement: Option<f64>,
    non_finite: usize,
    elements: usize,
    worst_set: Option<(usize, Option<f64>)>,
    worst_slice: Option<(usize, usize, Option<f64>)>,
    varying: Option<Option<f64>>,
    faults: Vec<String>,
    reason: Option<String>,
}

/// What was measured, and the file that has it.
pub(super) struct Journal {
    file: PathBuf,
    of: [u8; 32],
    known: Known,
    /// Whether values stay in fp32 now.
    keeps: bool,
    is_new: bool,
    saved: Instant,
}

impl Journal {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// The file is none of a search, or of another one.
    pub fn open(file: &Path, of: [u8; 32]) -> Result<Journal> {
        let journal = |known| Journal {
            file: file.to_owned(),
            of,
            known,
            keeps: false,
            is_new: false,
            saved: Instant::now(),
        };
        let opened = match std::fs::File::open(file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                // Finds out now whether it can be written.
                let mut journal = journal(Known::default());
                journal.is_new = true;
                journal.save()?;
                return Ok(journal);
            }
            opened => opened.map_err(|e| Error::io("read", file, e))?,
        };
        let mut bytes = Vec::new();
        opened.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|e| Error::io("read", file, e))?;
        let wrong =
            |what: &str, hint: &str| Error::new(ErrorKind::InvalidInput, what).with_hint(hint).at(file);
        let not_one = || {
            wrong(
                "it is not the state of a search",
                "name a file that does not exist, or one that a search wrote",
            )
        };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(not_one)?;
        let (theirs, rest) = rest.split_at_checked(32).ok_or_else(not_one)?;
        let (sum, body) = rest.split_at_checked(32).ok_or_else(not_one)?;
        if blake3::hash(body).as_bytes() != sum {
            return Err(wrong("the state of a search is damaged", "remove it, and search from the start"));
        }
        if theirs != of {
            return Err(wrong(
                "it is the state of a search with another model, other samples or other settings",
                "go on with the same ones (the tolerance and the size may differ), or name another file",
            ));
        }
        let known = postcard::from_bytes(body).map_err(|_| not_one())?;
        Ok(journal(known))
    }

    /// The same, for measurements with or without values that stay in fp32.
    pub fn of(mut self, keeps: bool) -> Journal {
        self.keeps = keeps;
        self
    }

    /// What is known of a weight in a form.
    pub fn form(&self, weight: usize, form: usize) -> Option<(Trial, Option<String>)> {
        let known = self.known.forms.get(&(self.keeps, weight, form))?;
        let trial = Trial { form, bytes: known.bytes, local_db: known.local_db, noise: None };
        Some((trial, known.left.clone()))
    }

    /// Adds a weight in a form.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add_form(&mut self, weight: usize, trial: &Trial, left: Option<String>) -> Result<()> {
        let form = Form { bytes: trial.bytes, local_db: trial.local_db, left };
        self.known.forms.insert((self.keeps, weight, trial.form), form);
        self.added()
    }

    /// What a run of a choice gave, and how many runs of the whole model it was worth.
    pub fn run(&self, choice: &Choice, on_few: bool) -> Option<(Comparison, f64)> {
        let run = self.known.runs.get(&(self.keeps, on_few, choice.clone()))?;
        let comparison = Comparison {
            function: String::new(),
            inputs: SampleSource::default(),
            sets: run.sets,
            fails_at: None,
            task: run.task,
            outputs: run.outputs.iter().map(Output::difference).collect(),
        };
        Some((comparison, run.cost))
    }

    /// Adds a run of a choice.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add_run(&mut self, choice: &Choice, on_few: bool, found: &Comparison, cost: f64) -> Result<()> {
        let outputs = found.outputs.iter().map(Output::of).collect();
        let run = Run { cost, sets: found.sets, task: found.task, outputs };
        self.known.runs.insert((self.keeps, on_few, choice.clone()), run);
        self.added()
    }

    fn added(&mut self) -> Result<()> {
        self.is_new = true;
        if self.saved.elapsed() < INTERVAL { Ok(()) } else { self.save() }
    }

    /// Writes the file, if anything is new.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&mut self) -> Result<()> {
        if !self.is_new {
            return Ok(());
        }
        let body =
            postcard::to_stdvec(&self.known).map_err(|e| Error::invalid(e.to_string()).at(&self.file))?;
        let staged = stage(&self.file, |out| {
            out.write_all(MAGIC)?;
            out.write_all(&self.of)?;
            out.write_all(blake3::hash(&body).as_bytes())?;
            out.write_all(&body)
        })?;
        staged.commit()?;
        (self.is_new, self.saved) = (false, Instant::now());
        Ok(())
    }
}

/// A search that ends with an error leaves what it measured.
impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.save() {
            tracing::debug!(%error, "the state of the search is not written");
        }
    }
}

impl Output {
    fn of(o: &OutputDifference) -> Output {
        Output {
            name: o.name.clone(),
            is_state: o.role == Role::State,
            measure: o.measure,
            snr_db: o.snr_db.decibels(),
            psnr_db: o.psnr_db.decibels(),
            kl: o.kl,
            agreement: o.agreement,
            non_finite: o.non_finite,
            elements: o.elements,
            worst_set: o.worst_set.map(|p| (p.index, p.snr_db.decibels())),
            worst_slice: o.worst_slice.map(|s| (s.axis, s.index, s.snr_db.decibels())),
            varying: o.varying_snr_db.map(Snr::decibels),
            faults: o.faults.clone(),
            reason: o.reason.clone(),
        }
    }

    fn difference(&self) -> OutputDifference {
        OutputDifference {
            name: self.name.clone(),
            role: if self.is_state { Role::State } else { Role::Output },
            measure: self.measure,
            snr_db: snr(self.snr_db),
            psnr_db: snr(self.psnr_db),
            kl: self.kl,
            max_abs: None,
            mean_abs: None,
            cosine: None,
            agreement: self.agreement,
            non_finite: self.non_finite,
            elements: self.elements,
            worst_set: self.worst_set.map(|(index, db)| Part { index, snr_db: snr(db) }),
            worst_slice: self.worst_slice.map(|(axis, index, db)| Slice { axis, index, snr_db: snr(db) }),
            varying_snr_db: self.varying.map(snr),
            constant: false,
            other_type: None,
            faults: self.faults.clone(),
            reason: self.reason.clone(),
        }
    }
}

fn snr(decibels: Option<f64>) -> Snr {
    match decibels {
        None => Snr::Unknown,
        Some(f64::INFINITY) => Snr::Equal,
        Some(db) => Snr::Decibels(db),
    }
}
