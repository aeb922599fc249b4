//! Proves that two models compute the same: runs both on the same inputs and compares every output.

mod seeds;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use milwright_convert::onnx::original_names;
use serde::Serialize;
use serde::ser::SerializeMap as _;

use crate::provenance::Provenance;
use crate::target::reference;
use crate::{
    ColorSpace, Differences, Error, FeatureInfo, FeatureType, InferenceRequest, LoadOptions, Measure, Model,
    NamedList, OutputDifference, PredictOptions, Prediction, Result, SampleSource, Samples, Session, State,
    Tensor,
};

/// The differences between an original and another model.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// The comparison of each function.
    pub functions: Vec<Comparison>,
}

/// What a caller makes of results: how many words are read right, say. A search for the smallest model holds it to the
/// tolerance, in place of a figure of the outputs.
pub trait MetricTask: std::fmt::Debug + Send + Sync {
    /// A number that is larger for better results.
    ///
    /// # Errors
    /// There is no such number.
    fn measure(&self, results: &[TaskResult<'_>]) -> Result<f64>;
}

/// What the original and another model give for the same inputs.
#[derive(Clone, Copy, Debug)]
pub struct TaskResult<'a> {
    /// The inputs.
    pub request: &'a InferenceRequest,
    /// What the original gives.
    pub expected: &'a Prediction,
    /// What the other model gives.
    pub found: &'a Prediction,
}

/// The differences between one function of an original and that of another model.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The function.
    pub function: String,
    /// The samples that both models ran on.
    pub inputs: SampleSource,
    /// The number of samples.
    pub sets: usize,
    /// Input shapes at which only the first model runs, if any were found, and why the second one fails.
    pub fails_at: Option<String>,
    /// What a [`MetricTask`] made of the results; `None` if there was none to ask.
    pub task: Option<f64>,
    /// The outputs: first those that the original declares, then those of the other model only, then the states after
    /// the last run.
    pub outputs: Vec<OutputDifference>,
}

impl Proof {
    /// The failures at a tolerance, as `output: figure`, or as `function.output: figure` if there are several
    /// functions. Without a tolerance, returns only what fails at any tolerance: see [`OutputDifference::failure`].
    pub fn failures(&self, tolerance_db: impl Into<Option<f64>>) -> Vec<String> {
        let tolerance_db = tolerance_db.into();
        let of = |c: &Comparison| {
            let prefix = if self.functions.len() > 1 { format!("{}.", c.function) } else { String::new() };
            c.failures(tolerance_db)
                .into_iter()
                .map(move |failure| format!("{prefix}{failure}"))
                .collect::<Vec<_>>()
        };
        self.functions.iter().flat_map(of).collect()
    }

    /// Whether any function ran on drawn inputs.
    pub fn is_smoke_test(&self) -> bool {
        self.functions.iter().any(|c| c.inputs.is_drawn())
    }
}

/// Serializes `functions` (the outputs by function), `inputs` (the samples of each function) and `samples` (the number
/// of samples of the first function).
impl Serialize for Proof {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        struct Map<'a, F>(&'a [Comparison], F);
        impl<T: Serialize, F: Fn(&Comparison) -> T> Serialize for Map<'_, F> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().map(|c| (&c.function, (self.1)(c))))
            }
        }
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("functions", &Map(&self.functions, |c: &Comparison| c.outputs.clone()))?;
        map.serialize_entry("inputs", &Map(&self.functions, |c: &Comparison| c.inputs.clone()))?;
        map.serialize_entry("samples", &self.functions.first().map_or(0, |c| c.sets))?;
        map.end()
    }
}

/// Serializes the list of outputs. Each row also names the source of its samples.
impl Serialize for Comparison {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows(None))
    }
}

/// An output with the source of its samples.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    output: &'a OutputDifference,
    samples: usize,
    inputs: &'a SampleSource,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a str>,
}

impl Comparison {
    fn rows<'a>(&'a self, function: Option<&'a str>) -> impl Iterator<Item = Row<'a>> {
        self.outputs.iter().map(move |output| Row {
            output,
            samples: self.sets,
            inputs: &self.inputs,
            function,
        })
    }
}

impl Proof {
    /// The outputs of all functions as one list, like that of a [`Comparison`]. If there are several functions, each
    /// row names its `function`.
    pub fn rows(&self) -> impl Serialize {
        let is_one = self.functions.len() == 1;
        let rows = |c| Comparison::rows(c, (!is_one).then_some(c.function.as_str()));
        self.functions.iter().flat_map(rows).collect::<Vec<_>>()
    }
}

