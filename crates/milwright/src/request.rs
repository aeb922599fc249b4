//! The inputs and outputs of a prediction.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use milwright_mil::{DType, Tensor};

use crate::{Error, ErrorKind, NamedList, Result};

/// Named inputs for one prediction.
///
/// ```
/// use milwright::{Dictionary, InferenceRequest, Tensor};
///
/// let request = InferenceRequest::new()
///     .input("x", Tensor::scalar(1f32))
///     .dictionary("words", Dictionary::from_strings([("good", 2.0), ("bad", 1.0)]));
/// assert_eq!(request.inputs().len(), 2);
/// assert_eq!(request.keys("words").unwrap().strings(), ["good", "bad"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferenceRequest {
    inputs: NamedList<(String, Tensor)>,
    keys: BTreeMap<String, Tensor>,
    files: Files,
}

/// The files that inputs were read from, for error messages. They do not take part in comparisons of requests.
#[derive(Clone, Debug, Default)]
struct Files(BTreeMap<String, PathBuf>);

impl PartialEq for Files {
    fn eq(&self, _: &Files) -> bool {
        true
    }
}

/// A dictionary feature: numbers by key. The keys are all strings or all int64, and unique.
///
/// ```
/// use milwright::Dictionary;
///
/// let counts = Dictionary::from_ints([(7, 1.0), (3, 0.5)]);
/// assert_eq!(counts.keys().to_i64().unwrap(), [7, 3]);
/// assert_eq!(counts.values().to_f64(), [1.0, 0.5]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Dictionary {
    keys: Tensor,
    values: Tensor,
}

/// The outputs of one prediction, in the order in which the model declares them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    outputs: NamedList<(String, Tensor)>,
    classes: Option<Tensor>,
    keys: BTreeMap<String, Tensor>,
}

impl InferenceRequest {
    /// A request without inputs.
    pub fn new() -> InferenceRequest {
        InferenceRequest::default()
    }

    /// Sets an input, replacing an earlier one of this name: an array, a number, a string, or a vector for a sequence.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, tensor: Tensor) -> InferenceRequest {
        let name = name.into();
        self.keys.remove(&name);
        self.inputs.set((name, tensor));
        self
    }

    /// Sets a dictionary input, replacing an earlier one of this name.
    #[must_use]
    pub fn dictionary(self, name: impl Into<String>, dictionary: Dictionary) -> InferenceRequest {
        let name = name.into();
        let mut request = self.input(&name, dictionary.values);
        request.keys.insert(name, dictionary.keys);
        request
    }

    /// The inputs. A dictionary appears as the vector of its values; [`keys`](InferenceRequest::keys) returns its
    /// keys.
    pub fn inputs(&self) -> &NamedList<(String, Tensor)> {
        &self.inputs
    }

    /// The keys of a dictionary input, in the order of its values; `None` for other inputs.
    pub fn keys(&self, name: &str) -> Option<&Tensor> {
        self.keys.get(name)
    }

    /// The same inputs under other names.
    pub(crate) fn renamed(&self, name: impl Fn(&str) -> String) -> InferenceRequest {
        InferenceRequest {
            inputs: self.inputs.iter().map(|(n, tensor)| (name(n), tensor.clone())).collect(),
            keys: self.keys.iter().map(|(n, keys)| (name(n), keys.clone())).collect(),
            files: Files(self.files.0.iter().map(|(n, file)| (name(n), file.clone())).collect()),
        }
    }

    /// Records the file that an input was read from, so that [`explain`](InferenceRequest::explain) can name it in
    /// errors.
    #[must_use]
    pub fn read_from(mut self, name: impl Into<String>, file: impl Into<PathBuf>) -> InferenceRequest {
        self.files.0.insert(name.into(), file.into());
        self
    }

    /// Adds file names to an error of a prediction with these inputs: the file of the input that the error names, or
    /// else the first file.
    #[must_use]
    pub fn explain(&self, error: Error) -> Error {
        if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Runtime) {
            return error;
        }
        let message = error.message();
        // Ops and the models of a pipeline have inputs, too, which may have the same name.
        let is_of_model =
            |before: &str| before.is_empty() || before.ends_with("the ") && !before.starts_with("model ");
        let split = |called: &str| message.split_once(called).filter(|(before, _)| is_of_model(before));
        for (name, file) in &self.files.0 {
            let called = format!("input `{name}`");
            if let Some((before, after)) = split(&called) {
                let message = format!("{before}{called} ({}){after}", file.display());
                return error.with_message(message);
            }
        }
        // An input that is no file is not to be looked for in the files of others.
        if self.inputs.iter().any(|(name, _)| split(&format!("input `{name}`")).is_some()) {
            return error;
        }
        let Some(file) = self.files.0.values().next() else { return error };
        let more = if self.files.0.len() > 1 { " and others" } else { "" };
        let message = format!("{message} (the inputs are from {}{more})", file.display());
        error.with_message(message)
    }

    /// The file that an input was read from, if any is [recorded](InferenceRequest::read_from).
    pub fn file(&self, name: &str) -> Option<&std::path::Path> {
        self.files.0.get(name).map(PathBuf::as_path)
    }

    /// The input of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Tensor> {
        self.inputs.named(name).map(|(_, tensor)| tensor)
    }
}

