//! What goes into a prediction and what comes out.

use milwright_mil::Tensor;

/// Named inputs for one prediction.
///
/// ```
/// use milwright::{InferenceRequest, Tensor};
///
/// let request = InferenceRequest::new().input("x", Tensor::scalar(1f32));
/// assert_eq!(request.inputs().len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferenceRequest {
    inputs: Vec<(String, Tensor)>,
}

impl InferenceRequest {
    /// A request without inputs.
    pub fn new() -> InferenceRequest {
        InferenceRequest::default()
    }

    /// Adds an input, or replaces it.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, tensor: Tensor) -> InferenceRequest {
        let name = name.into();
        self.inputs.retain(|(n, _)| *n != name);
        self.inputs.push((name, tensor));
        self
    }

    /// The inputs.
    pub fn inputs(&self) -> &[(String, Tensor)] {
        &self.inputs
    }
}

/// The outputs of one prediction, in declared order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    outputs: Vec<(String, Tensor)>,
    classes: Option<Tensor>,
}

impl Prediction {
    /// What a backend computed.
    pub fn new(outputs: Vec<(String, Tensor)>) -> Prediction {
        Prediction { outputs, classes: None }
    }

    /// Adds a classifier's classes, a vector in the order of the probabilities.
    #[must_use]
    pub fn with_classes(self, classes: Tensor) -> Prediction {
        Prediction { classes: Some(classes), ..self }
    }

    /// A classifier's classes: a vector of strings or of int64, in the order of the probabilities.
    pub fn classes(&self) -> Option<&Tensor> {
        self.classes.as_ref()
    }

    /// The outputs, without copying them.
    pub fn into_outputs(self) -> Vec<(String, Tensor)> {
        self.outputs
    }

    /// The outputs. The probabilities of a classifier are a vector, in the order of its classes.
    pub fn outputs(&self) -> &[(String, Tensor)] {
        &self.outputs
    }

    /// The output of this name.
    pub fn output(&self, name: &str) -> Option<&Tensor> {
        self.outputs.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }
}