impl Comparison {
    /// The failures at a tolerance, as `output: figure`. Without a tolerance, returns only what fails at any
    /// tolerance.
    pub fn failures(&self, tolerance_db: impl Into<Option<f64>>) -> Vec<String> {
        let tolerance_db = tolerance_db.into();
        let failure = |o: &OutputDifference| Some(format!("{}: {}", o.name, o.failure(tolerance_db)?));
        self.outputs.iter().filter_map(failure).collect()
    }
}

/// Runs one function of two models on the same inputs, and compares every output, and the states after the last run.
/// All samples use the same states, in order. `progress` is called after each sample.
///
/// # Errors
/// A model cannot be run, or the two models take different inputs. Differences between outputs are not an error; the
/// result lists them.
pub fn compare(
    a: &Arc<Model>,
    b: &Arc<Model>,
    function: Option<&str>,
    samples: &Samples,
    options: &LoadOptions,
    progress: &mut dyn FnMut(),
) -> Result<Comparison> {
    check_inputs(a, b, function, &Renames::of(a, b, function))?;
    Expected::of(a, b, function, samples, options)?.against(b, options, progress)
}

/// What a function of the original gives for samples, to compare other models with it.
pub(crate) struct Expected {
    model: Arc<Model>,
    function: Option<String>,
    samples: Samples,
    predictions: Vec<Prediction>,
    /// After the last run; `None` if unknown.
    states: Option<States>,
    /// Samples of other shapes on which the original runs, and the states after each.
    others: Vec<(InferenceRequest, Prediction, States)>,
    /// Whether the last dimension of numbers counts as scores.
    of_scores: bool,
    /// What is asked about the results, besides the comparison.
    task: Option<Arc<dyn MetricTask>>,
}

impl Expected {
    /// Runs the original, `a`. All samples use the same states, in order. The other models take what `b` takes.
    ///
    /// # Errors
    /// There are no samples, or the model cannot be run.
    pub fn of(
        a: &Arc<Model>,
        b: &Model,
        function: Option<&str>,
        samples: &Samples,
        options: &LoadOptions,
    ) -> Result<Expected> {
        let options = LoadOptions { function: function.map(str::to_owned), ..options.clone() };
        // An old network also accepts inputs in the declared shape, while the other model need not accept five dimensions.
        let fitted =
            a.has_five_dimensions().then(|| b.function(function).ok().map(|f| samples.fitted(f))).flatten();
        let samples = fitted.unwrap_or_else(|| samples.clone());
        if samples.requests.is_empty() {
            return Err(Error::invalid("there are no inputs to compare the two models on")
                .with_hint("give at least one set of inputs, or have one drawn"));
        }
        // The models run one after the other, because both at once would take twice the memory.
        let mut predictions = Vec::with_capacity(samples.requests.len());
        let ran = run(a, &options, &samples.requests, &mut |prediction| predictions.push(prediction));
        let (mut session, states) = ran.map_err(|e| samples.source.explain(e))?;
        let mut others = Vec::new();
        for request in &samples.others {
            let found = run_once(&mut *session, request);
            others.extend(found.ok().map(|(found, states)| (request.clone(), found, states)));
            options.cancel.check().map_err(|e| e.at(a.path()))?;
        }
        let (model, function) = (Arc::clone(a), function.map(str::to_owned));
        let states = Some(states);
        Ok(Expected { model, function, samples, predictions, states, others, of_scores: false, task: None })
    }

    /// Takes the last dimension of numbers for scores, of which the largest is a choice.
    pub fn of_scores(self, of_scores: bool) -> Expected {
        Expected { of_scores, ..self }
    }

    /// Also asks a task about the results.
    pub fn of_task(self, task: Option<Arc<dyn MetricTask>>) -> Expected {
        Expected { task, ..self }
    }

    /// The first samples only. The states after them are not known, and no task is asked.
    pub fn first(&self, count: usize) -> Expected {
        let count = count.min(self.predictions.len());
        let requests = self.samples.requests[..count].to_vec();
        Expected {
            model: Arc::clone(&self.model),
            function: self.function.clone(),
            samples: Samples { requests, others: Vec::new(), source: self.samples.source.clone() },
            predictions: self.predictions[..count].to_vec(),
            states: None,
            others: Vec::new(),
            of_scores: self.of_scores,
            task: None,
        }
    }

