//! Classical machine-learning models and feature transformers. They compute in double precision, as they are stored.
//! Each takes features by name and returns features by name.

mod categories;
mod features;
mod given;
mod glm;
mod neighbors;
mod suppression;
mod svm;
#[cfg(test)]
mod tests;
mod tree;

use milwright_formats::proto::{self as pb, model};

use self::given::Given;
use crate::{
    ArrayType, Error, ErrorKind, FeatureInfo, FeatureType, FunctionInfo, InferenceRequest, ModelInfo,
    Prediction, Result, Tensor, largest,
};

/// A classical model.
#[derive(Debug)]
pub(crate) struct Classic {
    kind: Kind,
    /// The classes of a classifier: a vector of strings or of int64.
    classes: Option<Tensor>,
}

#[derive(Debug)]
enum Kind {
    Glm(glm::Glm),
    Trees(tree::Trees),
    SupportVectors(svm::Machine),
    Neighbors(neighbors::Neighbors),
    Features(features::Features),
    Categories(categories::Categories),
    Suppression(suppression::Suppression),
}

/// Checked regularly by long computations. Returns an error if the prediction has to end.
pub(crate) type Stop<'a> = &'a dyn Fn() -> Result<()>;

impl Classic {
    /// Reads a model of one of the classical types.
    ///
    /// # Errors
    /// The model has another type, or is malformed.
    pub fn new(model: &pb::Model) -> Result<Classic> {
        use model::Type as T;
        let ty = model.r#type.as_ref();
        let (kind, classes) = match ty {
            Some(T::GlmRegressor(m)) => (Kind::Glm(glm::Glm::regressor(m)?), None),
            Some(T::GlmClassifier(m)) => (Kind::Glm(glm::Glm::classifier(m)?), Some(glm::classes(m)?)),
            Some(T::TreeEnsembleRegressor(m)) => (Kind::Trees(tree::Trees::regressor(m)?), None),
            Some(T::TreeEnsembleClassifier(m)) => {
                (Kind::Trees(tree::Trees::classifier(m)?), Some(tree::classes(m)?))
            }
            Some(T::SupportVectorRegressor(m)) => (Kind::SupportVectors(svm::Machine::regressor(m)?), None),
            Some(T::SupportVectorClassifier(m)) => {
                let classes = svm::classes(m)?;
                (Kind::SupportVectors(svm::Machine::classifier(m, classes.elements())?), Some(classes))
            }
            Some(T::KNearestNeighborsClassifier(m)) => {
                let (neighbors, classes) = neighbors::Neighbors::new(m)?;
                (Kind::Neighbors(neighbors), Some(classes))
            }
            Some(T::NonMaximumSuppression(m)) => (Kind::Suppression(suppression::Suppression::new(m)?), None),
            other => match (features::Features::new(other)?, categories::Categories::new(other)?) {
                (Some(features), _) => (Kind::Features(features), None),
                (_, Some(categories)) => (Kind::Categories(categories), None),
                _ => return Err(Error::new(ErrorKind::Unsupported, "not a model of numbers")),
            },
        };
        Ok(Classic { kind, classes })
    }

    /// Inputs that the model accepts even if it does not declare them: exporters of detectors declare the thresholds
    /// only for the pipeline.
    pub fn undeclared_inputs(&self) -> &[String] {
        match &self.kind {
            Kind::Suppression(suppression) => suppression.thresholds(),
            _ => &[],
        }
    }

    /// The range of numbers to try for an input for which the model has its own value.
    pub fn value_for(&self, input: &str) -> Option<(f64, f64)> {
        match &self.kind {
            Kind::Suppression(suppression) => suppression.range(input),
            _ => None,
        }
    }

    /// Computes the outputs that the model declares.
    ///
    /// # Errors
    /// An input is missing or has a wrong size, or an output is declared with a type that the model does not produce.
    pub fn predict(
        &self,
        info: &ModelInfo,
        request: &InferenceRequest,
        stop: Stop<'_>,
    ) -> Result<Prediction> {
        let function = info.function(None).ok_or_else(|| Error::invalid("the model has no description"))?;
        let given = Given::new(function, request, self.undeclared_inputs())?;
        let scores = match &self.kind {
            Kind::Glm(glm) => glm.compute(&given.numbers()?)?,
            Kind::Trees(trees) => trees.compute(&given.numbers()?)?,
            Kind::SupportVectors(machine) => {
                let outcome = machine.compute(&given.numbers()?, stop)?;
                let Some(classes) = &self.classes else { return regress(function, &outcome.scores) };
                let probabilities = outcome.are_probabilities.then_some(outcome.scores);
                return classify(function, classes, outcome.best, probabilities);
            }
            Kind::Neighbors(neighbors) => {
                let shares = neighbors.compute(&given.numbers()?, stop)?;
                let classes = self.classes.as_ref().expect("a classifier has classes");
                if shares.is_empty() {
                    return neighbors.of_nothing(function, classes);
                }
                shares
            }
            Kind::Features(features) => return features.compute(&given),
            Kind::Categories(categories) => return categories.compute(&given),
            Kind::Suppression(suppression) => return suppression.compute(&given, stop),
        };
        match &self.classes {
            Some(classes) => classify(function, classes, largest(&scores), Some(scores)),
            None => regress(function, &scores),
        }
    }
}

