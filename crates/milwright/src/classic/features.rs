//! What prepares features: scaling, filling gaps, putting numbers into one vector, taking some out.

use milwright_spec::proto::imputer::{ImputedValue, ReplaceValue};
use milwright_spec::proto::model::Type;
use milwright_spec::proto::normalizer::NormType;
use milwright_spec::proto::{ArrayFeatureExtractor, FeatureVectorizer, Imputer, Normalizer, Scaler};

use super::{declared, malformed};
use crate::{Error, FunctionInfo, Prediction, Result, Tensor};

#[derive(Debug)]
pub(super) enum Features {
    Identity,
    Scaler(Scaler),
    Normalizer(Normalizer),
    Imputer(Imputer),
    Vectorizer(FeatureVectorizer),
    Extractor(ArrayFeatureExtractor),
}

impl Features {
    pub fn new(ty: Option<&Type>) -> Option<Features> {
        Some(match ty? {
            Type::Identity(_) => Features::Identity,
            Type::Scaler(m) => Features::Scaler(m.clone()),
            Type::Normalizer(m) => Features::Normalizer(*m),
            Type::Imputer(m) => Features::Imputer(m.clone()),
            Type::FeatureVectorizer(m) => Features::Vectorizer(m.clone()),
            Type::ArrayFeatureExtractor(m) => Features::Extractor(m.clone()),
            _ => return None,
        })
    }

    pub fn compute(
        &self,
        function: &FunctionInfo,
        inputs: &[(String, Tensor)],
        values: &[(&str, Vec<f64>)],
    ) -> Result<Prediction> {
        let flat = || values.iter().flat_map(|(_, v)| v.iter().copied()).collect::<Vec<f64>>();
        let result = match self {
            Features::Identity => return identity(function, inputs),
            Features::Scaler(m) => scale(m, flat())?,
            Features::Normalizer(m) => normalize(*m, flat()),
            Features::Imputer(m) => impute(m, flat())?,
            Features::Vectorizer(m) => vectorize(m, values)?,
            Features::Extractor(m) => extract(m, &flat())?,
        };
        Ok(Prediction::new(declared(function, &result)?))
    }
}

/// What goes in under a name comes out under it; a single feature, under another one, too.
fn identity(function: &FunctionInfo, inputs: &[(String, Tensor)]) -> Result<Prediction> {
    let output = |(i, output): (usize, &crate::FeatureInfo)| {
        let same = inputs.iter().find(|(n, _)| *n == output.name);
        let placed = function.inputs.get(i).and_then(|f| inputs.iter().find(|(n, _)| *n == f.name));
        let found = same.or(placed).map(|(_, t)| (output.name.clone(), t.clone()));
        found.ok_or_else(|| malformed(format!("no input for the output `{}`", output.name)))
    };
    let outputs = function.outputs.iter().enumerate().map(output);
    Ok(Prediction::new(outputs.collect::<Result<_>>()?))
}

/// scale · (x + shift)
fn scale(m: &Scaler, mut x: Vec<f64>) -> Result<Vec<f64>> {
    let count = x.len();
    let of = |values: &[f64], default: f64, i: usize| match values {
        [] => Ok(default),
        [one] => Ok(*one),
        many => many.get(i).copied().ok_or_else(|| {
            Error::invalid(format!("the scaler is for {} numbers, the input has {count}", many.len()))
        }),
    };
    for (i, x) in x.iter_mut().enumerate() {
        *x = of(&m.scale_value, 1.0, i)? * (*x + of(&m.shift_value, 0.0, i)?);
    }
    Ok(x)
}

fn normalize(m: Normalizer, x: Vec<f64>) -> Vec<f64> {
    let norm = match NormType::try_from(m.norm_type) {
        Ok(NormType::L1) => x.iter().map(|x| x.abs()).sum(),
        Ok(NormType::L2) => x.iter().map(|x| x * x).sum::<f64>().sqrt(),
        _ => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    };
    if norm == 0.0 { x } else { x.iter().map(|x| x / norm).collect() }
}

fn impute(m: &Imputer, mut x: Vec<f64>) -> Result<Vec<f64>> {
    let missing = match m.replace_value {
        Some(ReplaceValue::ReplaceDoubleValue(missing)) => missing,
        Some(ReplaceValue::ReplaceInt64Value(missing)) => missing as f64,
        Some(ReplaceValue::ReplaceStringValue(_)) => return Err(malformed("an imputer of strings")),
        None => f64::NAN,
    };
    let is_missing = |x: f64| x == missing || (missing.is_nan() && x.is_nan());
    let filler = |i: usize| match &m.imputed_value {
        Some(ImputedValue::ImputedDoubleValue(value)) => Some(*value),
        Some(ImputedValue::ImputedInt64Value(value)) => Some(*value as f64),
        Some(ImputedValue::ImputedDoubleArray(values)) => values.vector.get(i).copied(),
        Some(ImputedValue::ImputedInt64Array(values)) => values.vector.get(i).map(|&v| v as f64),
        _ => None,
    };
    for (i, x) in x.iter_mut().enumerate() {
        if is_missing(*x) {
            *x = filler(i).ok_or_else(|| malformed(format!("nothing to put in the place of number {i}")))?;
        }
    }
    Ok(x)
}

fn vectorize(m: &FeatureVectorizer, values: &[(&str, Vec<f64>)]) -> Result<Vec<f64>> {
    let mut vector = Vec::new();
    for column in &m.input_list {
        let name = &column.input_column;
        let found = values.iter().find(|(n, _)| n == name);
        let (_, values) = found.ok_or_else(|| malformed(format!("there is no input `{name}`")))?;
        if column.input_dimensions != values.len() as u64 {
            let (found, wanted) = (values.len(), column.input_dimensions);
            return Err(Error::invalid(format!("the input `{name}` has {found} numbers, not {wanted}")));
        }
        vector.extend(values);
    }
    Ok(vector)
}

fn extract(m: &ArrayFeatureExtractor, x: &[f64]) -> Result<Vec<f64>> {
    let element = |&i: &u64| {
        let element = usize::try_from(i).ok().and_then(|i| x.get(i)).copied();
        element.ok_or_else(|| Error::invalid(format!("there is no number {i} among {}", x.len())))
    };
    m.extract_index.iter().map(element).collect()
}