    /// The samples, as another model takes them.
    pub fn requests(&self, b: &Model) -> Vec<InferenceRequest> {
        let function = self.function.as_deref();
        let (colors, renames) = (Colors::of(&self.model, b, function), Renames::of(&self.model, b, function));
        self.samples.requests.iter().map(|r| renames.request(&colors.request(r))).collect()
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.samples.requests.len()
    }

    /// What the task makes of the results of another model, if there is one to ask.
    fn measure(&self, found: &[Prediction]) -> Result<Option<f64>> {
        let Some(task) = &self.task else { return Ok(None) };
        let all = self.samples.requests.iter().zip(&self.predictions).zip(found);
        let all = all.map(|((request, expected), found)| TaskResult { request, expected, found });
        let figure = task.measure(&all.collect::<Vec<_>>())?;
        if figure.is_nan() {
            return Err(Error::invalid("what a task makes of results is not a number (NaN)")
                .with_hint("it has to give a number that is larger for better results, whatever they are"));
        }
        Ok(Some(figure))
    }

    /// Compares what another model without states gave for the [`requests`](Expected::requests).
    ///
    /// # Errors
    /// The task cannot be asked.
    pub fn with(&self, b: &Model, found: Vec<Prediction>) -> Result<Comparison> {
        let (a, function) = (&self.model, self.function.as_deref());
        let (colors, renames) = (Colors::of(a, b, function), Renames::of(a, b, function));
        let mut outputs = Outputs::new(a, function, self.of_scores, &renames);
        let found: Vec<Prediction> =
            found.into_iter().map(|f| colors.prediction(renames.prediction(f))).collect();
        for (expected, found) in self.predictions.iter().zip(&found) {
            outputs.add(expected, found, Differences::add);
        }
        let task = self.measure(&found)?;
        let name = function.unwrap_or(&a.info().default_function).to_owned();
        let mut outputs = outputs.finish(a, b);
        excuse_choices(&mut outputs);
        let (inputs, sets) = (self.samples.source.clone(), self.len());
        Ok(Comparison { function: name, inputs, sets, fails_at: None, task, outputs })
    }

    /// Runs another model on the samples, and compares every output, and the states after the last run.
    ///
    /// # Errors
    /// The model cannot be run.
    pub fn against(
        &self,
        b: &Arc<Model>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(),
    ) -> Result<Comparison> {
        let (a, samples, function) = (&self.model, &self.samples, self.function.as_deref());
        let options = LoadOptions { function: self.function.clone(), ..options.clone() };
        let colors = Colors::of(a, b, function);
        let renames = Renames::of(a, b, function);
        let mut outputs = Outputs::new(a, function, self.of_scores, &renames);
        let mut expected = self.predictions.iter();
        let mut results = Vec::new();
        let requests: Vec<_> = samples.requests.iter().map(|r| renames.request(&colors.request(r))).collect();
        let ran = run(b, &options, &requests, &mut |found| {
            if let Some(expected) = expected.next() {
                let found = colors.prediction(renames.prediction(found));
                outputs.add(expected, &found, Differences::add);
                results.extend(self.task.is_some().then_some(found));
            }
            progress();
        });
        let (mut session, found) = ran.map_err(|e| samples.source.explain_second(e))?;
        let mut in_both: Vec<_> = self.states.iter().map(|states| (states.clone(), found.clone())).collect();
        let task = self.measure(&results)?;
        let mut fails_at = None;
        for (request, expected, states) in &self.others {
            match run_once(&mut *session, &renames.request(&colors.request(request))) {
                Ok((found, theirs)) => {
                    let found = colors.prediction(renames.prediction(found));
                    outputs.add(expected, &found, Differences::add_of_another_size);
                    in_both.push((states.clone(), theirs));
                }
                Err(error) => {
                    options.cancel.check().map_err(|e| e.at(b.path()))?;
                    let why =
                        format!("at {} only the first model runs: {}", shapes(request), error.message());
                    outputs.not_judged(&why);
                    fails_at.get_or_insert(why);
                }
            }
        }
        let name = function.unwrap_or(&a.info().default_function).to_owned();
        let mut outputs = outputs.finish(a, b);
        excuse_choices(&mut outputs);
        outputs.extend(compare_states(&in_both));
        let sets = samples.requests.len() + self.others.len();
        Ok(Comparison { function: name, inputs: samples.source.clone(), sets, fails_at, task, outputs })
    }
}

