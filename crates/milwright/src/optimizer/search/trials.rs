//! Compresses weights in every form, and runs choices of them.

mod proof;

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::path::Path as FilePath;
use std::sync::Arc;

use milwright_mil::{Program, verify};
use milwright_optimize::{Compressed, Compression, Config, ObservedInputs, compress_again};

use super::journal::Journal;
use super::metric::Metric;
use super::path::{Choice, Path, Point};
use super::stages::Stages;
use super::weights::{Trial, Weight, estimate, probed};
use crate::optimizer::parts::Source;
use crate::optimizer::spill::Spill;
use crate::optimizer::{Observations, Optimizer, Progress, broken, check_raised};
use crate::proof::Expected;
use crate::{Cancel, Comparison, Error, ErrorKind, Model, Result};

pub(super) use proof::Proved;

/// The samples on which each weight is measured by itself.
pub(super) const ISOLATED: usize = 8;

/// The places of the path that are run for the curve, besides those that the search itself runs.
const CURVE: usize = 12;

/// The most steps beyond the path that are run.
const MOST_STEPS: usize = 48;

/// How many forms that are the same for all weights are run on all samples, of those that hold.
const MOST_UNIFORM: usize = 3;

/// The runs of the whole model that a search may take for each weight, and for a model of few weights. It ends with what
/// it has when they are spent.
const RUNS_FOR_WEIGHT: f64 = 20.0;
const LEAST_RUNS: f64 = 600.0;

/// What a search is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    pub metric: Metric,
    pub tolerance: Option<f64>,
    pub max_bytes: Option<u64>,
}

/// A choice that was run on all samples of the search.
pub(super) struct Tried {
    pub choice: Choice,
    pub bytes: u64,
    pub comparison: Comparison,
}

pub(super) struct Trials<'a> {
    settings: &'a Optimizer,
    pub goal: Goal,
    source: &'a Source,
    inputs: &'a [ObservedInputs],
    pub forms: Vec<Compression>,
    /// The model with nothing compressed.
    pub base: Arc<Model>,
    programs: Vec<Program>,
    known: Compressed,
    spill: Spill<'a>,
    _scratch: tempfile::TempDir,
    pub weights: Vec<Weight>,
    /// Bytes of the model beside the weights, about.
    rest: u64,
    stop: Cancel,
    expected: Option<Expected>,
    few: Option<Expected>,
    pub tried: Vec<Tried>,
    /// Choices that ran on the first samples only.
    pub screened: Vec<Tried>,
    /// The program in stages, if it can be cut.
    stages: Option<Stages>,
    places: HashMap<Choice, usize>,
    path: Option<Path>,
    /// The tolerance on the samples of the search: the one that is asked for, or a stricter one.
    searched: Option<f64>,
    best: Option<Choice>,
    /// Predictions of compressed models, in runs of the whole model.
    pub runs: f64,
    pub notes: Vec<String>,
    /// What was measured before, and is kept for a later search.
    pub journal: Option<Journal>,
}

