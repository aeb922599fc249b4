//! Proof that two models compute the same: both run on the same inputs, and every output is compared.

use std::sync::Arc;

use serde::Serialize;
use serde::ser::SerializeMap as _;

use crate::provenance::{depends_on_inputs, measure};
use crate::{
    Backend, Cpu, Differences, Error, LoadOptions, Measure, Model, OutputDifference, PredictOptions,
    Prediction, Result, SampleSource, Samples, State, Tensor,
};

/// The differences between an original and another model.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// For each function that was run, what was found.
    pub functions: Vec<Comparison>,
}

/// The differences between one function of an original and that of another model.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The function.
    pub function: String,
    /// The inputs that both ran on.
    pub inputs: SampleSource,
    /// Sets of inputs.
    pub sets: usize,
    /// The outputs, as the original declares them; then what only the other has; then the states after the last run.
    pub outputs: Vec<OutputDifference>,
}

impl Proof {
    /// What is wrong at a tolerance, as `output: figure`, or `function.output: figure` where there are several functions.
    /// Without a tolerance only what is wrong at any: see [`OutputDifference::failure`].
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

    /// Whether any function ran on inputs that were drawn.
    pub fn is_smoke_test(&self) -> bool {
        self.functions.iter().any(|c| c.inputs.is_drawn())
    }
}

/// `functions` has the outputs by function, `inputs` what each ran on, and `samples` the sets of the first.
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

/// A list of the outputs; each row also says what inputs it was found on.
impl Serialize for Comparison {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row<'a> {
            #[serde(flatten)]
            output: &'a OutputDifference,
            samples: usize,
            inputs: &'a SampleSource,
        }
        let row = |output| Row { output, samples: self.sets, inputs: &self.inputs };
        serializer.collect_seq(self.outputs.iter().map(row))
    }
}

impl Comparison {
    /// What is wrong at a tolerance, as `output: figure`. Without one, only what is wrong at any.
    pub fn failures(&self, tolerance_db: impl Into<Option<f64>>) -> Vec<String> {
        let tolerance_db = tolerance_db.into();
        let failure = |o: &OutputDifference| Some(format!("{}: {}", o.name, o.failure(tolerance_db)?));
        self.outputs.iter().filter_map(failure).collect()
    }
}

/// Runs one function of two models on the same inputs and compares every output, and the states after the last run: all
/// sets of inputs go through the same states, in order. `progress` is called after each set.
///
/// # Errors
/// A model cannot be run, or the two take different inputs. What the outputs differ in is no error, but in the result.
pub fn compare(
    a: &Arc<Model>,
    b: &Arc<Model>,
    function: Option<&str>,
    samples: &Samples,
    options: &LoadOptions,
    progress: &mut dyn FnMut(),
) -> Result<Comparison> {
    let options = LoadOptions { function: function.map(str::to_owned), ..options.clone() };
    check_inputs(a, b, function)?;
    // An old network takes the declared form, too; what is compared with it need not take five dimensions.
    let fitted =
        a.has_five_dimensions().then(|| b.function(function).ok().map(|f| samples.fitted(f))).flatten();
    let samples = fitted.as_ref().unwrap_or(samples);
    // One after the other: both at once would take twice the memory.
    let mut expected = Vec::with_capacity(samples.requests.len());
    let states = run(a, &options, samples, &mut |prediction| expected.push(prediction));
    let states = states.map_err(|e| samples.source.explain(e))?;
    let mut outputs = Outputs { model: a, function, outputs: Vec::new() };
    let mut expected = expected.into_iter();
    let found = run(b, &options, samples, &mut |found| {
        if let Some(expected) = expected.next() {
            outputs.add(&expected, &found);
        }
        progress();
    });
    let found = found.map_err(|e| samples.source.explain_second(e))?;
    let name = function.unwrap_or(&a.info().default_function).to_owned();
    let mut outputs = outputs.finish(a.info().function(function).map_or(&[], |f| &f.outputs));
    excuse_choices(&mut outputs);
    outputs.extend(compare_states(&states, &found));
    Ok(Comparison { function: name, inputs: samples.source.clone(), sets: samples.requests.len(), outputs })
}

/// Runs a model on all sets, and gives its states after that.
fn run(
    model: &Arc<Model>,
    options: &LoadOptions,
    samples: &Samples,
    take: &mut dyn FnMut(Prediction),
) -> Result<States> {
    let mut session = Cpu.load(model, options)?;
    let mut state = session.new_state();
    let is_stateful = !state.names().is_empty();
    for request in &samples.requests {
        let state = is_stateful.then_some(&mut state);
        let prediction = session.predict_with(request, PredictOptions { state, ..PredictOptions::default() });
        take(prediction.map_err(|e| request.explain(e))?);
    }
    Ok(contents(&state))
}