/// Compares all functions of two models with [`compare`]. If each model has only one function, their names may differ.
/// `samples` returns the samples for a function of the first model.
///
/// # Errors
/// As for [`compare`] and `samples`; or a model has a function that the other lacks.
pub fn compare_functions(
    a: &Arc<Model>,
    b: &Arc<Model>,
    samples: &mut dyn FnMut(Option<&str>) -> Result<Samples>,
    options: &LoadOptions,
    progress: &mut dyn FnMut(),
) -> Result<Proof> {
    let [ours, theirs] = [a, b].map(|m| m.function_names());
    if ours.len() <= 1 && theirs.len() <= 1 {
        let functions = vec![compare(a, b, None, &samples(None)?, options, progress)?];
        return Ok(Proof { functions });
    }
    let lacks = |from: &[&str], model: &Model, others: &[&str]| {
        let name = others.iter().find(|name| !from.contains(name))?;
        let message =
            format!("the two models have different functions: {} has no `{name}`", model.path().display());
        Some(Error::invalid(message).with_hint(format!(
            "the functions of the first are: {}; those of the second: {}. A single function that both have can be compared: \
             --function NAME",
            ours.join(", "),
            theirs.join(", ")
        )))
    };
    if let Some(error) = lacks(&theirs, b, &ours).or_else(|| lacks(&ours, a, &theirs)) {
        return Err(error);
    }
    let one = |name: &&str| compare(a, b, Some(name), &samples(Some(name))?, options, progress);
    Ok(Proof { functions: ours.iter().map(one).collect::<Result<_>>()? })
}

/// Runs a model on all samples. Returns its session, and the states after the last run.
fn run(
    model: &Arc<Model>,
    options: &LoadOptions,
    requests: &[InferenceRequest],
    take: &mut dyn FnMut(Prediction),
) -> Result<(Box<dyn Session>, States)> {
    let seeded = seeds::seeded(model)?;
    let mut session = reference().session(seeded.as_ref().unwrap_or(model), options)?;
    let mut state = session.new_state();
    let is_stateful = !state.names().is_empty();
    for request in requests {
        let state = is_stateful.then_some(&mut state);
        let prediction = session.predict_with(request, PredictOptions { state, ..PredictOptions::default() });
        take(prediction.map_err(|e| request.explain(e))?);
    }
    let states = contents(&state);
    Ok((session, states))
}

/// Runs a sample on new states, which a failed run may leave half-written. Returns the states after it, too.
fn run_once(session: &mut dyn Session, request: &InferenceRequest) -> Result<(Prediction, States)> {
    let mut state = session.new_state();
    let given = (!state.names().is_empty()).then_some(&mut state);
    let found =
        session.predict_with(request, PredictOptions { state: given, ..PredictOptions::default() })?;
    Ok((found, contents(&state)))
}

/// The shapes of a sample's inputs, in words.
fn shapes(request: &InferenceRequest) -> String {
    let shape = |(name, tensor): &(String, Tensor)| format!("`{name}` {:?}", tensor.shape());
    request.inputs().iter().map(shape).collect::<Vec<_>>().join(", ")
}

/// Refuses inputs that one of the models requires and the other does not have.
fn check_inputs(a: &Model, b: &Model, function: Option<&str>, renames: &Renames) -> Result<()> {
    let (Some(x), Some(y)) = (a.info().function(function), b.info().function(function)) else {
        return Ok(());
    };
    let known = |name: &str, others: &crate::FunctionInfo| others.inputs.named(name).is_some();
    let lacks = x.inputs.iter().find(|i| !known(renames.input(&i.name), y)).map(|i| (&i.name, b));
    let renamed: HashSet<&String> = renames.inputs.values().collect();
    let is_renamed = |name: &String| renamed.contains(name);
    let mut wants = y.inputs.iter().filter(|i| !i.optional && !is_renamed(&i.name));
    let wants = wants.find(|i| !known(&i.name, x)).map(|i| (&i.name, a));
    let Some((name, without)) = lacks.or(wants) else { return Ok(()) };
    let names =
        |f: &crate::FunctionInfo| f.inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ");
    let message =
        format!("the two models take different inputs: {} has no input `{name}`", without.path().display());
    Err(Error::invalid(message).with_hint(format!(
        "the inputs of the first are: {}; those of the second: {}",
        names(x),
        names(y)
    )))
}