impl Dictionary {
    /// A dictionary from a vector of keys and a vector of values, of the same length.
    ///
    /// # Errors
    /// The keys are neither strings nor integers, or a key occurs twice; the values are not numbers; or the two
    /// lengths differ.
    pub fn new(keys: Tensor, values: Tensor) -> Result<Dictionary> {
        if keys.elements() != values.elements() {
            let message = format!("{} keys for {} values", keys.elements(), values.elements());
            return Err(Error::invalid(message));
        }
        if values.dtype() == DType::String {
            return Err(Error::invalid("the values of a dictionary are numbers, not strings"));
        }
        let values = values.to_f64();
        if keys.dtype() == DType::String {
            return unique(keys.strings().iter().cloned(), values).map(Dictionary::from_strings);
        }
        let Some(keys) = keys.to_i64() else {
            return Err(Error::invalid("the keys of a dictionary are strings or int64"));
        };
        unique(keys.into_iter(), values).map(Dictionary::from_ints)
    }

    /// A dictionary with string keys. If a key occurs twice, the last value counts.
    pub fn from_strings<K: Into<String>>(entries: impl IntoIterator<Item = (K, f64)>) -> Dictionary {
        let entries: IndexMap<String, f64> = entries.into_iter().map(|(k, v)| (k.into(), v)).collect();
        let (keys, values): (Vec<String>, Vec<f64>) = entries.into_iter().unzip();
        let keys = Tensor::from_strings(&[keys.len()], keys).expect("the shape is the number of keys");
        Dictionary { keys, values: vector(values) }
    }

    /// A dictionary with int64 keys. If a key occurs twice, the last value counts.
    pub fn from_ints(entries: impl IntoIterator<Item = (i64, f64)>) -> Dictionary {
        let entries: IndexMap<i64, f64> = entries.into_iter().collect();
        let (keys, values): (Vec<i64>, Vec<f64>) = entries.into_iter().unzip();
        let keys = Tensor::from_vec(&[keys.len()], keys).expect("the shape is the number of keys");
        Dictionary { keys, values: vector(values) }
    }

    /// The keys: a vector of strings or of int64.
    pub fn keys(&self) -> &Tensor {
        &self.keys
    }

    /// The values in the order of the keys: a vector of doubles.
    pub fn values(&self) -> &Tensor {
        &self.values
    }
}

/// Collects the entries; `None` if a key occurs twice.
fn unique<K: Clone + Eq + std::hash::Hash + std::fmt::Debug>(
    keys: impl Iterator<Item = K>,
    values: Vec<f64>,
) -> Result<Vec<(K, f64)>> {
    let mut entries = IndexMap::with_capacity(values.len());
    for (key, value) in keys.zip(values) {
        if entries.insert(key.clone(), value).is_some() {
            return Err(Error::invalid(format!("the key {key:?} comes twice")));
        }
    }
    Ok(entries.into_iter().collect())
}

fn vector(values: Vec<f64>) -> Tensor {
    Tensor::from_vec(&[values.len()], values).expect("the shape is the number of values")
}

