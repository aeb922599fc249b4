//! Searches for the smallest model within a tolerance: which form each weight gets.
//!
//! 1. Every weight is compressed in every form (`trials.rs`), and forms that are larger and worse than others are out.
//! 2. Forms that are the same for all weights are run, and then each weight in each form by itself: what that adds to the
//!    noise of the outputs.
//! 3. A path (`path.rs`) says in which order weights give up bytes. Real runs find how far it can be followed, and single
//!    steps beyond it that hold, too.
//! 4. What was found is proved on samples that took no part, and compared with the best form for all weights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milwright_optimize::{Compression, Config, Quantization};

mod journal;
mod metric;
mod path;
mod plot;
mod report;
mod stages;
mod trials;
mod weights;

pub use metric::Metric;
pub use report::{CurvePoint, SearchReport, SearchSamples, SearchedWeight, UniformForm};

use journal::Journal;
use trials::{Goal, Trials};

use super::{Attempt, Calibration, Observations, Optimizer, Progress, Tolerance, check_output};
use crate::proof::Expected;
use crate::{Cancel, Error, ErrorKind, MetricTask, Model, Result, Samples, Target};

/// How to search for the smallest model, for [`Optimizer::smallest`].
#[derive(Clone, Debug, Default)]
pub struct Search {
    metric: Metric,
    task: Option<Arc<dyn MetricTask>>,
    max_bytes: Option<u64>,
    stop: Cancel,
    state: Option<PathBuf>,
}

impl Search {
    /// A search by SNR.
    pub fn new() -> Search {
        Search::default()
    }

    /// What the tolerance is about, and in which unit it is.
    #[must_use]
    pub fn metric(self, metric: Metric) -> Search {
        Search { metric, ..self }
    }

    /// What the tolerance is about: the number that a task makes of the results, which must not be less. It is asked about all
    /// samples of a use at once, again and again. The order in which weights give up bytes follows the SNR of outputs.
    #[must_use]
    pub fn task(self, task: Arc<dyn MetricTask>) -> Search {
        Search { metric: Metric::Task, task: Some(task), ..self }
    }

    /// Keeps what the search measures in a file, every few seconds, and goes on from there if the file exists. It has to be
    /// of the same model, samples and settings; the tolerance and the size may differ.
    #[must_use]
    pub fn state(self, file: impl Into<PathBuf>) -> Search {
        Search { state: Some(file.into()), ..self }
    }

    /// The most bytes of the result. Without a tolerance, the best result of at most this size is looked for.
    #[must_use]
    pub fn max_bytes(self, bytes: u64) -> Search {
        Search { max_bytes: Some(bytes), ..self }
    }

    /// Ends the search early, with the best that was found so far: it is still proved and written. To end without a
    /// result, cancel the [`LoadOptions`](crate::LoadOptions) instead.
    #[must_use]
    pub fn stop(self, stop: Cancel) -> Search {
        Search { stop, ..self }
    }

    /// Whether it takes the last dimension of outputs for scores.
    pub(super) fn is_of_scores(&self) -> bool {
        self.metric.is_of_scores()
    }

    /// What is asked about results, if the metric says so.
    pub(super) fn asked(&self) -> Option<Arc<dyn MetricTask>> {
        self.task.clone().filter(|_| self.metric == Metric::Task)
    }
}

/// The most samples that choices are compared on.
const MOST_SEARCHED: usize = 32;

/// With fewer samples than this, the same ones observe the inputs of weights and compare choices.
const FEW: usize = 12;

/// A model in fp16 of less than this, in dB, is looked at for values that fp16 loses.
const POOR_DB: f64 = 30.0;

/// How often a choice that does not hold on the samples of the proof is replaced by a better one.
const PROOFS: usize = 6;

/// The samples of a search, by their use.
struct Split {
    observe: Samples,
    search: Samples,
    proof: Samples,
    described: SearchSamples,
}

impl Optimizer {
    /// Searches for the smallest result within the tolerance, instead of storing weights as
    /// [`quantization`](Optimizer::quantization) says; that says only what is done first (`float16`, `dense`).
    ///
    /// Needs [`samples`](Optimizer::samples) of real inputs, which it divides: some observe the inputs of weights, some
    /// compare choices, and the rest prove the result. Without, only forms that are the same for all weights are compared,
    /// on inputs that are drawn.
    ///
    /// The result is never larger than the smallest that one form for all weights gives. A tolerance, or
    /// [`Search::max_bytes`], is required.
    #[must_use]
    pub fn smallest(self, search: Search) -> Optimizer {
        Optimizer { search: Some(search), ..self }
    }