/// The summed differences of every output of either model.
struct Outputs<'a> {
    model: &'a Model,
    function: Option<&'a str>,
    provenance: Provenance<'a>,
    of_scores: bool,
    renames: &'a Renames,
    outputs: NamedList<(String, Differences)>,
}

/// Adds two results to the sums of an output.
type Add = fn(&mut Differences, &Tensor, &Tensor);

impl<'a> Outputs<'a> {
    fn new(
        model: &'a Model,
        function: Option<&'a str>,
        of_scores: bool,
        renames: &'a Renames,
    ) -> Outputs<'a> {
        let provenance = Provenance::of(model, function);
        Outputs { model, function, provenance, of_scores, renames, outputs: NamedList::default() }
    }

    fn add(&mut self, expected: &Prediction, found: &Prediction, add: Add) {
        for (name, a) in expected.outputs() {
            let keys = (self.keys(expected, name), self.keys(found, name));
            let sums = self.sums(name, a);
            match found.output(name) {
                None => sums.fault("it is lost: the second model does not have it"),
                Some(b) => match keys {
                    (None, None) => add(sums, a, b),
                    (Some(x), Some(y)) => match by_key(x, y, b) {
                        Some(b) => add(sums, a, &b),
                        None => sums.fault("it has other keys"),
                    },
                    _ => sums.fault("it is a dictionary in one of the two models only"),
                },
            }
        }
        for (name, b) in found.outputs() {
            if expected.output(name).is_none() {
                self.sums(name, b).fault("it is new: the first model does not have it");
            }
        }
    }

    /// The keys of a dictionary output, in the order of its values; `None` for other outputs.
    fn keys<'b>(&self, prediction: &'b Prediction, name: &str) -> Option<&'b Tensor> {
        let probabilities = || self.model.info().function(self.function)?.predicted_probabilities.as_deref();
        prediction.keys(name).or_else(|| prediction.classes().filter(|_| Some(name) == probabilities()))
    }

    fn sums(&mut self, name: &str, first: &Tensor) -> &mut Differences {
        if self.outputs.named(name).is_none() {
            let measure = match self.provenance.measure(name, first) {
                Measure::Numbers if self.of_scores => Measure::Scores,
                measure => measure,
            };
            let sums = Differences::new(measure);
            let depends = self.provenance.depends_on_inputs(name);
            self.outputs.set((name.to_owned(), if depends { sums } else { sums.fixed() }));
        }
        &mut self.outputs.named_mut(name).expect("it was added above").1
    }

    /// Records for every output why it cannot be judged.
    fn not_judged(&mut self, why: &str) {
        self.outputs.iter_mut().for_each(|(_, sums)| sums.not_judged(why));
    }

    /// The differences, in declared order. An output that only the original declares is a fault, because callers rely
    /// on it.
    fn finish(mut self, a: &Model, b: &Model) -> Vec<OutputDifference> {
        let none = NamedList::default();
        let [declared, others] =
            [a, b].map(|m| m.info().function(self.function).map_or(&none, |f| &f.outputs));
        for (name, sums) in self.outputs.iter_mut().filter(|(_, sums)| !sums.is_faulty()) {
            let ty = |all: &NamedList<FeatureInfo>, name: &str| all.named(name).map(|f| f.ty.clone());
            match (ty(declared, name), ty(others, self.renames.output(name))) {
                (Some(_), None) => sums.fault("it is lost: the second model does not declare it"),
                (Some(x), Some(y)) if is_image(&x) != is_image(&y) => {
                    sums.fault("it is an image in one of the two models only");
                }
                _ => {}
            }
        }
        let mut outputs: Vec<_> = self.outputs.iter().map(|(name, sums)| sums.finish(name)).collect();
        let place = |o: &OutputDifference| declared.position(&o.name).unwrap_or(declared.len());
        outputs.sort_by_key(place);
        outputs
    }
}

fn is_image(ty: &FeatureType) -> bool {
    matches!(ty, FeatureType::Image { .. })
}

