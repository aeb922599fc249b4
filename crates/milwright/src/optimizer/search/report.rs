//! What a search found, and why.

use serde::Serialize;

use super::metric::{Metric, figure, maybe};
use super::path::Choice;
use super::trials::{Proved, Trials};
use super::weights::{Trial, Weight};

/// What a search for the smallest model found.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    /// What the tolerance is about.
    pub metric: Metric,
    /// The tolerance, in the unit of the metric; `None` if only a size was given.
    pub tolerance: Option<f64>,
    /// The most bytes that were allowed, if any.
    pub max_bytes: Option<u64>,
    /// The figure of the result on the samples that choices were compared on.
    #[serde(serialize_with = "figure")]
    pub searched_figure: f64,
    /// Its figure on the samples of the proof, which the search has not seen; `None` if there were none.
    #[serde(serialize_with = "maybe")]
    pub proved_figure: Option<f64>,
    /// The form, if the result has the same one for all weights that it suits.
    pub form: Option<String>,
    /// The best form for all weights that holds, to compare the result with.
    pub uniform: Option<UniformForm>,
    /// What the samples were used for; `None` if there were none.
    pub samples: Option<SearchSamples>,
    /// The seed.
    pub seed: u64,
    /// How many predictions the search made with compressed weights, in predictions of the whole model: most ran in part.
    pub predictions: usize,
    /// How many choices held on the samples of the search and not on those of the proof.
    pub refused: usize,
    /// Whether the search was stopped before it was done.
    pub stopped: bool,
    /// What else is to know, as sentences.
    pub notes: Vec<String>,
    /// Every choice that was run, from the smallest to the largest.
    pub curve: Vec<CurvePoint>,
    /// Every weight, in program order.
    pub weights: Vec<SearchedWeight>,
}

/// A form that is the same for all weights.
#[derive(Clone, Debug, Serialize)]
pub struct UniformForm {
    /// The form.
    pub form: String,
    /// Bytes of the model, about.
    pub bytes: u64,
    /// Its figure on the samples of the search.
    #[serde(serialize_with = "figure")]
    pub searched_figure: f64,
    /// Its figure on the samples of the proof.
    #[serde(serialize_with = "maybe")]
    pub proved_figure: Option<f64>,
}

/// How a search divided its samples.
#[derive(Clone, Debug, Serialize)]
pub struct SearchSamples {
    /// How many observed the inputs of weights.
    pub observed: usize,
    /// How many choices were compared on.
    pub searched: usize,
    /// How many proved the result.
    pub proved: usize,
    /// What is wrong with them, if they are few.
    pub note: Option<String>,
}

/// A choice that was run on the samples of the search.
#[derive(Clone, Debug, Serialize)]
pub struct CurvePoint {
    /// Bytes of the model, about.
    pub bytes: u64,
    /// Bits for each element of the weights.
    pub bits: f64,
    /// The figure.
    #[serde(serialize_with = "figure")]
    pub figure: f64,
    /// The form, if it is the same for all weights.
    pub form: Option<String>,
    /// How many samples it was run on.
    pub samples: usize,
    /// Whether no other choice that was run is both smaller and better.
    pub best: bool,
    /// Whether it is the result.
    pub chosen: bool,
}

/// What became of a weight, and why.
#[derive(Clone, Debug, Serialize)]
pub struct SearchedWeight {
    /// The name.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// The form; `None` if it stays as it is.
    pub form: Option<String>,
    /// Bits for each element.
    pub bits: f64,
    /// Bytes.
    pub bytes: usize,
    /// The figure with this weight alone in its form, and all others as they are, as measured, or as other forms of it let
    /// expect; `None` if nothing is known.
    #[serde(serialize_with = "maybe")]
    pub alone: Option<f64>,
    /// Why it got this form.
    pub why: String,
}