    /// The tolerance of a search; `None` if only the size is given.
    fn goal(&self, model: &Model, search: &Search) -> Result<Goal> {
        let invalid = |what: String, hint: &str| Error::invalid(what).with_hint(hint).at(model.path());
        let tolerance = match self.tolerance {
            Tolerance::Decibels(tolerance) => Some(tolerance),
            Tolerance::Default | Tolerance::None => None,
        };
        if tolerance.is_none() && search.max_bytes.is_none() {
            return Err(invalid(
                "the smallest model within what?".to_owned(),
                "say how much the outputs may lose, with a tolerance, or how large the result may be",
            ));
        }
        if search.metric == Metric::Task && search.task.is_none() {
            return Err(invalid(
                "the metric is a task, and there is none".to_owned(),
                "give one with `Search::task`",
            ));
        }
        if let Some(tolerance) = tolerance {
            search
                .metric
                .check(tolerance)
                .map_err(|why| invalid(why, "docs/optimize.md explains metrics"))?;
        }
        if self.config.compresses() {
            return Err(invalid(
                "a search chooses the forms of weights, and they are given, too".to_owned(),
                "leave out --quantize and --config, or --smallest; `float16` and `dense` can be given, because they come first",
            ));
        }
        if self.activations.is_some() {
            return Err(invalid(
                "a search chooses the forms of weights only, and values between ops should become integers"
                    .to_owned(),
                "make the result of the search int8 between ops in a second step, with --activations",
            ));
        }
        if !self.proves {
            return Err(invalid(
                "a search runs the model: there is none without proof".to_owned(),
                "leave out --no-proof, or --smallest",
            ));
        }
        Ok(Goal { metric: search.metric, tolerance, max_bytes: search.max_bytes })
    }

    /// Divides the samples; `None` if there are none.
    fn divided(&self, model: &Model) -> Result<Option<Split>> {
        let Some(samples) = &self.samples else { return Ok(None) };
        let all = samples.requests.len();
        if all < 2 {
            return Err(Error::invalid("one set of inputs cannot both search and prove")
                .with_hint("give at least two, and better 24 or more")
                .at(model.path()));
        }
        for (at, request) in samples.requests.iter().enumerate() {
            let is_nan = |(_, tensor): &&(String, crate::Tensor)| {
                tensor.dtype().is_float() && tensor.to_f64().iter().any(|x| x.is_nan())
            };
            if let Some((name, _)) = request.inputs().iter().find(is_nan) {
                let what = format!(
                    "set {} of the inputs has NaN in `{name}`: nothing can be measured on it",
                    at + 1
                );
                return Err(Error::invalid(what).with_hint("leave it out").at(model.path()));
            }
        }
        let is_few = all < FEW;
        let parts = if is_few { 2 } else { 3 };
        let start = (self.seed % parts) as usize;
        let part = |which: usize| {
            let of = |i: &usize| (i + start) % parts as usize == which;
            let requests = (0..all).filter(of).map(|i| samples.requests[i].clone()).collect();
            Samples { requests, others: Vec::new(), ..samples.clone() }
        };
        let observe = part(0);
        let mut search = if is_few { part(0) } else { part(2) };
        let mut proof = part(1);
        proof.others.clone_from(&samples.others);
        let searched = search.requests.len().min(MOST_SEARCHED);
        search.requests = spread(&search.requests, searched);
        // What each weight adds is measured on the first few, which are taken from everywhere, too.
        let first = spread(&search.requests, trials::ISOLATED);
        let rest = spread_rest(&search.requests, trials::ISOLATED);
        search.requests = first.into_iter().chain(rest).collect();
        let described = SearchSamples {
            observed: observe.requests.len(),
            searched,
            proved: proof.requests.len(),
            note: is_few.then(|| {
                format!(
                    "{all} samples are few: the same ones observed the inputs of weights and compared choices, and what \
                     holds on so few others may not hold on all"
                )
            }),
        };
        Ok(Some(Split { observe, search, proof, described }))
    }