/// The inputs and outputs that the two models call by different names: the second model's name by the first's. Packages of ONNX
/// models keep the names that they had to change in their metadata.
#[derive(Default)]
struct Renames {
    inputs: HashMap<String, String>,
    outputs: HashMap<String, String>,
    /// The first model's names of outputs by the second model's.
    first_outputs: HashMap<String, String>,
}

impl Renames {
    fn of(a: &Model, b: &Model, function: Option<&str>) -> Renames {
        let [of_a, of_b] = [a, b].map(|m| original_names(&m.info().user_defined));
        let (Some(a), Some(b)) = (a.info().function(function), b.info().function(function)) else {
            return Renames::default();
        };
        let pairs = |a: &NamedList<FeatureInfo>, b: &NamedList<FeatureInfo>| -> Vec<(String, String)> {
            let original =
                |names: &BTreeMap<String, String>, name: &String| names.get(name).unwrap_or(name).clone();
            // Of several with one original name, the first.
            let free = b.iter().rev().filter(|y| a.named(&y.name).is_none());
            let free: HashMap<String, &String> = free.map(|y| (original(&of_b, &y.name), &y.name)).collect();
            let second =
                |x: &FeatureInfo| free.get(&original(&of_a, &x.name)).map(|&y| (x.name.clone(), y.clone()));
            a.iter().filter(|x| b.named(&x.name).is_none()).filter_map(second).collect()
        };
        let outputs = pairs(&a.outputs, &b.outputs);
        let first = |(first, second): &(String, String)| (second.clone(), first.clone());
        Renames {
            inputs: pairs(&a.inputs, &b.inputs).into_iter().collect(),
            first_outputs: outputs.iter().rev().map(first).collect(),
            outputs: outputs.into_iter().collect(),
        }
    }

    /// The second model's name of an input.
    fn input<'a>(&'a self, name: &'a str) -> &'a str {
        self.inputs.get(name).map_or(name, String::as_str)
    }

    /// The second model's name of an output.
    fn output<'a>(&'a self, name: &'a str) -> &'a str {
        self.outputs.get(name).map_or(name, String::as_str)
    }

    /// A sample with the second model's names.
    fn request(&self, request: &InferenceRequest) -> InferenceRequest {
        if self.inputs.is_empty() {
            return request.clone();
        }
        request.renamed(|name| self.input(name).to_owned())
    }

    /// A result of the second model with the first model's names.
    fn prediction(&self, found: Prediction) -> Prediction {
        if self.outputs.is_empty() {
            return found;
        }
        let first = |name: &String| self.first_outputs.get(name).unwrap_or(name).clone();
        let outputs = found.outputs().iter().map(|(name, tensor)| (first(name), tensor.clone())).collect();
        found.with_outputs(outputs)
    }
}

/// The inputs and outputs that are RGB images in one model and BGR images in the other. Both models should see the
/// same picture, and the comparison is between the pictures.
#[derive(Default)]
struct Colors {
    inputs: HashSet<String>,
    outputs: HashSet<String>,
}

impl Colors {
    fn of(a: &Model, b: &Model, function: Option<&str>) -> Colors {
        let (Some(a), Some(b)) = (a.info().function(function), b.info().function(function)) else {
            return Colors::default();
        };
        let color = |f: &FeatureInfo| match f.ty {
            FeatureType::Image { color, .. } => color,
            _ => ColorSpace::Unknown,
        };
        let turned = |a: &NamedList<FeatureInfo>, b: &NamedList<FeatureInfo>| {
            let pairs = a.iter().filter_map(|x| Some((x, b.named(&x.name)?)));
            let of_three = |c: ColorSpace| matches!(c, ColorSpace::Rgb | ColorSpace::Bgr);
            let turned = pairs
                .map(|(x, y)| (x, color(x), color(y)))
                .filter(|&(_, x, y)| x != y && of_three(x) && of_three(y));
            turned.map(|(x, ..)| x.name.clone()).collect()
        };
        Colors { inputs: turned(&a.inputs, &b.inputs), outputs: turned(&a.outputs, &b.outputs) }
    }

    /// Converts a sample for the second model.
    fn request(&self, request: &InferenceRequest) -> InferenceRequest {
        let mut turned = request.clone();
        for (name, tensor) in request.inputs().iter().filter(|(name, _)| self.inputs.contains(name)) {
            turned = turned.input(name, planes_turned(tensor));
        }
        turned
    }

