//! Outputs as users see them: a table, small values, the best classes; and JSON.

use std::collections::BTreeMap;

use milwright::json::{dictionary_as_json, values_as_json};
use milwright::{FunctionInfo, Prediction, Tensor};
use serde::Serialize;
use serde_json::Value;

use crate::printer::{self, Printer, number};

/// Outputs with more elements than this are shown by their range only.
const SMALL: usize = 16;

/// What is said of an output.
#[derive(Serialize)]
pub struct Summary {
    dtype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    text: Vec<String>,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    not_finite: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Value>,
}

/// A class and its probability.
#[derive(Serialize)]
pub struct Class {
    label: Value,
    probability: f64,
}

impl Summary {
    /// Of all outputs, by name, with the elements if they are wanted.
    pub fn all(
        prediction: &Prediction,
        info: Option<&FunctionInfo>,
        data: bool,
    ) -> BTreeMap<String, Summary> {
        let outputs = prediction.outputs().iter();
        let summary = |(name, tensor): &(String, Tensor)| {
            let values = data.then(|| elements(prediction, info, name, tensor));
            (name.clone(), Summary { values, ..Summary::new(tensor) })
        };
        outputs.map(summary).collect()
    }

    fn new(tensor: &Tensor) -> Summary {
        let values = tensor.to_f64();
        let finite: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
        let fold = |f: fn(f64, f64) -> f64| finite.iter().copied().reduce(f);
        Summary {
            dtype: tensor.dtype().name(),
            shape: tensor.shape().to_vec(),
            text: tensor.strings().to_vec(),
            min: fold(f64::min),
            max: fold(f64::max),
            mean: (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64),
            not_finite: values.len() - finite.len(),
            values: None,
        }
    }
}

/// All elements of an output: nested lists, or an object for a dictionary.
fn elements(prediction: &Prediction, info: Option<&FunctionInfo>, name: &str, tensor: &Tensor) -> Value {
    match keys(prediction, info, name) {
        Some(keys) => dictionary_as_json(keys, tensor),
        None => nested(&values_as_json(tensor), tensor.shape()),
    }
}

/// The keys of a dictionary, in the order of its values; the classes of the probabilities of a classifier.
pub fn keys<'a>(prediction: &'a Prediction, info: Option<&FunctionInfo>, name: &str) -> Option<&'a Tensor> {
    let of_classes =
        || probabilities(prediction, info).is_some_and(|(probabilities, _)| probabilities == name);
    prediction.keys(name).or_else(|| prediction.classes().filter(|_| of_classes()))
}

/// The output with a probability for each class.
fn probabilities<'a>(
    prediction: &'a Prediction,
    info: Option<&FunctionInfo>,
) -> Option<&'a (String, Tensor)> {
    let classes = prediction.classes()?;
    let named = info.and_then(|f| f.predicted_probabilities.as_deref());
    let fits = |t: &Tensor| t.elements() == classes.elements() && t.dtype().is_float();
    let mut outputs = prediction.outputs().iter().filter(|(_, t)| fits(t));
    match named {
        Some(named) => outputs.find(|(n, _)| n == named),
        None => outputs.next(),
    }
}

fn nested(values: &[Value], shape: &[usize]) -> Value {
    match shape {
        [] => values.first().cloned().unwrap_or(Value::Null),
        [_] => Value::from(values.to_vec()),
        [n, rest @ ..] => {
            let len = rest.iter().product::<usize>();
            (0..*n).map(|i| nested(&values[i * len..(i + 1) * len], rest)).collect()
        }
    }
}

/// The classes of a classifier with the highest probabilities.
pub fn best(
    prediction: &Prediction,
    info: Option<&FunctionInfo>,
    count: usize,
) -> Option<(String, Vec<Class>)> {
    let (name, scores) = probabilities(prediction, info)?;
    let labels = values_as_json(prediction.classes()?);
    let mut best: Vec<Class> = labels
        .into_iter()
        .zip(scores.to_f64())
        .map(|(label, probability)| Class { label, probability })
        .collect();
    best.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    best.truncate(count);
    Some((name.clone(), best))
}

impl Class {
    pub fn label(&self) -> String {
        self.label.as_str().map_or_else(|| self.label.to_string(), str::to_owned)
    }

    pub fn probability(&self) -> String {
        if (0.0..=1.0).contains(&self.probability) {
            format!("{:.2} %", 100.0 * self.probability)
        } else {
            number(self.probability)
        }
    }
}

pub fn show(prediction: &Prediction, info: Option<&FunctionInfo>, top: usize, data: bool, printer: &Printer) {
    let mut table = printer.table(&["output", "type", "min", "mean", "max", "not finite"]);
    for (name, tensor) in prediction.outputs() {
        let s = Summary::new(tensor);
        let whole = tensor.dtype().is_int();
        let cell = |x: Option<f64>| x.map_or("–".to_owned(), number);
        let bound =
            |x: Option<f64>| if whole { x.map_or("–".to_owned(), |x| x.to_string()) } else { cell(x) };
        let shape = format!("{} {:?}", s.dtype, s.shape);
        table.add_row(vec![
            name.clone(),
            shape,
            bound(s.min),
            cell(s.mean),
            bound(s.max),
            s.not_finite.to_string(),
        ]);
    }
    printer::align_right(&mut table, &[2, 3, 4, 5]);
    printer.show(&table);
    let best = best(prediction, info, top);
    for (name, tensor) in prediction.outputs() {
        let is_shown_by_class = best.as_ref().is_some_and(|(n, _)| n == name) && !data;
        if (data || tensor.elements() <= SMALL) && !is_shown_by_class {
            printer.line(format!("{name} = {}", elements(prediction, info, name, tensor)));
        }
    }
    if let Some((name, classes)) = best {
        printer.line(format!("best {} of {name}:", classes.len()));
        let mut table = printer.table(&["class", "probability"]);
        printer::align_right(&mut table, &[1]);
        for class in classes {
            table.add_row(vec![class.label(), class.probability()]);
        }
        printer.show(&table);
    }
}

/// An output in a few words, for a row of a table.
pub fn in_short(prediction: &Prediction, info: Option<&FunctionInfo>) -> String {
    let each = |(name, tensor): &(String, Tensor)| {
        if tensor.elements() <= 4 {
            format!("{name} = {}", elements(prediction, info, name, tensor))
        } else {
            format!("{name}: {} {:?}", tensor.dtype().name(), tensor.shape())
        }
    };
    prediction.outputs().iter().map(each).collect::<Vec<_>>().join(", ")
}
