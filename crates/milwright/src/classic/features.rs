//! Feature transformers: scaling, imputing, combining features into a vector, and selecting some of a vector.

use std::collections::BTreeMap;

use milwright_formats::proto::imputer::{ImputedValue, ReplaceValue};
use milwright_formats::proto::model::Type;
use milwright_formats::proto::normalizer::NormType;
use milwright_formats::proto::{ArrayFeatureExtractor, FeatureVectorizer, Imputer, Scaler};

use super::given::{Category, Given};
use super::{array, first_output, malformed, typed};
use crate::{Dictionary, Error, FeatureInfo, FeatureType, Prediction, Result, Tensor};

/// The largest dense vector to make of sparse features. Larger ones are refused, whatever the file declares.
const MOST_NUMBERS: u64 = 1 << 24;

#[derive(Debug)]
pub(super) enum Features {
    Identity,
    Scaler(Scaler),
    Normalizer(NormType),
    Imputer(Imputer),
    Vectorizer(FeatureVectorizer),
    Extractor(ArrayFeatureExtractor),
    Thresholding,
}

impl Features {
    /// `None` if it is a model of another kind.
    pub fn new(ty: Option<&Type>) -> Result<Option<Features>> {
        Ok(Some(match ty {
            Some(Type::Identity(_)) => Features::Identity,
            Some(Type::Scaler(m)) => Features::Scaler(m.clone()),
            Some(Type::Normalizer(m)) => match NormType::try_from(m.norm_type) {
                Ok(norm) => Features::Normalizer(norm),
                Err(_) => return Err(malformed("an unknown norm")),
            },
            Some(Type::Imputer(m)) => Features::Imputer(m.clone()),
            Some(Type::FeatureVectorizer(m)) => Features::Vectorizer(m.clone()),
            Some(Type::ArrayFeatureExtractor(m)) => Features::Extractor(m.clone()),
            Some(Type::ClassConfidenceThresholding(_)) => Features::Thresholding,
            _ => return Ok(None),
        }))
    }

    pub fn compute(&self, given: &Given<'_>) -> Result<Prediction> {
        let result = match self {
            Features::Identity => return identity(given),
            Features::Scaler(m) => scale(m, given.numbers()?)?,
            Features::Normalizer(norm) => normalize(*norm, given.numbers()?),
            Features::Imputer(m) => return impute(m, given),
            Features::Vectorizer(m) => vectorize(m, given)?,
            Features::Extractor(m) => extract(m, &given.numbers()?)?,
            Features::Thresholding => return threshold(given),
        };
        let output = first_output(given.function)?;
        Ok(Prediction::new(vec![(output.name.clone(), typed(output, &result)?)]))
    }
}

/// Copies each input to the output of the same name. An output without one gets the input at its own position.
fn identity(given: &Given<'_>) -> Result<Prediction> {
    let (function, request) = (given.function, given.request);
    let mut keys = Vec::new();
    let mut outputs = Vec::new();
    for (i, output) in function.outputs.iter().enumerate() {
        let placed = function.inputs.get(i).map(|input| input.name.as_str());
        let name =
            [Some(output.name.as_str()), placed].into_iter().flatten().find(|n| request.get(n).is_some());
        let name = name
            .ok_or_else(|| Error::invalid(format!("there is no input for the output `{}`", output.name)))?;
        outputs.push((output.name.clone(), request.get(name).expect("it was found").clone()));
        keys.extend(request.keys(name).map(|keys| (output.name.clone(), keys.clone())));
    }
    let prediction = Prediction::new(outputs);
    Ok(keys.into_iter().fold(prediction, |prediction, (name, keys)| prediction.with_keys(name, keys)))
}

/// scale · (x + shift)
fn scale(m: &Scaler, mut x: Vec<f64>) -> Result<Vec<f64>> {
    let count = x.len();
    for values in [&m.scale_value, &m.shift_value] {
        if values.len() > 1 && values.len() != count {
            let message = format!("the scaler is for {} numbers, the input has {count}", values.len());
            return Err(Error::invalid(message));
        }
    }
    let of = |values: &[f64], default: f64, i: usize| match values {
        [] => default,
        [one] => *one,
        many => many[i],
    };
    for (i, x) in x.iter_mut().enumerate() {
        *x = of(&m.scale_value, 1.0, i) * (*x + of(&m.shift_value, 0.0, i));
    }
    Ok(x)
}

fn normalize(norm: NormType, x: Vec<f64>) -> Vec<f64> {
    let norm = match norm {
        NormType::L1 => x.iter().map(|x| x.abs()).sum(),
        NormType::L2 => x.iter().map(|x| x * x).sum::<f64>().sqrt(),
        NormType::LMax => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    };
    if norm == 0.0 { x } else { x.iter().map(|x| x / norm).collect() }
}