/// A regressor's output, converted to its declared type.
fn regress(function: &FunctionInfo, values: &[f64]) -> Result<Prediction> {
    let named = function.predicted_feature.as_ref();
    let predicted = named.and_then(|name| function.outputs.named(name));
    let output = predicted.map_or_else(|| first_output(function), Ok)?;
    Ok(Prediction::new(vec![(output.name.clone(), typed(output, values)?)]))
}

fn first_output(function: &FunctionInfo) -> Result<&FeatureInfo> {
    function.outputs.first().ok_or_else(|| Error::invalid("the model declares no output"))
}

/// Converts numbers to the declared type of an output. Integers must be exact: nothing is truncated.
fn typed(output: &FeatureInfo, values: &[f64]) -> Result<Tensor> {
    let unfit = |why: &str| {
        let name = &output.name;
        Error::invalid(format!("{} numbers do not make the output `{name}`: {why}", values.len()))
    };
    let whole =
        |low: f64, high: f64| match values.iter().find(|x| !(x.fract() == 0.0 && **x >= low && **x < high)) {
            Some(x) => {
                Err(Error::invalid(format!("the output `{}` is a whole number, {x} is not one", output.name)))
            }
            None => Ok(()),
        };
    match (&output.ty, values) {
        (FeatureType::Double, [x]) => Ok(Tensor::scalar(*x)),
        (FeatureType::Int64, [x]) => {
            whole(-(2f64.powi(63)), 2f64.powi(63))?;
            Ok(Tensor::scalar(*x as i64))
        }
        (FeatureType::MultiArray { dtype, shape, .. }, _) => {
            let declared: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
            let elements = declared.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            let fits = !declared.is_empty() && elements == Some(values.len());
            let shape = if fits { declared } else { vec![values.len()] };
            if dtype.is_int() {
                whole(-(2f64.powi(31)), 2f64.powi(31))?;
            }
            array(*dtype, &shape, values).ok_or_else(|| unfit("it is an array of another size"))
        }
        (FeatureType::Double | FeatureType::Int64, _) => Err(unfit("it is a single number")),
        _ => Err(unfit("it is not declared as numbers")),
    }
}

/// Converts numbers to an array of a declared element type.
fn array(dtype: ArrayType, shape: &[usize], values: &[f64]) -> Option<Tensor> {
    let tensor = match dtype {
        ArrayType::Int32 => Tensor::from_vec(shape, values.iter().map(|&x| x as i32).collect()),
        ArrayType::Float32 => Tensor::from_vec(shape, values.iter().map(|&x| x as f32).collect()),
        ArrayType::Float16 => {
            let wide = Tensor::from_vec(shape, values.to_vec()).ok()?;
            return wide.converted(crate::DType::Fp16);
        }
        _ => Tensor::from_vec(shape, values.to_vec()),
    };
    tensor.ok()
}

/// A classifier's outputs: the label of the best class, and the score of each class, if it is known.
fn classify(
    function: &FunctionInfo,
    classes: &Tensor,
    best: usize,
    scores: Option<Vec<f64>>,
) -> Result<Prediction> {
    let count = scores.as_ref().map_or(classes.elements(), Vec::len);
    if classes.elements() != count {
        let message = format!("{} class labels for {count} probabilities", classes.elements());
        return Err(malformed(message));
    }
    let label = match classes.to_i64() {
        Some(numbers) => numbers.get(best).copied().map(Tensor::scalar),
        None => classes.strings().get(best).map(Tensor::string),
    };
    let label = label.ok_or_else(|| malformed("the classifier has no classes"))?;
    let probabilities = match scores {
        Some(scores) => Some(Tensor::from_vec(&[count], scores).map_err(|e| Error::invalid(e.to_string()))?),
        None => None,
    };
    Ok(labelled(function, label, probabilities).with_classes(classes.clone()))
}

/// Stores a label and probabilities under their declared names.
fn labelled(function: &FunctionInfo, label: Tensor, probabilities: Option<Tensor>) -> Prediction {
    let is = |output: &FeatureInfo, name: &Option<String>| name.as_deref() == Some(output.name.as_str());
    let value = |output: &FeatureInfo| match &probabilities {
        _ if is(output, &function.predicted_feature) => Some((output.name.clone(), label.clone())),
        Some(p) if is(output, &function.predicted_probabilities) => Some((output.name.clone(), p.clone())),
        _ => None,
    };
    Prediction::new(function.outputs.iter().filter_map(value).collect())
}

fn labels(strings: Option<&[String]>, ints: Option<&[i64]>) -> Result<Tensor> {
    let tensor = match (strings, ints) {
        (Some(s), _) => Tensor::from_strings(&[s.len()], s.to_vec()),
        (_, Some(i)) => Tensor::from_vec(&[i.len()], i.to_vec()),
        _ => return Err(malformed("the classifier has no class labels")),
    };
    tensor.map_err(|e| malformed(e.to_string()))
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}
