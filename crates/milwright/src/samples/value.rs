//! Inputs as text: numbers, JSON, words.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value};

use crate::paths::open_input;
use crate::{DType, Dictionary, Error, FeatureType, InferenceRequest, KeyType, Result, Tensor};

/// The largest text file to read. What people write is small.
const MAX_BYTES: u64 = 1 << 26;

/// An input: an array, a number or a text; or a dictionary.
#[derive(Clone, Debug, PartialEq)]
pub enum InputValue {
    /// An array; without dimensions, a number or a text.
    Tensor(Tensor),
    /// Numbers by key.
    Dictionary(Dictionary),
}

impl InputValue {
    /// Reads the input `name` from a `.json` or `.txt` file. `ty` is what the model declares, `shape` what its program
    /// takes, as far as they are known: a flat list gets that shape.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold such an input.
    pub fn read(
        path: impl AsRef<Path>,
        name: &str,
        ty: Option<&FeatureType>,
        shape: Option<&[usize]>,
    ) -> Result<InputValue> {
        let path = path.as_ref();
        let is_json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
        let value = if is_json {
            InputValue::from_json(name, ty, shape, &read_json(path)?)
        } else {
            InputValue::parse(name, ty, shape, &read_text(path)?)
        };
        value.map_err(|e| e.at(path))
    }

    /// Parses an input: JSON, or numbers with commas or spaces between them. For an input that is a text, it is that text.
    ///
    /// ```
    /// use milwright::{InputValue, Tensor};
    ///
    /// let value = InputValue::parse("x", None, Some(&[2, 2]), "1, 2, 3, 4.5")?;
    /// assert_eq!(value, InputValue::Tensor(Tensor::from_vec(&[2, 2], vec![1.0, 2.0, 3.0, 4.5]).unwrap()));
    /// # Ok::<(), milwright::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(
        name: &str,
        ty: Option<&FeatureType>,
        shape: Option<&[usize]>,
        text: &str,
    ) -> Result<InputValue> {
        if ty == Some(&FeatureType::String) {
            return Ok(InputValue::Tensor(Tensor::string(text.trim_end_matches(['\n', '\r']))));
        }
        if let Ok(value) = serde_json::from_str::<Value>(text.trim()) {
            return InputValue::from_json(name, ty, shape, &value);
        }
        let words = text.split([',', ' ', '\t', '\n', '\r']).filter(|w| !w.is_empty());
        let numbers: Option<Vec<f64>> = words.map(|w| w.parse().ok()).collect();
        let numbers = numbers.filter(|n| !n.is_empty());
        let numbers = numbers.ok_or_else(|| invalid(name, "it is neither numbers nor JSON"))?;
        let tensor =
            Tensor::from_vec(&[numbers.len()], numbers).map_err(|e| invalid(name, &e.to_string()))?;
        Ok(InputValue::Tensor(in_shape(ty, shape, tensor)))
    }

    /// Converts JSON: a number, a text, or true and false; nested lists of these; or an object, for a dictionary.
    ///
    /// # Errors
    /// It is none of these, or an object where the model takes no dictionary.
    pub fn from_json(
        name: &str,
        ty: Option<&FeatureType>,
        shape: Option<&[usize]>,
        value: &Value,
    ) -> Result<InputValue> {
        if let Value::Object(entries) = value {
            return match ty {
                Some(FeatureType::Dictionary { key }) => {
                    dictionary(name, entries, *key).map(InputValue::Dictionary)
                }
                _ => Err(invalid(name, "it is an object with names, and the model takes none")),
            };
        }
        let (mut sizes, mut leaves) = (Vec::new(), Vec::new());
        flatten(value, 0, &mut sizes, &mut leaves).map_err(|e| invalid(name, e))?;
        let is_text =
            matches!(ty, Some(FeatureType::String | FeatureType::Sequence { element: KeyType::String }));
        let strings: Option<Vec<String>> = leaves.iter().map(|v| v.as_str().map(str::to_owned)).collect();
        let ints: Option<Vec<i64>> = leaves.iter().map(|v| v.as_i64()).collect();
        let bools: Option<Vec<bool>> = leaves.iter().map(|v| v.as_bool()).collect();
        let floats: Option<Vec<f64>> = leaves.iter().map(|v| number(v)).collect();
        let tensor = match (strings, ints, bools, floats) {
            // "NaN" is a number where a number is taken.
            (Some(strings), _, _, numbers) if !strings.is_empty() && (is_text || numbers.is_none()) => {
                Tensor::from_strings(&sizes, strings)
            }
            (_, Some(ints), ..) => Tensor::from_vec(&sizes, ints),
            (_, _, Some(bools), _) => Tensor::from_bools(&sizes, &bools),
            (.., Some(floats)) => Tensor::from_vec(&sizes, floats),
            _ => return Err(invalid(name, "it is not all numbers, all text, or all true and false")),
        };
        let tensor = tensor.map_err(|e| invalid(name, &e.to_string()))?;
        Ok(InputValue::Tensor(in_shape(ty, shape, tensor)))
    }

    /// Adds it to a request.
    #[must_use]
    pub fn add_to(self, request: InferenceRequest, name: &str) -> InferenceRequest {
        match self {
            InputValue::Tensor(tensor) => request.input(name, tensor),
            InputValue::Dictionary(dictionary) => request.dictionary(name, dictionary),
        }
    }
}