impl<'a> Trials<'a> {
    #[expect(clippy::too_many_arguments, reason = "it is called once, with what the search has at hand")]
    pub fn new(
        settings: &'a Optimizer,
        goal: Goal,
        source: &'a Source,
        observed: &[Observations],
        inputs: &'a [ObservedInputs],
        forms: Vec<Compression>,
        output: Option<&FilePath>,
        stop: Cancel,
    ) -> Result<Trials<'a>> {
        let scratch = tempfile::tempdir();
        let scratch = scratch.map_err(|e| Error::io("write into", &std::env::temp_dir(), e))?;
        let destination = output.map_or_else(|| scratch.path().join("result.mlpackage"), ToOwned::to_owned);
        let model = &source.model;
        let mut spill = Spill::create(&destination, model.package(), settings.load.cancel.clone())?;
        let nothing = ObservedInputs::new();
        let mut programs = Vec::new();
        for (part, observed) in source.parts.iter().zip(observed) {
            let (program, _) = settings.rewrite(model, part, observed, &nothing, &mut spill, &mut |_| ())?;
            programs.push(program);
        }
        let base = model_of(source, &programs)?;
        let constants = |programs: &mut dyn Iterator<Item = &Program>| {
            let mut seen = HashSet::new();
            let mut bytes = 0;
            for function in programs.flat_map(|p| p.functions.values()) {
                for op in function.walk() {
                    let value = function[op].outputs.first().and_then(|&v| function.const_value(v));
                    if let Some(tensor) = value.and_then(|v| v.as_tensor())
                        && seen.insert((tensor.bytes().as_ptr().addr(), tensor.bytes().len()))
                    {
                        bytes += tensor.bytes().len() as u64;
                    }
                }
            }
            bytes
        };
        let before = constants(&mut source.parts.iter().map(|p| &*p.program));
        let after = constants(&mut programs.iter());
        let mut trials = Trials {
            settings,
            goal,
            source,
            inputs,
            forms,
            base,
            programs,
            known: Compressed::default(),
            spill,
            _scratch: scratch,
            weights: Vec::new(),
            rest: 0,
            stop,
            expected: None,
            few: None,
            tried: Vec::new(),
            screened: Vec::new(),
            stages: None,
            places: HashMap::new(),
            path: None,
            searched: goal.tolerance,
            best: None,
            runs: 0.0,
            notes: Vec::new(),
            journal: None,
        };
        trials.find_weights();
        let weights: u64 = trials.weights.iter().map(|w| w.bytes as u64).sum();
        trials.rest = (model.size().saturating_sub(before) + after).saturating_sub(weights);
        trials.leave_out_new_forms();
        Ok(trials)
    }

    /// Sets what the original gives for the samples of the search.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn compare_with(&mut self, expected: Expected) -> Result<()> {
        if let ([program], [part]) = (&self.programs[..], &self.source.parts[..])
            && part.is_whole()
            && !self.source.model.has_five_dimensions()
        {
            let names: Vec<&str> = self.weights.iter().map(|w| w.name.as_str()).collect();
            let (requests, load) = (expected.requests(&self.base), self.loading());
            let function = &self.source.model.info().default_function;
            self.stages = match Stages::new(program, function, &names, &requests, &load) {
                Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
                Err(error) => {
                    tracing::debug!(%error, "choices are run as whole models");
                    None
                }
                Ok(stages) => stages,
            };
        }
        self.few = Some(expected.first(ISOLATED));
        self.expected = Some(expected);
        Ok(())
    }

    /// Whether the model with nothing compressed is worse than `db`: it computes in fp16, say.
    pub fn base_is_poor(&mut self, db: f64) -> Result<bool> {
        let choice = vec![None; self.weights.len()];
        let place = self.real(&choice)?;
        let comparison = &self.tried[place].comparison;
        Ok(comparison.outputs.iter().any(|o| o.failure(None).is_some() || o.snr_db.rank() < db))
    }

    fn find_weights(&mut self) {
        let default = &self.source.model.info().default_function;
        for (part, program) in self.source.parts.iter().zip(&self.programs) {
            for (name, function) in &program.functions {
                if part.is_whole() && name != default {
                    continue;
                }
                for weight in milwright_optimize::weights::weights(function) {
                    let value = function.const_value(weight.value);
                    let Some(tensor) = value.and_then(|v| v.as_tensor()) else { continue };
                    let name = &function[weight.value].name;
                    let bytes = tensor.bytes().len();
                    match self.weights.iter_mut().find(|w| w.name == *name) {
                        Some(known) => {
                            known.bytes += bytes;
                            known.elements += tensor.elements();
                        }
                        None => self.weights.push(Weight {
                            name: name.clone(),
                            shape: tensor.shape().to_vec(),
                            elements: tensor.elements(),
                            bytes,
                            forms: Vec::new(),
                            left: None,
                        }),
                    }
                }
            }
        }
    }

    /// Leaves out the forms that need a newer opset than the program can have.
    fn leave_out_new_forms(&mut self) {
        let newest = self
            .forms
            .iter()
            .filter(|f| f.min_opset() > milwright_mil::Opset::Ios16)
            .max_by_key(|f| f.min_opset());
        let Some(newest) = newest.map(Compression::min_opset) else { return };
        let stays = self.source.parts.iter().zip(&self.programs).all(|(part, program)| {
            let mut raised = program.clone();
            raised.functions.values_mut().for_each(|f| f.opset = f.opset.max(newest));
            check_raised(part, &raised).is_ok()
        });
        if !stays {
            self.forms.retain(|f| f.min_opset() < newest);
            let newest = newest.text_name();
            self.notes.push(format!("forms of {newest} were left out: the program is not valid there"));
        }
    }

    /// The configuration of a choice.
    pub fn config(&self, choice: &Choice) -> Config {
        let of = |(weight, form): (&Weight, &Option<usize>)| {
            (weight.name.clone(), form.map(|form| self.forms[form].clone()))
        };
        Config { op_names: self.weights.iter().zip(choice).map(of).collect(), ..Config::default() }
    }

    /// The model of a choice, in memory.
    fn model(&mut self, choice: &Choice) -> Result<Arc<Model>> {
        let config = self.config(choice);
        let mut programs = self.programs.clone();
        for (program, inputs) in programs.iter_mut().zip(self.inputs) {
            let (known, spill) = (&mut self.known, &mut self.spill);
            let done = compress_again(program, &config, inputs, known, spill, &mut |_| ());
            self.settings.load.cancel.check()?;
            done.map_err(|e| self.spill.error(&e))?;
        }
        model_of(self.source, &programs)
    }

    /// About how many bytes the model of a choice has.
    pub fn bytes(&self, choice: &Choice) -> u64 {
        let of = |(weight, form): (&Weight, &Option<usize>)| {
            let trial = form.and_then(|form| weight.forms.iter().find(|t| t.form == form));
            trial.map_or(weight.bytes, |t| t.bytes) as u64
        };
        self.rest + self.weights.iter().zip(choice).map(of).sum::<u64>()
    }

    /// Compresses every weight in every form, and keeps those that are smaller or better than all others.
    fn compress(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let total: usize = self.weights.iter().map(|w| w.elements).sum::<usize>() * self.forms.len();
        let mut done = 0;
        for at in 0..self.weights.len() {
            for form in 0..self.forms.len() {
                self.check_stopped("before any result was found")?;
                if let Some(known) = self.journal.as_ref().and_then(|j| j.form(at, form)) {
                    let (trial, left) = known;
                    self.weights[at].take(trial, left);
                    done += self.weights[at].elements;
                    progress(Progress::Compressing { done, total });
                    continue;
                }
                let name = self.weights[at].name.clone();
                let op_names = [(name, Some(self.forms[form].clone()))].into();
                let config = Config { op_names, ..Config::default() };
                let mut trial = Trial { form, bytes: 0, local_db: f64::INFINITY, noise: None };
                let mut left = None;
                for (program, inputs) in self.programs.iter().zip(self.inputs) {
                    let mut program = program.clone();
                    let (known, spill) = (&mut self.known, &mut self.spill);
                    let found = compress_again(&mut program, &config, inputs, known, spill, &mut |_| ());
                    self.settings.load.cancel.check()?;
                    for report in found.map_err(|e| self.spill.error(&e))? {
                        trial.bytes += report.bytes_after;
                        let local = report.output_snr_db.or(report.snr_db).unwrap_or(f64::INFINITY);
                        trial.local_db = trial.local_db.min(local);
                        left = left.or(report.skipped);
                    }
                }
                if let Some(journal) = &mut self.journal {
                    journal.add_form(at, &trial, left.clone())?;
                }
                let weight = &mut self.weights[at];
                weight.take(trial, left);
                done += weight.elements;
                progress(Progress::Compressing { done, total });
            }
        }
        Ok(())
    }

    fn check_stopped(&self, when: &str) -> Result<()> {
        self.settings.load.cancel.check()?;
        if let (Err(stopped), None) = (self.stop.check(), &self.best) {
            let error = Error::new(stopped.kind(), format!("the search was stopped {when}"));
            return Err(error.with_hint("nothing was written; a search that goes on longer finds something"));
        }
        Ok(())
    }

    /// Whether the search should end with what it has.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled() && self.best.is_some()
    }

    /// Runs a choice on all samples of the search, once; returns its place in the list.
    fn real(&mut self, choice: &Choice) -> Result<usize> {
        if let Some(&place) = self.places.get(choice) {
            return Ok(place);
        }
        let known = self.screened.iter().position(|t| t.choice == *choice).filter(|_| self.few_are_all());
        let comparison = match known {
            Some(known) => self.screened[known].comparison.clone(),
            None => self.compare(choice, false)?,
        };
        let (place, bytes) = (self.tried.len(), self.bytes(choice));
        self.tried.push(Tried { choice: choice.clone(), bytes, comparison });
        self.places.insert(choice.clone(), place);
        Ok(place)
    }

    /// Whether the samples on which weights are measured by themselves are all that there are.
    fn few_are_all(&self) -> bool {
        // A task is not asked about the first ones.
        self.goal.metric != Metric::Task
            && self.few.as_ref().map(Expected::len) == self.expected.as_ref().map(Expected::len)
    }

    /// Runs a choice on all samples of the search, or on the first few, if it is not known what that gives.
    fn compare(&mut self, choice: &Choice, on_few: bool) -> Result<Comparison> {
        if let Some((comparison, runs)) = self.journal.as_ref().and_then(|j| j.run(choice, on_few)) {
            self.runs += runs;
            return Ok(comparison);
        }
        let before = self.runs;
        let comparison = self.compare_anew(choice, on_few)?;
        if let Some(journal) = &mut self.journal {
            journal.add_run(choice, on_few, &comparison, self.runs - before)?;
        }
        Ok(comparison)
    }

    /// Writes down what is not written yet.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&mut self) -> Result<()> {
        self.journal.as_mut().map_or(Ok(()), Journal::save)
    }

    fn compare_anew(&mut self, choice: &Choice, on_few: bool) -> Result<Comparison> {
        if self.stages.is_none() {
            let model = self.model(choice)?;
            let expected = if on_few { &self.few } else { &self.expected };
            let Some(expected) = expected else { return Err(Error::invalid("there are no samples")) };
            let mut runs = 0;
            let comparison = expected.against(&model, &self.loading(), &mut || runs += 1)?;
            self.runs += f64::from(runs);
            return Ok(comparison);
        }
        let Trials { stages, known, spill, weights, forms, inputs, settings, few, expected, .. } = self;
        let expected = if on_few { few } else { expected };
        let (Some(stages), Some(expected)) = (stages, expected) else {
            return Err(Error::invalid("there are no samples"));
        };
        let mut compress = |program: &Program, places: &[usize]| {
            let of = |&w: &usize| (weights[w].name.clone(), choice[w].map(|f| forms[f].clone()));
            let config = Config { op_names: places.iter().map(of).collect(), ..Config::default() };
            let mut program = program.clone();
            let done = compress_again(&mut program, &config, &inputs[0], known, spill, &mut |_| ());
            settings.load.cancel.check()?;
            done.map_err(|e| spill.error(&e))?;
            Ok(program)
        };
        let (predictions, runs) = stages.run(choice, expected.len(), &mut compress)?;
        let comparison = expected.with(&self.base, predictions)?;
        self.runs += runs;
        Ok(comparison)
    }

    /// Runs a choice on the first few samples, and remembers it; returns why it does not hold there by far, if so.
    fn screen(&mut self, choice: &Choice) -> Result<Option<String>> {
        let known = self.screened.iter().position(|t| t.choice == *choice);
        let at = match known {
            Some(at) => at,
            None => {
                let comparison = self.compare(choice, true)?;
                self.screened.push(Tried { choice: choice.clone(), bytes: self.bytes(choice), comparison });
                self.screened.len() - 1
            }
        };
        let metric = self.goal.metric;
        let limit = self.searched.filter(|_| metric != Metric::Task).map(|limit| metric.looser(limit));
        Ok(metric.at_first().failure(&self.screened[at].comparison, limit))
    }

    /// The number of outputs that are compared.
    fn outputs(&self) -> usize {
        self.tried.iter().chain(&self.screened).next().map_or(0, |t| t.comparison.outputs.len())
    }

    /// Whether the runs that a search may take are spent.
    fn is_spent(&self) -> bool {
        self.runs > (RUNS_FOR_WEIGHT * self.weights.len() as f64).max(LEAST_RUNS)
    }

    /// Models that are run once are not worth a cache.
    fn loading(&self) -> crate::LoadOptions {
        crate::LoadOptions { cache: None, ..self.settings.load.clone() }
    }

    /// Why a choice that was run is not what is looked for; `None` if it is.
    fn refusal(&self, place: usize, tolerance: Option<f64>) -> Option<String> {
        let tried = &self.tried[place];
        if let (None, Some(most)) = (tolerance, self.goal.max_bytes)
            && tried.bytes > most
        {
            return Some(format!("{} bytes", tried.bytes));
        }
        self.goal.metric.failure(&tried.comparison, tolerance)
    }

    /// The figure of a choice that was run.
    pub fn figure(&self, place: usize) -> f64 {
        let metric = self.goal.metric;
        metric.worst(&self.tried[place].comparison).unwrap_or(metric.perfect())
    }

    /// Which is what is looked for more, first.
    fn order(&self, a: usize, b: usize) -> Ordering {
        let by_bytes = self.tried[a].bytes.cmp(&self.tried[b].bytes);
        if self.goal.tolerance.is_some() {
            return by_bytes;
        }
        self.goal.metric.order(self.figure(a), self.figure(b)).then(by_bytes)
    }

    fn is_better(&self, a: usize, b: usize) -> bool {
        self.order(a, b) == Ordering::Less
    }

    /// Runs a choice, and keeps it if it is the best so far. Returns whether it holds.
    fn consider(&mut self, choice: &Choice) -> Result<bool> {
        let place = self.real(choice)?;
        if self.refusal(place, self.searched).is_some() {
            return Ok(false);
        }
        let best = self.best.as_ref().and_then(|best| self.places.get(best));
        if best.is_none_or(|&best| self.is_better(place, best)) {
            self.best = Some(choice.clone());
            if let Some(stages) = &mut self.stages {
                stages.hold(choice);
            }
        }
        Ok(true)
    }

    /// The choice of one form for all weights that it suits.
    pub fn uniform(&self, form: usize) -> Choice {
        let of = |w: &Weight| w.forms.iter().any(|t| t.form == form).then_some(form);
        self.weights.iter().map(of).collect()
    }

    /// The form of a choice that is the same for all weights that it suits.
    pub fn uniform_form(&self, choice: &Choice) -> Option<usize> {
        let form = choice.iter().find_map(|f| *f)?;
        (self.uniform(form) == *choice).then_some(form)
    }

    /// Compares only forms that are the same for all weights.
    pub fn uniform_only(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<Choice> {
        self.compress(progress)?;
        self.run_uniform(progress, self.forms.len())?;
        self.found()
    }

    fn run_uniform(&mut self, progress: &mut dyn FnMut(Progress), total: usize) -> Result<()> {
        let mut hopeful = Vec::new();
        for form in 0..self.forms.len() {
            progress(Progress::Searching { done: form, total });
            // Who stops now gets one of those that were run.
            if self.is_stopped() || self.stop.is_cancelled() && !hopeful.is_empty() {
                break;
            }
            self.check_stopped("before any result was found")?;
            let choice = self.uniform(form);
            if choice.iter().any(Option::is_some) && self.screen(&choice)?.is_none() {
                hopeful.push(choice);
            }
        }
        // The smallest that holds, and the next ones, in case that it does not on other samples.
        let metric = self.goal.metric.at_first();
        let figure = |trials: &Self, choice: &Choice| {
            let found = trials.screened.iter().find(|t| t.choice == *choice);
            found.and_then(|t| metric.worst(&t.comparison)).unwrap_or(metric.perfect())
        };
        match self.goal.max_bytes.filter(|_| self.goal.tolerance.is_none()) {
            None => hopeful.sort_by_key(|choice| self.bytes(choice)),
            Some(most) => {
                hopeful.retain(|choice| self.bytes(choice) <= most);
                hopeful.sort_by(|a, b| metric.order(figure(self, a), figure(self, b)));
            }
        }
        let mut holding = 0;
        for choice in hopeful {
            if holding == MOST_UNIFORM && !self.few_are_all() || self.is_stopped() {
                break;
            }
            holding += usize::from(self.consider(&choice)?);
        }
        Ok(())
    }

    /// The best choice, if weights become smaller by it.
    fn found(&self) -> Result<Choice> {
        let smaller = self.best.clone().filter(|best| best.iter().any(Option::is_some));
        smaller.ok_or_else(|| self.nothing_holds(""))
    }

    /// Searches; returns the best choice on the samples of the search.
    pub fn search(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<Choice> {
        self.compress(progress)?;
        let alone: usize = self.weights.iter().map(|w| probed(w).len()).sum();
        let total = self.forms.len() + alone + CURVE + MOST_STEPS;
        self.run_uniform(progress, total)?;
        let mut done = self.forms.len();
        self.measure_alone(&mut || {
            done += 1;
            progress(Progress::Searching { done, total });
        })?;
        let outputs = self.outputs();
        let even = vec![1.0; outputs];
        let path = Path::new(&self.points(&even));
        self.follow(&path, self.goal.tolerance)?;
        progress(Progress::Searching { done: done + CURVE / 2, total });
        if outputs > 1 && !self.is_stopped() {
            // The outputs that are nearest to the tolerance count most.
            let noise = self.best.as_ref().and_then(|b| self.places.get(b));
            let noise = noise.map(|&place| self.goal.metric.noise(&self.tried[place].comparison));
            let most = noise.iter().flatten().copied().fold(0.0, f64::max);
            if let Some(noise) = noise.filter(|_| most > 0.0) {
                let shares: Vec<f64> = noise.iter().map(|n| (n / most).max(0.02)).collect();
                let weighted = Path::new(&self.points(&shares));
                self.follow(&weighted, self.goal.tolerance)?;
            }
        }
        for i in 0..=CURVE {
            if self.is_stopped() {
                break;
            }
            let choice = path.at(i * path.len() / CURVE);
            self.screen(&choice)?;
        }
        self.path = Some(path);
        done += CURVE;
        progress(Progress::Searching { done, total });
        if self.best.is_some() {
            self.refine(&even, &mut |n| progress(Progress::Searching { done: done + n, total }))?;
        }
        self.found()
    }

    /// Runs each weight by itself in some of the forms that may be worth it, with all others as they are.
    fn measure_alone(&mut self, advance: &mut dyn FnMut()) -> Result<()> {
        let nothing = vec![None; self.weights.len()];
        for at in 0..self.weights.len() {
            for index in probed(&self.weights[at]) {
                if self.is_stopped() {
                    return Ok(());
                }
                self.check_stopped("before any result within the tolerance was found")?;
                let mut choice = nothing.clone();
                choice[at] = Some(self.weights[at].forms[index].form);
                let comparison = self.compare(&choice, true)?;
                let noise = self.goal.metric.noise(&comparison);
                self.weights[at].forms[index].noise = Some(noise);
                advance();
            }
            estimate(&mut self.weights[at]);
        }
        Ok(())
    }

    /// What each weight can be, with the outputs' noise added up by these shares.
    fn points(&self, shares: &[f64]) -> Vec<Vec<Point>> {
        let of = |weight: &Weight| {
            let mut points = vec![Point { form: None, bytes: weight.bytes, noise: 0.0 }];
            for trial in &weight.forms {
                let Some(noise) = &trial.noise else { continue };
                let sum: f64 = noise.iter().zip(shares).map(|(n, s)| n * s).sum();
                // No sample shows what the weight does: that is no reason to give it up.
                if sum > 0.0 || trial.local_db.is_infinite() {
                    points.push(Point { form: Some(trial.form), bytes: trial.bytes, noise: sum });
                }
            }
            points
        };
        self.weights.iter().map(of).collect()
    }

    /// Finds how far a path can be followed.
    fn follow(&mut self, path: &Path, tolerance: Option<f64>) -> Result<()> {
        let (mut low, mut high) = (0, path.len());
        let Some(tolerance) = tolerance else {
            let most = self.goal.max_bytes.unwrap_or(u64::MAX);
            let fits = (0..=path.len()).find(|&i| self.bytes(&path.at(i)) <= most);
            return fits.map_or(Ok(()), |i| self.consider(&path.at(i)).map(drop));
        };
        if !self.few_are_all() && self.goal.metric != Metric::Task {
            // How far about, on the first samples.
            while low < high && !self.is_stopped() {
                self.check_stopped("before any result within the tolerance was found")?;
                let middle = (low + high).div_ceil(2);
                let choice = path.at(middle);
                self.screen(&choice)?;
                let found = self.screened.iter().find(|t| t.choice == choice);
                let holds =
                    found.is_some_and(|t| self.goal.metric.failure(&t.comparison, Some(tolerance)).is_none());
                if holds { low = middle } else { high = middle - 1 }
            }
            // From there, on all of them, in steps that grow until they have passed the end.
            let (near, mut step) = (low, (path.len() / 64).max(1));
            (low, high) = (0, path.len());
            let up = self.holds_at(path, near, tolerance)?;
            if up {
                low = near
            } else {
                high = near.saturating_sub(1)
            }
            while low < high && !self.is_stopped() {
                let next = if up { (low + step).min(high) } else { high.saturating_sub(step - 1) };
                let holds = self.holds_at(path, next, tolerance)?;
                if holds {
                    low = next
                } else {
                    high = next.saturating_sub(1)
                }
                if holds != up || next == 0 {
                    break;
                }
                step *= 2;
            }
        }
        while low < high && !self.is_stopped() {
            let middle = (low + high).div_ceil(2);
            if self.holds_at(path, middle, tolerance)? { low = middle } else { high = middle - 1 }
        }
        Ok(())
    }

    /// Whether the choice at a place of a path holds on all samples of the search.
    fn holds_at(&mut self, path: &Path, at: usize, tolerance: f64) -> Result<bool> {
        self.check_stopped("before any result within the tolerance was found")?;
        let choice = path.at(at);
        self.consider(&choice)?;
        let place = self.real(&choice)?;
        Ok(self.refusal(place, Some(tolerance)).is_none())
    }

    /// Runs single steps from the best choice, those first that promise most, and keeps what holds.
    fn refine(&mut self, shares: &[f64], advance: &mut dyn FnMut(usize)) -> Result<()> {
        let points = self.points(shares);
        let of = |choice: &Choice, at: usize| points[at].iter().find(|p| p.form == choice[at]).copied();
        let most = MOST_STEPS.min(3 * self.weights.len());
        let mut refused: HashSet<(usize, Option<usize>)> = HashSet::new();
        for step in 0..most {
            advance(step);
            if self.is_stopped() || self.is_spent() {
                break;
            }
            self.settings.load.cancel.check()?;
            let Some(best) = self.best.clone() else { break };
            let (bytes, limit) = (self.bytes(&best), self.goal.max_bytes.unwrap_or(u64::MAX));
            let mut moves: Vec<(f64, usize, Option<usize>)> = Vec::new();
            for (at, points) in points.iter().enumerate() {
                let Some(now) = of(&best, at) else { continue };
                for to in points.iter().filter(|p| p.form != now.form && !refused.contains(&(at, p.form))) {
                    let (saved, added) = (now.bytes as f64 - to.bytes as f64, to.noise - now.noise);
                    if self.goal.tolerance.is_some() {
                        if saved > 0.0 {
                            moves.push((added / saved, at, to.form));
                        }
                    } else if added < 0.0 && bytes as f64 - saved <= limit as f64 {
                        moves.push((added, at, to.form));
                    }
                }
            }
            let Some((_, at, form)) = moves.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            let mut choice = best.clone();
            choice[at] = form;
            if self.few_are_all() || self.screen(&choice)?.is_none() {
                self.consider(&choice)?;
            }
            if self.best.as_ref() == Some(&choice) {
                // What did not hold before holds even less now, and what gains most may be another step.
                continue;
            }
            refused.insert((at, form));
        }
        Ok(())
    }

    /// The best choice that was run and holds a tolerance, of those that were not refused.
    fn best_within(&self, tolerance: Option<f64>, refused: &HashSet<Choice>) -> Option<Choice> {
        let holds = |place: &usize| {
            let tried = &self.tried[*place];
            self.refusal(*place, tolerance).is_none()
                && !refused.contains(&tried.choice)
                && tried.choice.iter().any(Option::is_some)
        };
        let places = (0..self.tried.len()).filter(holds);
        let best = places.reduce(|a, b| if self.is_better(b, a) { b } else { a })?;
        Some(self.tried[best].choice.clone())
    }
}

/// A model of these programs, in memory.
fn model_of(source: &Source, programs: &[Program]) -> Result<Arc<Model>> {
    let mut checked = Vec::with_capacity(programs.len());
    for (part, program) in source.parts.iter().zip(programs) {
        let program = verify(program.clone()).map_err(|e| broken(&source.model, &e))?;
        checked.push((part.described(), program));
    }
    source.model.with_programs(&mut checked.into_iter()).map(Arc::new)
}