/// Inputs that one of the two models needs and the other does not know.
fn check_inputs(a: &Model, b: &Model, function: Option<&str>) -> Result<()> {
    let (Some(x), Some(y)) = (a.info().function(function), b.info().function(function)) else {
        return Ok(());
    };
    let known = |name: &str, others: &crate::FunctionInfo| others.inputs.iter().any(|i| i.name == name);
    let lacks = x.inputs.iter().find(|i| !known(&i.name, y)).map(|i| (&i.name, b));
    let wants = y.inputs.iter().find(|i| !i.optional && !known(&i.name, x)).map(|i| (&i.name, a));
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

/// The sums for every output that one of the two gave.
struct Outputs<'a> {
    model: &'a Model,
    function: Option<&'a str>,
    outputs: Vec<(String, Differences)>,
}

impl Outputs<'_> {
    fn add(&mut self, expected: &Prediction, found: &Prediction) {
        for (name, a) in expected.outputs() {
            let keys = (self.keys(expected, name), self.keys(found, name));
            let sums = self.sums(name, a);
            match found.output(name) {
                None => sums.fault("it is lost: the second model does not have it"),
                Some(b) => match keys {
                    (None, None) => sums.add(a, b),
                    (Some(x), Some(y)) => match by_key(x, y, b) {
                        Some(b) => sums.add(a, &b),
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

    /// The keys of an output that is a dictionary, in the order of its values.
    fn keys<'b>(&self, prediction: &'b Prediction, name: &str) -> Option<&'b Tensor> {
        let probabilities = || self.model.info().function(self.function)?.predicted_probabilities.as_deref();
        prediction.keys(name).or_else(|| prediction.classes().filter(|_| Some(name) == probabilities()))
    }

    fn sums(&mut self, name: &str, first: &Tensor) -> &mut Differences {
        let at = self.outputs.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
            let sums = Differences::new(measure(self.model, self.function, name, first));
            let depends = depends_on_inputs(self.model, self.function, name);
            self.outputs.push((name.to_owned(), if depends { sums } else { sums.fixed() }));
            self.outputs.len() - 1
        });
        &mut self.outputs[at].1
    }

    /// The figures, in declared order.
    fn finish(self, declared: &[crate::FeatureInfo]) -> Vec<OutputDifference> {
        let mut outputs: Vec<_> = self.outputs.iter().map(|(name, sums)| sums.finish(name)).collect();
        let place =
            |o: &OutputDifference| declared.iter().position(|d| d.name == o.name).unwrap_or(declared.len());
        outputs.sort_by_key(place);
        outputs
    }
}

/// The values of a dictionary in the order of another one's keys, if they have the same keys.
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
    let at: std::collections::HashMap<&T, usize> = keys.iter().enumerate().map(|(i, k)| (k, i)).collect();
    let found: Option<Vec<usize>> = wanted.iter().map(|k| at.get(k).copied()).collect();
    found.filter(|found| found.len() == keys.len())
}

/// A choice that is the same for all inputs proves nothing by itself. Beside numbers that do depend on them, such as the
/// scores that a label comes from, it need not.
fn excuse_choices(outputs: &mut [OutputDifference]) {
    let judged = |o: &OutputDifference| o.measure != Measure::Choices && !o.constant && o.reason.is_none();
    if outputs.iter().any(judged) {
        for output in outputs.iter_mut().filter(|o| o.measure == Measure::Choices && o.constant) {
            output.reason = None;
        }
    }
}

/// The states of a model, by name.
type States = Vec<(String, Tensor)>;

fn contents(state: &State) -> States {
    let named = |name: &str| Some((name.to_owned(), state.read(name).ok()?.clone()));
    state.names().into_iter().filter_map(named).collect()
}

fn compare_states(a: &States, b: &States) -> Vec<OutputDifference> {
    let mut found = Vec::new();
    let get = |states: &States, name: &str| states.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
    for (name, x) in a {
        let mut sums = Differences::new(Differences::measure_of(x)).of_state();
        match get(b, name) {
            Some(y) => sums.add(x, &y),
            None => sums.fault("the state is lost: the second model does not have it"),
        }
        found.push(sums.finish(name));
    }
    for (name, _) in b.iter().filter(|(name, _)| get(a, name).is_none()) {
        let mut sums = Differences::default().of_state();
        sums.fault("the state is new: the first model does not have it");
        found.push(sums.finish(name));
    }
    found
}

#[cfg(test)]
mod tests;