/// Reads a `.json` file.
///
/// # Errors
/// The file cannot be read, or is not JSON.
pub fn read_json(path: impl AsRef<Path>) -> Result<Value> {
    let path = path.as_ref();
    serde_json::from_str(&read_text(path)?).map_err(|e| Error::invalid(format!("not JSON: {e}")).at(path))
}

/// Reads a text file: a regular one, in UTF-8, of at most 64 MiB.
///
/// # Errors
/// The file cannot be read, or is something else.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    let read = open_input(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::invalid(format!("more than {} MiB are too much text", MAX_BYTES >> 20)).at(path));
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid("not a text in UTF-8").at(path))
}

/// A dictionary as JSON, which [`InputValue::from_json`] reads back: keys to values.
pub fn dictionary_as_json(keys: &Tensor, values: &Tensor) -> Value {
    let names = match keys.to_i64() {
        Some(numbers) => numbers.iter().map(ToString::to_string).collect(),
        None => keys.strings().to_vec(),
    };
    names.into_iter().zip(values_as_json(values)).collect::<Map<String, Value>>().into()
}

/// The elements of a tensor as JSON. Numbers that JSON does not have are texts: `"NaN"`, `"Infinity"`, `"-Infinity"`.
pub fn values_as_json(tensor: &Tensor) -> Vec<Value> {
    if tensor.dtype() == DType::String {
        return tensor.strings().iter().map(|s| Value::from(s.as_str())).collect();
    }
    if let Some(ints) = tensor.to_i64() {
        return ints.into_iter().map(Value::from).collect();
    }
    // The shortest number that is the same in fp32, where that is what it was.
    let json = |x: f64| match tensor.dtype() {
        _ if x.is_nan() => Value::from("NaN"),
        _ if x.is_infinite() => Value::from(if x > 0.0 { "Infinity" } else { "-Infinity" }),
        DType::Fp64 => Value::from(x),
        _ => (x as f32).to_string().parse::<f64>().map_or(Value::from(x), Value::from),
    };
    tensor.to_f64().into_iter().map(json).collect()
}

/// A number, also one that JSON has only as a text.
fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

fn dictionary(name: &str, entries: &Map<String, Value>, key: KeyType) -> Result<Dictionary> {
    let value = |v: &Value| number(v).ok_or_else(|| invalid(name, "the values of a dictionary are numbers"));
    let values = entries.values().map(value).collect::<Result<Vec<f64>>>()?;
    if key == KeyType::String {
        return Ok(Dictionary::from_strings(entries.keys().cloned().zip(values)));
    }
    let key = |k: &String| k.parse::<i64>().map_err(|_| invalid(name, "the keys are whole numbers"));
    let keys = entries.keys().map(key).collect::<Result<Vec<i64>>>()?;
    Ok(Dictionary::from_ints(keys.into_iter().zip(values)))
}