    /// Converts a result of the second model to the first model's colour order.
    fn prediction(&self, found: Prediction) -> Prediction {
        if self.outputs.is_empty() {
            return found;
        }
        let turned = |(name, tensor): &(String, Tensor)| {
            let turned = self.outputs.contains(name).then(|| planes_turned(tensor));
            (name.clone(), turned.unwrap_or_else(|| tensor.clone()))
        };
        let outputs = found.outputs().iter().map(turned).collect();
        found.with_outputs(outputs)
    }
}

/// Reverses the order of the three channels of an image, whose shape ends with 3 × height × width.
fn planes_turned(tensor: &Tensor) -> Tensor {
    let size = match tensor.shape() {
        [.., 3, height, width] if tensor.dtype().bits() >= 8 => height * width * tensor.dtype().bits() / 8,
        _ => return tensor.clone(),
    };
    if size == 0 {
        return tensor.clone();
    }
    let picture = |picture: &[u8]| picture.chunks(size).rev().flatten().copied().collect::<Vec<u8>>();
    let bytes: Vec<u8> = tensor.bytes().chunks(3 * size).flat_map(picture).collect();
    Tensor::from_bytes(tensor.dtype(), tensor.shape(), bytes.into()).unwrap_or_else(|_| tensor.clone())
}

/// Reorders the values of a dictionary by another one's keys; `None` if the keys differ.
fn by_key(wanted: &Tensor, keys: &Tensor, values: &Tensor) -> Option<Tensor> {
    if wanted == keys {
        return Some(values.clone());
    }
    let places: Vec<usize> = match (wanted.to_i64(), keys.to_i64()) {
        (Some(wanted), Some(keys)) => places(&wanted, &keys)?,
        (None, None) => places(wanted.strings(), keys.strings())?,
        _ => return None,
    };
    let all = values.to_f64();
    let values: Vec<f64> = places.iter().map(|&i| all.get(i).copied()).collect::<Option<_>>()?;
    let tensor = Tensor::from_vec(&[values.len()], values).ok()?;
    Some(tensor)
}

fn places<T: std::hash::Hash + Eq>(wanted: &[T], keys: &[T]) -> Option<Vec<usize>> {
    let at: HashMap<&T, usize> = keys.iter().enumerate().map(|(i, k)| (k, i)).collect();
    let found: Option<Vec<usize>> = wanted.iter().map(|k| at.get(k).copied()).collect();
    // A duplicate key would hide a value.
    found.filter(|found| found.len() == keys.len() && at.len() == keys.len())
}

/// Accepts choices that never change if there are numbers beside them that depend on the inputs, such as the scores of
/// a label. On its own, a choice that is the same for all inputs proves nothing.
fn excuse_choices(outputs: &mut [OutputDifference]) {
    let judged = |o: &OutputDifference| o.measure != Measure::Choices && !o.constant && o.reason.is_none();
    if outputs.iter().any(judged) {
        for output in outputs.iter_mut().filter(|o| o.measure == Measure::Choices && o.constant) {
            output.reason = None;
        }
    }
}

/// The states of a model, by name.
type States = NamedList<(String, Tensor)>;

fn contents(state: &State) -> States {
    let named = |name: &str| Some((name.to_owned(), state.read(name).ok()?.clone()));
    state.names().into_iter().filter_map(named).collect()
}

/// Compares the states of both models: after the last run, and after each run at another size.
fn compare_states(runs: &[(States, States)]) -> Vec<OutputDifference> {
    let mut found: NamedList<(String, Differences)> = NamedList::default();
    for (run, (a, b)) in runs.iter().enumerate() {
        for (name, x) in a {
            if found.named(name).is_none() {
                found.set((name.clone(), Differences::new(Differences::measure_of(x)).of_state()));
            }
            let sums = &mut found.named_mut(name).expect("it was added above").1;
            match b.named(name) {
                Some((_, y)) if run == 0 => sums.add(x, y),
                Some((_, y)) => sums.add_of_another_size(x, y),
                None => sums.fault("the state is lost: the second model does not have it"),
            }
        }
        for (name, _) in b.iter().filter(|(name, _)| a.named(name).is_none()) {
            if found.named(name).is_none() {
                let mut sums = Differences::default().of_state();
                sums.fault("the state is new: the first model does not have it");
                found.set((name.clone(), sums));
            }
        }
    }
    found.iter().map(|(name, sums)| sums.finish(name)).collect()
}

#[cfg(test)]
mod tests;