    /// Searches; the result is proved and staged.
    pub(super) fn run_search(
        &self,
        search: &Search,
        model: &Arc<Model>,
        output: Option<&Path>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Attempt> {
        if let Some(output) = output {
            check_output(model, output)?;
        }
        let goal = self.goal(model, search)?;
        let split = self.divided(model)?;
        let source = self.prepared(model)?;
        let plain = Optimizer { search: None, tolerance: Tolerance::None, ..self.clone() };
        let (settings, split) = match split {
            Some(split) => {
                let calibration = Calibration::With(Arc::new(split.observe.clone()));
                let samples = Some(split.proof.clone());
                (Optimizer { samples, calibration, observes: true, ..plain }, Some(split))
            }
            None => (plain, None),
        };
        let inputs = source.parts.iter().map(|part| settings.observe_inputs(&source, part));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let forms: Vec<Compression> = Quantization::searched(self.target == Target::Ane)
            .filter(|form| self.opset.is_none_or(|opset| form.min_opset() <= opset))
            .collect();
        let samples = match &split {
            Some(split) => split.search.clone(),
            None => settings.samples_of(&source.model, &source.model.info().default_function)?,
        };
        let mut observed: Vec<Observations> = source.parts.iter().map(|_| Observations::new()).collect();
        let of_scores = goal.metric.is_of_scores();
        let mut journal = match &search.state {
            Some(file) => Some(self.journal(file, &source, &samples, split.as_ref(), &forms, search)?),
            None => None,
        };
        let mut begin = |observed: &[Observations]| {
            let (forms, stop) = (forms.clone(), search.stop.clone());
            let mut trials = Trials::new(&settings, goal, &source, observed, &inputs, forms, output, stop)?;
            let expected = Expected::of(&source.model, &trials.base, None, &samples, &self.load)?;
            trials.compare_with(expected.of_scores(of_scores).of_task(search.asked()))?;
            // What is measured with values kept in fp32 is not what is measured without.
            let keeps = observed.iter().flat_map(HashMap::values).any(super::says_something);
            trials.journal = journal.take().map(|journal| journal.of(keeps));
            Ok::<_, Error>(trials)
        };
        let mut trials = begin(&observed)?;
        if self.halves() && trials.base_is_poor(POOR_DB)? {
            // As for a conversion to fp16 without a search: values that it loses stay in fp32.
            observed = settings.kept_in_fp32(&source)?;
            let journal = trials.journal.take();
            drop(trials);
            trials = begin(&observed)?;
            let keeps = observed.iter().flat_map(HashMap::values).any(super::says_something);
            trials.journal = journal.map(|journal| journal.of(keeps));
        }
        let mut best = match &split {
            Some(_) => trials.search(progress)?,
            None => trials.uniform_only(progress)?,
        };

        // The proof: on samples that the search has not seen, if there are any.
        let unseen = match &split {
            Some(split) => {
                let expected = Expected::of(&source.model, &trials.base, None, &split.proof, &self.load)?;
                Some(expected.of_scores(goal.metric.is_of_scores()).of_task(search.asked()))
            }
            None => None,
        };
        let proved = trials.prove(&mut best, unseen.as_ref(), PROOFS)?;
        trials.save()?;
        let tolerance = goal.tolerance.filter(|_| goal.metric == Metric::Snr);
        let tolerance = tolerance.map_or(Tolerance::None, Tolerance::Decibels);
        let mut limit = goal.max_bytes;
        loop {
            let config = Config { all: self.config.all.clone(), ..trials.config(&best) };
            let result = Optimizer { config, tolerance, search: self.search.clone(), ..settings.clone() };
            let mut attempt = result.attempt(model, &source, &observed, &inputs, output, progress)?;
            let report = &attempt.report;
            let default = &source.model.info().default_function;
            let proof = report.proof.functions.iter().find(|c| c.function == *default);
            if let Some(failure) = proof.and_then(|c| goal.metric.failure(c, goal.tolerance)) {
                return Err(trials.nothing_holds(&failure));
            }
            // Sizes of files are known when they are written.
            if let (Some(most), Some(now)) = (goal.max_bytes, limit)
                && report.bytes_after > most
            {
                let less = now.saturating_sub(report.bytes_after - most);
                match trials.smaller(&best, less)? {
                    Some(smaller) => (best, limit) = (smaller, Some(less)),
                    None => return Err(trials.too_large(report.bytes_after)),
                }
                continue;
            }
            let samples = split.map(|s| s.described);
            attempt.report.search =
                Some(trials.report(&best, &proved, samples, report.bytes_after, self.seed));
            return Ok(attempt);
        }
    }

    /// The state of a search, from its file if there is one.
    fn journal(
        &self,
        file: &Path,
        source: &super::Source,
        samples: &Samples,
        split: Option<&Split>,
        forms: &[Compression],
        search: &Search,
    ) -> Result<Journal> {
        let mut of = journal::Of::new(&source.model);
        of.add("samples", &samples.requests);
        of.add("observed", split.map_or(&[][..], |s| &s.observe.requests));
        let settings = format!(
            "{forms:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            self.config, self.target, self.opset, self.load.precision, search.metric, self.seed
        );
        Journal::open(file, of.settings(&settings))
    }

    /// The values that have to stay in fp32 in each part, if it is converted to fp16.
    fn kept_in_fp32(&self, source: &super::Source) -> Result<Vec<Observations>> {
        if !self.halves() {
            return Ok(source.parts.iter().map(|_| Observations::new()).collect());
        }
        let found = source.parts.iter().map(|part| self.observe(source, part));
        match found.collect::<Result<Vec<_>>>() {
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                tracing::debug!(%error, "the values inside cannot be looked at");
                Ok(source.parts.iter().map(|_| Observations::new()).collect())
            }
            found => found,
        }
    }
}

/// At most `count` items, spread evenly.
fn spread<T: Clone>(items: &[T], count: usize) -> Vec<T> {
    let count = count.min(items.len());
    (0..count).map(|i| items[i * items.len() / count].clone()).collect()
}

/// The items that [`spread`] leaves out.
fn spread_rest<T: Clone>(items: &[T], count: usize) -> Vec<T> {
    let count = count.min(items.len());
    let taken: std::collections::HashSet<usize> = (0..count).map(|i| i * items.len() / count).collect();
    items.iter().enumerate().filter(|(i, _)| !taken.contains(i)).map(|(_, item)| item.clone()).collect()
}
