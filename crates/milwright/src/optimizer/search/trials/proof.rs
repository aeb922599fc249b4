//! The end of a search: the proof on samples that it has not seen, and the errors where nothing holds.

use std::collections::HashSet;

use super::{Goal, Trials, Tried};
use crate::optimizer::search::metric::Metric;
use crate::optimizer::search::path::Choice;
use crate::proof::Expected;
use crate::{Error, ErrorKind, Result};

/// What the proof found.
#[derive(Default)]
pub(in crate::optimizer::search) struct Proved {
    /// The figure of the result on unseen samples.
    pub figure: Option<f64>,
    /// The best form for all weights, its bytes and its figure on unseen samples.
    pub uniform: Option<(usize, u64, Option<f64>)>,
    /// How many choices were refused by the proof.
    pub refused: usize,
}

impl Trials<'_> {
    /// Runs the best choice on samples that the search has not seen, and replaces it while it does not hold there; and by
    /// the best form for all weights, if that is no larger.
    pub fn prove(&mut self, best: &mut Choice, unseen: Option<&Expected>, most: usize) -> Result<Proved> {
        let Goal { metric, tolerance, .. } = self.goal;
        let mut proved = Proved::default();
        let mut uniform: Vec<usize> = (0..self.forms.len()).collect();
        uniform.retain(|&f| {
            let place = self.places.get(&self.uniform(f));
            place.is_some_and(|&place| self.refusal(place, tolerance).is_none())
        });
        let place = |trials: &Trials<'_>, form: usize| trials.places[&trials.uniform(form)];
        uniform.sort_by(|&a, &b| self.order(place(self, a), place(self, b)));
        let Some(unseen) = unseen else {
            proved.uniform = uniform.first().map(|&form| (form, self.bytes(&self.uniform(form)), None));
            return Ok(proved);
        };
        let check = |trials: &mut Trials<'_>, choice: &Choice| -> Result<(Option<String>, f64)> {
            let model = trials.model(choice)?;
            let comparison = unseen.against(&model, &trials.loading(), &mut || ())?;
            let figure = metric.worst(&comparison).unwrap_or(metric.perfect());
            Ok((metric.failure(&comparison, tolerance), figure))
        };
        for form in uniform {
            let choice = self.uniform(form);
            let (failure, figure) = check(self, &choice)?;
            if failure.is_none() {
                proved.uniform = Some((form, self.bytes(&choice), Some(figure)));
                break;
            }
        }
        let mut refused = HashSet::new();
        let even = vec![1.0; self.outputs()];
        let mut last = String::new();
        let mut holds = false;
        for _ in 0..most {
            let (failure, figure) = check(self, best)?;
            let Some(failure) = failure else {
                proved.figure = Some(figure);
                holds = true;
                break;
            };
            tracing::debug!("on unseen samples: {failure}");
            last = failure;
            proved.refused += 1;
            refused.insert(best.clone());
            self.searched = self.searched.zip(tolerance).map(|(s, limit)| metric.stricter(s, limit, figure));
            self.best = self.best_within(self.searched, &refused);
            if let Some(path) = self.path.clone() {
                self.follow(&path, self.searched)?;
                self.refine(&even, &mut |_| ())?;
            }
            match self.best_within(self.searched, &refused) {
                Some(next) => *best = next,
                None => break,
            }
        }
        if let Some((form, bytes, figure)) = proved.uniform {
            let is_no_better = match (tolerance, figure, proved.figure) {
                (None, Some(theirs), Some(ours)) => !metric.is_better(ours, theirs),
                _ => bytes <= self.bytes(best),
            };
            if !holds || is_no_better {
                *best = self.uniform(form);
                proved.figure = figure;
                holds = true;
            }
        }
        if !holds {
            return Err(self.nothing_holds(&last));
        }
        Ok(proved)
    }

    /// The best choice of fewer bytes.
    pub fn smaller(&mut self, best: &Choice, most: u64) -> Result<Option<Choice>> {
        self.goal.max_bytes = Some(most);
        if self.goal.tolerance.is_some() {
            return Ok(None);
        }
        if let Some(path) = self.path.clone() {
            self.follow(&path, None)?;
        }
        Ok(self.best_within(None, &HashSet::from([best.clone()])))
    }

    /// The error for a goal that nothing reaches.
    pub fn nothing_holds(&self, last: &str) -> Error {
        let metric = self.goal.metric;
        let model = &self.source.model;
        let compressed = |t: &&Tried| t.choice.iter().any(Option::is_some);
        // A task is not asked about the first samples.
        let screened = if metric == Metric::Task { &[][..] } else { &self.screened };
        let all = || self.tried.iter().chain(screened);
        let usable = all().filter(compressed).filter(|t| metric.failure(&t.comparison, None).is_none());
        let figure = |t: &Tried| metric.worst(&t.comparison).unwrap_or(metric.perfect());
        let what = |tried: &Tried| {
            let form = self.uniform_form(&tried.choice);
            form.map_or("a form for each weight".to_owned(), |f| {
                format!("`{}` for all weights", self.forms[f])
            })
        };
        if self.weights.iter().all(|w| w.forms.is_empty()) {
            let why = self.weights.iter().find_map(|w| w.left.clone());
            let why = why.map_or(
                "it has none of two or more dimensions and more than 2048 elements".to_owned(),
                |w| format!("the first {w}"),
            );
            return Error::invalid(format!("there are no weights to compress: {why}"))
                .with_hint("`--quantize dense` with `--smallest` compresses weights anew that are compressed already")
                .at(model.path());
        }
        match self.goal.tolerance {
            Some(limit) => {
                let best = usable.reduce(|a, b| if metric.is_better(figure(b), figure(a)) { b } else { a });
                let reached = best.map_or("every result is broken".to_owned(), |tried| {
                    format!("the best is {}, by {}", metric.show(figure(tried)), what(tried))
                });
                let unseen =
                    if last.is_empty() { String::new() } else { format!(" (on unseen samples: {last})") };
                let limit = metric.show(limit);
                let message = format!(
                    "nothing smaller is within {limit} of the original by {metric}: {reached}{unseen}"
                );
                Error::new(ErrorKind::Tolerance, message)
                    .with_hint("nothing was written; allow more, or give more samples of real inputs, which forms are fitted to")
                    .at(model.path())
            }
            None => {
                let least = all().map(|t| t.bytes).min().unwrap_or(self.rest);
                self.too_large(least)
            }
        }
    }

    /// The error for a size that nothing has.
    pub fn too_large(&self, bytes: u64) -> Error {
        let most = self.goal.max_bytes.unwrap_or_default();
        let message = format!("nothing has at most {most} bytes: the smallest has {bytes}");
        let rest = self.rest;
        Error::new(ErrorKind::Tolerance, message)
            .with_hint(format!("nothing was written; what is not weights takes about {rest} bytes; allow more bytes, or a lower tolerance"))
            .at(self.source.model.path())
    }
}
