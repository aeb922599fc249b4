//! Models of classical statistics, and what prepares features for them: computed in double precision, as they are
//! stored. Each takes numbers by name and gives some.

mod features;
mod glm;
mod tree;

use milwright_spec::proto::{self as pb, model};

use crate::{Error, ErrorKind, FeatureType, FunctionInfo, ModelInfo, Prediction, Result, Tensor, largest};

/// A model that is not a program.
#[derive(Debug)]
pub(crate) struct Classic {
    kind: Kind,
    /// Of a classifier: a vector of strings or of int64.
    classes: Option<Tensor>,
}

#[derive(Debug)]
enum Kind {
    Glm(glm::Glm),
    Trees(tree::Trees),
    Features(features::Features),
}

impl Classic {
    /// Reads a model of one of these types.
    ///
    /// # Errors
    /// It is of another type, or malformed.
    pub fn new(model: &pb::Model) -> Result<Classic> {
        use model::Type as T;
        let kind = match &model.r#type {
            Some(T::GlmRegressor(m)) => Kind::Glm(glm::Glm::regressor(m)?),
            Some(T::GlmClassifier(m)) => Kind::Glm(glm::Glm::classifier(m)?),
            Some(T::TreeEnsembleRegressor(m)) => Kind::Trees(tree::Trees::regressor(m)?),
            Some(T::TreeEnsembleClassifier(m)) => Kind::Trees(tree::Trees::classifier(m)?),
            other => match features::Features::new(other.as_ref()) {
                Some(features) => Kind::Features(features),
                None => return Err(Error::new(ErrorKind::Unsupported, "not a model of numbers")),
            },
        };
        let classes = match &model.r#type {
            Some(T::GlmClassifier(m)) => Some(glm::classes(m)?),
            Some(T::TreeEnsembleClassifier(m)) => Some(tree::classes(m)?),
            _ => None,
        };
        Ok(Classic { kind, classes })
    }

    /// Computes the outputs that the model declares.
    ///
    /// # Errors
    /// An input is missing or of a wrong size, or an output is declared with a type that the model does not give.
    pub fn predict(&self, info: &ModelInfo, inputs: &[(String, Tensor)]) -> Result<Prediction> {
        let function = info.function(None).ok_or_else(|| Error::invalid("the model has no description"))?;
        let values = gather(function, inputs)?;
        let flat = || values.iter().flat_map(|(_, v)| v.iter().copied()).collect::<Vec<f64>>();
        let scores = match &self.kind {
            Kind::Glm(glm) => glm.compute(&flat())?,
            Kind::Trees(trees) => trees.compute(&flat())?,
            Kind::Features(features) => return features.compute(function, inputs, &values),
        };
        match &self.classes {
            Some(classes) => classify(function, classes, scores),
            None => Ok(Prediction::new(declared(function, &scores)?)),
        }
    }
}

/// The numbers of each input, in the order in which the model declares them.
fn gather<'a>(function: &'a FunctionInfo, inputs: &[(String, Tensor)]) -> Result<Vec<(&'a str, Vec<f64>)>> {
    if let Some((unknown, _)) = inputs.iter().find(|(n, _)| !function.inputs.iter().any(|i| i.name == *n)) {
        let names: Vec<&str> = function.inputs.iter().map(|i| i.name.as_str()).collect();
        let error = Error::invalid(format!("the model has no input `{unknown}`"));
        return Err(error.with_hint(format!("its inputs are: {}", names.join(", "))));
    }
    let numbers = |input: &'a crate::FeatureInfo| {
        let given = inputs.iter().find(|(n, _)| *n == input.name).map(|(_, t)| t);
        let given = given.ok_or_else(|| Error::invalid(format!("the input `{}` is missing", input.name)))?;
        if let FeatureType::MultiArray { shape, flexibility: crate::Flexibility::Fixed, .. } = &input.ty {
            let wanted = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
            if wanted != Some(given.elements() as u64) {
                let message = format!(
                    "the input `{}` has the shape {:?}, the model takes {shape:?}",
                    input.name,
                    given.shape()
                );
                return Err(Error::invalid(message));
            }
        }
        Ok((input.name.as_str(), given.to_f64()))
    };
    function.inputs.iter().map(numbers).collect()
}

/// The one output of a regressor, with its declared type.
fn declared(function: &FunctionInfo, values: &[f64]) -> Result<Vec<(String, Tensor)>> {
    let output = function.outputs.first().ok_or_else(|| Error::invalid("the model declares no output"))?;
    Ok(vec![(output.name.clone(), typed(&output.ty, values)?)])
}

/// Numbers as a feature of this type.
fn typed(ty: &FeatureType, values: &[f64]) -> Result<Tensor> {
    let unfit =
        || Error::invalid(format!("{} numbers do not make an output of its declared type", values.len()));
    match (ty, values) {
        (FeatureType::Double, [x]) => Ok(Tensor::scalar(*x)),
        (FeatureType::Int64, [x]) => Ok(Tensor::scalar(*x as i64)),
        (FeatureType::MultiArray { dtype, .. }, _) => {
            let shape = [values.len()];
            let tensor = match dtype.as_str() {
                "int32" => Tensor::from_vec(&shape, values.iter().map(|&x| x as i32).collect()),
                "fp32" => Tensor::from_vec(&shape, values.iter().map(|&x| x as f32).collect()),
                _ => Tensor::from_vec(&shape, values.to_vec()),
            };
            tensor.map_err(|_| unfit())
        }
        _ => Err(unfit()),
    }
}

fn classify(function: &FunctionInfo, classes: &Tensor, scores: Vec<f64>) -> Result<Prediction> {
    if classes.elements() != scores.len() {
        let message = format!("{} class labels for {} probabilities", classes.elements(), scores.len());
        return Err(Error::new(ErrorKind::Malformed, message));
    }
    let best = largest(&scores);
    let label = match classes.to_i64() {
        Some(numbers) => numbers.get(best).copied().map(Tensor::scalar),
        None => classes.strings().get(best).map(Tensor::string),
    };
    let probabilities =
        Tensor::from_vec(&[scores.len()], scores).map_err(|e| Error::invalid(e.to_string()))?;
    let mut outputs = Vec::new();
    for output in &function.outputs {
        let is = |name: &Option<String>| name.as_deref() == Some(output.name.as_str());
        match &label {
            Some(label) if is(&function.predicted_feature) => {
                outputs.push((output.name.clone(), label.clone()))
            }
            _ if is(&function.predicted_probabilities) => {
                outputs.push((output.name.clone(), probabilities.clone()));
            }
            _ => {}
        }
    }
    Ok(Prediction::new(outputs).with_classes(classes.clone()))
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