/// A flat list gets the shape that the model takes, if it has as many elements.
fn in_shape(ty: Option<&FeatureType>, shape: Option<&[usize]>, tensor: Tensor) -> Tensor {
    let shape = match (ty, shape) {
        (
            None | Some(FeatureType::MultiArray { .. } | FeatureType::Double | FeatureType::Int64),
            Some(shape),
        ) => shape.to_vec(),
        (Some(FeatureType::MultiArray { shape, .. }), None) => shape.iter().map(|&n| n as usize).collect(),
        (Some(FeatureType::Double | FeatureType::Int64), None) => Vec::new(),
        _ => return tensor,
    };
    if tensor.shape().len() > 1 || tensor.shape() == shape {
        return tensor;
    }
    tensor.reshaped(&shape).unwrap_or(tensor)
}

fn flatten<'a>(
    value: &'a Value,
    depth: usize,
    shape: &mut Vec<usize>,
    leaves: &mut Vec<&'a Value>,
) -> std::result::Result<(), &'static str> {
    const RAGGED: &str = "its rows have different lengths";
    let Value::Array(values) = value else {
        if depth != shape.len() {
            return Err(RAGGED);
        }
        leaves.push(value);
        return Ok(());
    };
    match shape.get(depth) {
        Some(&n) if n != values.len() => return Err(RAGGED),
        Some(_) => {}
        None if !leaves.is_empty() => return Err(RAGGED),
        None => shape.push(values.len()),
    }
    values.iter().try_for_each(|v| flatten(v, depth + 1, shape, leaves))
}

fn invalid(name: &str, what: &str) -> Error {
    Error::invalid(format!("the input `{name}`: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_round_trip() {
        let numbers = Dictionary::from_ints([(7, f64::NAN), (-3, f64::NEG_INFINITY), (i64::MAX, 0.1)]);
        let words =
            Dictionary::from_strings([("", 1e300), ("a \"b\"\n\u{202e}", f64::INFINITY), ("NaN", -0.0)]);
        for (dictionary, key) in [(numbers, KeyType::Int64), (words, KeyType::String)] {
            let text = dictionary_as_json(dictionary.keys(), dictionary.values()).to_string();
            let ty = FeatureType::Dictionary { key };
            let InputValue::Dictionary(read) = InputValue::parse("x", Some(&ty), None, &text).unwrap() else {
                panic!("{text}")
            };
            let bits = |d: &Dictionary| d.values().to_f64().into_iter().map(f64::to_bits).collect::<Vec<_>>();
            assert_eq!((read.keys(), bits(&read)), (dictionary.keys(), bits(&dictionary)), "{text}");
        }
    }

    #[test]
    fn numbers_that_json_lacks() {
        let tensor = Tensor::from_vec(&[3], vec![f64::NAN, 1.5, f64::NEG_INFINITY]).unwrap();
        let json = Value::from(values_as_json(&tensor));
        let read = |ty| InputValue::from_json("x", Some(&ty), None, &json);
        let array = FeatureType::MultiArray {
            shape: vec![3],
            dtype: crate::ArrayType::Double,
            flexibility: crate::Flexibility::Fixed,
        };
        let InputValue::Tensor(found) = read(array).unwrap() else { panic!("no array") };
        assert_eq!(format!("{:?}", found.to_f64()), "[NaN, 1.5, -inf]");
        let words = FeatureType::Sequence { element: KeyType::String };
        let text = InputValue::from_json("x", Some(&words), None, &serde_json::json!(["NaN"])).unwrap();
        assert_eq!(text, InputValue::Tensor(Tensor::from_strings(&[1], vec!["NaN".to_owned()]).unwrap()));
    }
}