fn impute(m: &Imputer, given: &Given<'_>) -> Result<Prediction> {
    let (input, output) = (given.only()?, first_output(given.function)?);
    let name = output.name.clone();
    match &m.imputed_value {
        Some(ImputedValue::ImputedStringValue(filler)) => {
            let text = impute_text(m, filler, input, given)?;
            Ok(Prediction::new(vec![(name, Tensor::string(text))]))
        }
        Some(ImputedValue::ImputedStringDictionary(fillers)) => {
            let fillers = fillers.map.iter().map(|(k, v)| (Category::String(k.clone()), *v));
            impute_dictionary(m, fillers.collect(), input, output, given)
        }
        Some(ImputedValue::ImputedInt64Dictionary(fillers)) => {
            let fillers = fillers.map.iter().map(|(k, v)| (Category::Int(*k), *v));
            impute_dictionary(m, fillers.collect(), input, output, given)
        }
        _ => {
            let filled = impute_numbers(m, given.numbers()?)?;
            Ok(Prediction::new(vec![(name, typed(output, &filled)?)]))
        }
    }
}

fn impute_numbers(m: &Imputer, mut x: Vec<f64>) -> Result<Vec<f64>> {
    let missing = match m.replace_value {
        Some(ReplaceValue::ReplaceDoubleValue(missing)) => missing,
        Some(ReplaceValue::ReplaceInt64Value(missing)) => missing as f64,
        Some(ReplaceValue::ReplaceStringValue(_)) => {
            return Err(malformed("it fills gaps in text with numbers"));
        }
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

fn impute_text(m: &Imputer, filler: &str, input: &FeatureInfo, given: &Given<'_>) -> Result<String> {
    let missing = match &m.replace_value {
        Some(ReplaceValue::ReplaceStringValue(missing)) => Some(missing),
        None => None,
        Some(_) => return Err(malformed("it fills gaps in numbers with text")),
    };
    match &given.categories(&input.name)?[..] {
        [Category::String(text)] => Ok(if Some(text) == missing { filler.to_owned() } else { text.clone() }),
        _ => Err(Error::invalid(format!("the input `{}` is not one text", input.name))),
    }
}

/// Fills in keys that are missing, and values that are NaN.
fn impute_dictionary(
    m: &Imputer,
    fillers: BTreeMap<Category, f64>,
    input: &FeatureInfo,
    output: &FeatureInfo,
    given: &Given<'_>,
) -> Result<Prediction> {
    if m.replace_value.is_some() {
        return Err(malformed("in a dictionary, what is to be replaced cannot be a value"));
    }
    let entries = given.dictionary(&input.name)?;
    let known = |(key, value): (Category, f64)| (!value.is_nan()).then_some((key, value));
    let mut filled = fillers;
    filled.extend(entries.into_iter().filter_map(known));
    let strings: Option<Vec<(String, f64)>> = filled
        .iter()
        .map(|(k, v)| if let Category::String(s) = k { Some((s.clone(), *v)) } else { None })
        .collect();
    let ints: Option<Vec<(i64, f64)>> =
        filled.iter().map(|(k, v)| if let Category::Int(n) = k { Some((*n, *v)) } else { None }).collect();
    let dictionary = match (strings, ints) {
        (Some(entries), _) => Dictionary::from_strings(entries),
        (None, Some(entries)) => Dictionary::from_ints(entries),
        (None, None) => {
            let message =
                format!("the keys of the input `{}` are of another type than the model's", input.name);
            return Err(Error::invalid(message));
        }
    };
    let values = vec![(output.name.clone(), dictionary.values().clone())];
    Ok(Prediction::new(values).with_keys(&output.name, dictionary.keys().clone()))
}

fn vectorize(m: &FeatureVectorizer, given: &Given<'_>) -> Result<Vec<f64>> {
    let mut vector = Vec::new();
    for column in &m.input_list {
        let (name, wanted) = (&column.input_column, column.input_dimensions);
        let input = given.function.inputs.named(name);
        let input = input.ok_or_else(|| malformed(format!("there is no input `{name}`")))?;
        if matches!(input.ty, FeatureType::Dictionary { .. }) {
            if wanted.checked_add(vector.len() as u64).is_none_or(|n| n > MOST_NUMBERS) {
                return Err(malformed(format!("a vector of {wanted} numbers, which are too many")));
            }
            let start = vector.len();
            vector.resize(start + wanted as usize, 0.0);
            for (key, value) in given.dictionary(name)? {
                let place = match key {
                    Category::Int(n) => usize::try_from(n).ok().filter(|&n| (n as u64) < wanted),
                    Category::String(_) => None,
                };
                let place = place.ok_or_else(|| {
                    Error::invalid(format!("{key} in the input `{name}` is no place in a vector of {wanted}"))
                })?;
                vector[start + place] = value;
            }
            continue;
        }
        let values = given.numbers_of(input)?;
        if wanted != values.len() as u64 {
            let found = values.len();
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

/// Returns the confidences, and a 1 for each: the format says that all classes are accepted at present.
fn threshold(given: &Given<'_>) -> Result<Prediction> {
    let confidences = given.numbers_of(given.only()?)?;
    let output = first_output(given.function)?;
    let FeatureType::MultiArray { dtype, .. } = &output.ty else {
        return Err(malformed(format!("the output `{}` is not declared as an array", output.name)));
    };
    let count = confidences.len();
    let both: Vec<f64> = confidences.into_iter().chain(std::iter::repeat_n(1.0, count)).collect();
    let tensor =
        array(*dtype, &[2, count], &both).ok_or_else(|| malformed("an output of an unknown type"))?;
    Ok(Prediction::new(vec![(output.name.clone(), tensor)]))
}