impl Trials<'_> {
    pub fn report(
        &self,
        best: &Choice,
        proved: &Proved,
        samples: Option<SearchSamples>,
        written: u64,
        seed: u64,
    ) -> SearchReport {
        let metric = self.goal.metric;
        let elements: usize = self.weights.iter().map(|w| w.elements).sum();
        let weights_of = |choice: &Choice| {
            let of = |(w, f): (&Weight, &Option<usize>)| bytes_of(w, *f);
            self.weights.iter().zip(choice).map(of).sum::<usize>()
        };
        let bits = |bytes: usize, elements: usize| 8.0 * bytes as f64 / elements.max(1) as f64;
        let form = |choice: &Choice| self.uniform_form(choice).map(|f| self.forms[f].to_string());
        // Sizes are those of the written file, as far as it is known what differs from it.
        let written = |bytes: u64| (bytes + written).saturating_sub(self.bytes(best));
        let whole = |choice: &Choice| self.tried.iter().any(|t| t.choice == *choice);
        // A task is not asked about the first samples.
        let only_screened = self.screened.iter().filter(|t| metric != Metric::Task && !whole(&t.choice));
        let mut curve: Vec<CurvePoint> = (self.tried.iter().chain(only_screened))
            .map(|tried| CurvePoint {
                bytes: written(tried.bytes),
                bits: bits(weights_of(&tried.choice), elements),
                figure: metric.worst(&tried.comparison).unwrap_or(metric.perfect()),
                form: form(&tried.choice),
                samples: tried.comparison.sets,
                best: false,
                chosen: tried.choice == *best,
            })
            .collect();
        curve.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(metric.order(a.figure, b.figure)));
        let mut so_far: Option<f64> = None;
        for point in &mut curve {
            point.best = so_far.is_none_or(|f| metric.is_better(point.figure, f));
            if point.best {
                so_far = Some(point.figure);
            }
        }
        let searched = |choice: &Choice| {
            let place = self.tried.iter().position(|t| t.choice == *choice);
            place.map_or(metric.perfect(), |place| self.figure(place))
        };
        let uniform = proved.uniform.map(|(at, bytes, proved_figure)| UniformForm {
            form: self.forms[at].to_string(),
            bytes: written(bytes),
            searched_figure: searched(&self.uniform(at)),
            proved_figure,
        });
        let weights = self.weights.iter().zip(best).map(|(weight, &form)| {
            let alone = |form: usize| {
                let trial = weight.forms.iter().find(|t| t.form == form)?;
                let noise = trial.noise.as_ref()?.iter().copied().fold(0.0, f64::max);
                (metric != Metric::Task).then(|| metric.of_noise(noise))
            };
            SearchedWeight {
                name: weight.name.clone(),
                shape: weight.shape.clone(),
                form: form.map(|f| self.forms[f].to_string()),
                bits: bits(bytes_of(weight, form), weight.elements),
                bytes: bytes_of(weight, form),
                alone: form.and_then(alone),
                why: self.why(weight, form, &alone),
            }
        });
        let mut notes = self.notes.clone();
        if samples.is_none() {
            notes.push(
                "without samples of real inputs, only forms that are the same for all weights were compared, on inputs that \
                 were drawn: they say little about real ones"
                    .to_owned(),
            );
        }
        SearchReport {
            metric,
            tolerance: self.goal.tolerance,
            max_bytes: self.goal.max_bytes,
            searched_figure: searched(best),
            proved_figure: proved.figure,
            form: form(best),
            uniform,
            samples,
            seed,
            predictions: self.runs.ceil() as usize,
            refused: proved.refused,
            stopped: self.is_stopped(),
            notes,
            curve,
            weights: weights.collect(),
        }
    }

    /// Why a weight has its form: what the next smaller one would save and lose.
    fn why(&self, weight: &Weight, form: Option<usize>, alone: &dyn Fn(usize) -> Option<f64>) -> String {
        let metric = self.goal.metric;
        let now = bytes_of(weight, form);
        if let (true, Some(why)) = (weight.forms.is_empty(), &weight.left) {
            return why.clone();
        }
        let measured = |t: &&Trial| t.noise.is_some();
        let does_nothing = |t: &Trial| t.noise.iter().flatten().all(|n| *n == 0.0);
        if form.is_none()
            && weight.forms.iter().filter(measured).count() > 0
            && weight.forms.iter().filter(measured).all(does_nothing)
        {
            return "no sample shows what it does".to_owned();
        }
        let smaller = weight.forms.iter().filter(measured).filter(|t| t.bytes < now).max_by_key(|t| t.bytes);
        let Some(next) = smaller else {
            return if form.is_some() {
                "no form is smaller".to_owned()
            } else {
                "it was not run by itself".to_owned()
            };
        };
        let saved = now - next.bytes;
        let by_itself = alone(next.form).map_or("unknown".to_owned(), |f| metric.show(f));
        let instead =
            form.and_then(alone).map_or(String::new(), |f| format!(" instead of {}", metric.show(f)));
        format!(
            "`{}` saves {saved} bytes more, and gives {by_itself} by itself{instead}",
            self.forms[next.form]
        )
    }
}

/// The bytes of a weight in a form.
fn bytes_of(weight: &Weight, form: Option<usize>) -> usize {
    let trial = form.and_then(|form| weight.forms.iter().find(|t| t.form == form));
    trial.map_or(weight.bytes, |t| t.bytes)
}
