//! The inputs of a prediction, checked against the model's declaration.

use std::fmt;

use milwright_formats::did_you_mean;

use crate::{
    DType, Error, FeatureInfo, FeatureType, Flexibility, FunctionInfo, InferenceRequest, Result, Tensor,
};

/// The inputs of one prediction. The model knows all their names.
pub(super) struct Given<'a> {
    pub function: &'a FunctionInfo,
    pub request: &'a InferenceRequest,
}

/// A category: a string or an int64.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Category {
    String(String),
    Int(i64),
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Category::String(s) => write!(f, "{s:?}"),
            Category::Int(n) => n.fmt(f),
        }
    }
}

impl<'a> Given<'a> {
    /// Checks the inputs of a function, which may accept some more than it declares (`undeclared`).
    pub fn new(
        function: &'a FunctionInfo,
        request: &'a InferenceRequest,
        undeclared: &[String],
    ) -> Result<Given<'a>> {
        let is_known = |name: &String| function.inputs.named(name).is_some() || undeclared.contains(name);
        if let Some((unknown, _)) = request.inputs().iter().find(|(name, _)| !is_known(name)) {
            let names: Vec<&str> = function.inputs.iter().map(|i| i.name.as_str()).collect();
            let error = Error::invalid(format!("the model has no input `{unknown}`"));
            return Err(error.with_hint(format!(
                "{}its inputs are: {}",
                did_you_mean(unknown, names.iter().copied()),
                names.join(", ")
            )));
        }
        Ok(Given { function, request })
    }

    /// The numbers of all inputs, in declared order.
    pub fn numbers(&self) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for input in &self.function.inputs {
            all.extend(self.numbers_of(input)?);
        }
        Ok(all)
    }

    /// The numbers of one input.
    pub fn numbers_of(&self, input: &FeatureInfo) -> Result<Vec<f64>> {
        let Some(given) = self.request.get(&input.name) else { return default(input) };
        self.array(&input.name)?;
        let misfit = |wanted: &str| {
            let message = format!("the input `{}` has the shape {:?}, {wanted}", input.name, given.shape());
            Err(Error::invalid(message))
        };
        match &input.ty {
            FeatureType::MultiArray { shape, flexibility: Flexibility::Fixed, .. } if !shape.is_empty() => {
                let wanted = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
                if wanted != Some(given.elements() as u64) {
                    return misfit(&format!("the model takes {shape:?}"));
                }
            }
            FeatureType::Double | FeatureType::Int64 if given.elements() != 1 => {
                return misfit("the model takes a single number");
            }
            _ => {}
        }
        let numbers = given.to_f64();
        match (&input.ty, &numbers[..]) {
            (FeatureType::Int64, [x]) if x.fract() != 0.0 || !x.is_finite() => {
                Err(Error::invalid(format!("the input `{}` is a whole number, {x} is not one", input.name)))
            }
            _ => Ok(numbers),
        }
    }

    /// An input that is an array or a number.
    pub fn array(&self, name: &str) -> Result<&'a Tensor> {
        let tensor = self.any(name)?;
        if self.request.keys(name).is_some() {
            return Err(Error::invalid(format!(
                "the input `{name}` is a dictionary, the model takes numbers"
            )));
        }
        if tensor.dtype() == DType::String {
            return Err(Error::invalid(format!("the input `{name}` is not an array of numbers, but text")));
        }
        Ok(tensor)
    }

    /// An input that is a dictionary.
    pub fn dictionary(&self, name: &str) -> Result<Vec<(Category, f64)>> {
        let values = self.any(name)?;
        let keys = self.request.keys(name).ok_or_else(|| {
            Error::invalid(format!("the input `{name}` is a dictionary of numbers by key, not an array"))
                .with_hint("give it as a dictionary, such as {\"key\": 1.0}")
        })?;
        Ok(categories(name, keys)?.into_iter().zip(values.to_f64()).collect())
    }

    /// An input that is a string, an int64, or a sequence of these.
    pub fn categories(&self, name: &str) -> Result<Vec<Category>> {
        let tensor = self.any(name)?;
        if self.request.keys(name).is_some() {
            let message =
                format!("the input `{name}` is a dictionary, the model takes text or whole numbers");
            return Err(Error::invalid(message));
        }
        categories(name, tensor)
    }

    /// The only input of a model.
    pub fn only(&self) -> Result<&'a FeatureInfo> {
        match &self.function.inputs[..] {
            [input] => Ok(input),
            inputs => {
                Err(super::malformed(format!("the model declares {} inputs, it takes one", inputs.len())))
            }
        }
    }

    fn any(&self, name: &str) -> Result<&'a Tensor> {
        self.request.get(name).ok_or_else(|| Error::invalid(format!("the input `{name}` is missing")))
    }
}

/// The default of an optional array that was left out.
fn default(input: &FeatureInfo) -> Result<Vec<f64>> {
    let missing = || Error::invalid(format!("the input `{}` is missing", input.name));
    let FeatureType::MultiArray { shape, .. } = &input.ty else { return Err(missing()) };
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).filter(|&n| n <= 1 << 24);
    match (input.default, elements) {
        (Some(default), Some(elements)) if input.optional => Ok(vec![default; elements as usize]),
        _ => Err(missing()),
    }
}

fn categories(name: &str, tensor: &Tensor) -> Result<Vec<Category>> {
    if tensor.dtype() == DType::String {
        return Ok(tensor.strings().iter().cloned().map(Category::String).collect());
    }
    if let Some(numbers) = tensor.to_i64() {
        return Ok(numbers.into_iter().map(Category::Int).collect());
    }
    let whole = |x: f64| {
        let is_whole = x.fract() == 0.0 && x.abs() < 2f64.powi(63);
        is_whole
            .then_some(Category::Int(x as i64))
            .ok_or_else(|| Error::invalid(format!("the input `{name}` is a whole number, {x} is not one")))
    };
    tensor.to_f64().into_iter().map(whole).collect()
}