impl Prediction {
    /// What a backend computed.
    pub fn new(outputs: Vec<(String, Tensor)>) -> Prediction {
        Prediction { outputs: outputs.into_iter().collect(), ..Prediction::default() }
    }

    /// The same prediction with other outputs.
    pub(crate) fn with_outputs(self, outputs: Vec<(String, Tensor)>) -> Prediction {
        Prediction { outputs: outputs.into_iter().collect(), ..self }
    }

    /// Adds a classifier's classes, a vector in the order of the probabilities.
    #[must_use]
    pub fn with_classes(self, classes: Tensor) -> Prediction {
        Prediction { classes: Some(classes), ..self }
    }

    /// Marks an output as a dictionary with these keys.
    #[must_use]
    pub fn with_keys(mut self, name: impl Into<String>, keys: Tensor) -> Prediction {
        self.keys.insert(name.into(), keys);
        self
    }

    /// A classifier's classes: a vector of strings or of int64, in the order of the probabilities.
    pub fn classes(&self) -> Option<&Tensor> {
        self.classes.as_ref()
    }

    /// The keys of a dictionary output, in the order of its values; `None` for other outputs. A classifier's
    /// probabilities have [`classes`](Prediction::classes) instead.
    pub fn keys(&self, name: &str) -> Option<&Tensor> {
        self.keys.get(name)
    }

    /// The keys of all dictionary outputs, by name.
    pub(crate) fn all_keys(&self) -> &BTreeMap<String, Tensor> {
        &self.keys
    }

    /// The outputs, without copying them.
    pub fn into_outputs(self) -> Vec<(String, Tensor)> {
        self.outputs.into_iter().collect()
    }

    /// The outputs. A classifier's probabilities are a vector in the order of its classes; a dictionary's values are a
    /// vector in the order of its keys.
    pub fn outputs(&self) -> &NamedList<(String, Tensor)> {
        &self.outputs
    }

    /// The output of this name.
    pub fn output(&self, name: &str) -> Option<&Tensor> {
        self.outputs.named(name).map(|(_, tensor)| tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_are_two_vectors_of_one_length() {
        let strings = |s: &[&str]| {
            Tensor::from_strings(&[s.len()], s.iter().map(|s| (*s).to_owned()).collect()).unwrap()
        };
        let made = Dictionary::new(strings(&["a", "b"]), Tensor::from_vec(&[2], vec![1i32, 2]).unwrap());
        assert_eq!(made.unwrap(), Dictionary::from_strings([("a", 1.0), ("b", 2.0)]));
        let message = |keys: Tensor, values: Tensor| Dictionary::new(keys, values).unwrap_err().to_string();
        assert_eq!(message(strings(&["a"]), vector(vec![])), "1 keys for 0 values");
        assert_eq!(message(strings(&["a", "a"]), vector(vec![1.0, 2.0])), "the key \"a\" comes twice");
        assert!(message(vector(vec![1.0]), vector(vec![1.0])).contains("strings or int64"));
        assert!(message(strings(&["a"]), strings(&["b"])).contains("numbers"));
    }

    #[test]
    fn the_file_of_the_input_in_question_is_named() {
        let request = InferenceRequest::new().read_from("x", "x.npy").read_from("y", "y.npy");
        let explained = |message: &str| request.explain(Error::invalid(message)).to_string();
        assert_eq!(explained("the input `y` is missing"), "the input `y` (y.npy) is missing");
        assert_eq!(explained("input `x`: too long"), "input `x` (x.npy): too long");
        let request = request.clone().input("z", Tensor::scalar(1.0));
        let z = Error::invalid("input `z`: too long");
        assert_eq!(request.explain(z).to_string(), "input `z`: too long", "it is in no file");
        // Inputs of ops, and of what is inside.
        for message in
            ["op `a` (add): input `x` must be a tensor", "model 2 of the pipeline: the input `x` is missing"]
        {
            assert_eq!(explained(message), format!("{message} (the inputs are from x.npy and others)"));
        }
    }

    #[test]
    fn an_array_takes_the_place_of_a_dictionary() {
        let request = InferenceRequest::new().dictionary("x", Dictionary::from_ints([(1, 2.0)]));
        assert!(request.keys("x").is_some());
        assert!(request.input("x", Tensor::scalar(1.0)).keys("x").is_none());
    }
}
