//! Inputs as users give them: files, numbers, text.

use std::path::Path;

use milwright::image::{self, Fit};
use milwright::{
    Dictionary, Error, ErrorKind, FeatureInfo, FeatureType, InferenceRequest, KeyType, Model, Result, Tensor,
    did_you_mean, npz, read_file_fitted,
};
use serde_json::Value;

use crate::printer::Printer;

/// Longer text files are refused: they are not what was meant.
const MAX_TEXT_BYTES: u64 = 1 << 26;

/// What one input was given as.
enum Given {
    Tensor(Tensor),
    Dictionary(Dictionary),
}

/// What a model takes, to read inputs by.
pub struct Declared {
    path: std::path::PathBuf,
    inputs: Vec<(String, Option<FeatureInfo>, Option<Vec<usize>>)>,
}

impl Declared {
    /// The inputs of a function: those of its program, or those that are declared.
    pub fn new(model: &Model, function: Option<&str>) -> Result<Declared> {
        let info = model.info().function(function);
        let feature = |name: &str| info.and_then(|f| f.inputs.iter().find(|i| i.name == name)).cloned();
        let inputs = match model.program() {
            Ok(_) => {
                let program = model.function(function)?;
                let values = program.inputs.iter().map(|&v| &program[v]);
                let tensors = values.filter_map(|v| v.ty.as_tensor().map(|t| (&v.name, t)));
                tensors.map(|(name, t)| (name.clone(), feature(name), t.fixed_shape())).collect()
            }
            Err(_) => {
                let declared = info.map_or(&[][..], |f| &f.inputs).iter();
                declared.map(|i| (i.name.clone(), Some(i.clone()), None)).collect()
            }
        };
        Ok(Declared { path: model.path().to_owned(), inputs })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|(n, ..)| n.as_str())
    }

    /// The shape that an input has in the program, if it is fixed.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.inputs.iter().find(|(n, ..)| n == name).and_then(|(.., shape)| shape.as_deref())
    }

    fn feature(&self, name: &str) -> Option<&FeatureInfo> {
        self.inputs.iter().find(|(n, ..)| n == name).and_then(|(_, feature, _)| feature.as_ref())
    }

    /// Says that there is no such input, and which there are.
    fn unknown(&self, name: &str) -> Error {
        let error = Error::new(ErrorKind::InvalidInput, format!("the model has no input `{name}`"));
        error.with_hint(format!("{}{}", did_you_mean(name, self.names()), self.hint())).at(&self.path)
    }

    /// Which inputs there are, and how each is given.
    pub fn hint(&self) -> String {
        let examples: Vec<String> = self
            .inputs
            .iter()
            .map(|(name, feature, _)| example(name, feature.as_ref().map(|f| &f.ty)))
            .collect();
        let names: Vec<&str> = self.names().collect();
        format!("its inputs are: {}; give them with {}", names.join(", "), examples.join(" "))
    }

    /// Reads what was given as `NAME=VALUE`, or as a file with inputs by name.
    pub fn read(&self, given: &[String], fit: Fit, printer: &Printer) -> Result<InferenceRequest> {
        let mut request = InferenceRequest::new();
        for text in given {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) if !name.is_empty() && !value.is_empty() => (name, value),
                _ => {
                    let all = self.read_all(Path::new(text))?;
                    if all.is_empty() {
                        let error = Error::new(ErrorKind::InvalidInput, "it holds no inputs");
                        return Err(error.with_hint(self.hint()).at(text));
                    }
                    if let Some((name, _)) = all.iter().find(|(name, _)| !self.names().any(|n| n == name)) {
                        let message = format!("it holds `{name}`, and the model has no such input");
                        let hint = format!("{}{}", did_you_mean(name, self.names()), self.hint());
                        return Err(Error::new(ErrorKind::InvalidInput, message).with_hint(hint).at(text));
                    }
                    for (name, tensor) in all {
                        request = self.add(request, &name, tensor)?;
                        request = request.read_from(name, text);
                    }
                    continue;
                }
            };
            if !self.names().any(|n| n == name) {
                return Err(self.unknown(name));
            }
            let tensor = self.value(name, value, fit, printer)?;
            request = self.add(request, name, tensor)?;
            if Path::new(value).is_file() {
                request = request.read_from(name, value);
            }
        }
        Ok(request)
    }

    fn add(&self, request: InferenceRequest, name: &str, given: Given) -> Result<InferenceRequest> {
        if !self.names().any(|n| n == name) {
            return Err(self.unknown(name));
        }
        if request.inputs().iter().any(|(n, _)| n == name) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("the input `{name}` is given twice")));
        }
        Ok(match given {
            Given::Tensor(tensor) => request.input(name, tensor),
            Given::Dictionary(dictionary) => request.dictionary(name, dictionary),
        })
    }

    /// Every input of a file that has them by name.
    fn read_all(&self, path: &Path) -> Result<Vec<(String, Given)>> {
        match extension(path).as_str() {
            "npz" => Ok(npz::read(path)?.into_iter().map(|(name, t)| (name, Given::Tensor(t))).collect()),
            "json" => {
                let Value::Object(values) = json(path)? else {
                    return Err(Error::new(
                        ErrorKind::InvalidInput,
                        "it is not an object with inputs by name",
                    )
                    .at(path));
                };
                let each = |(name, value): (String, Value)| {
                    let tensor = self.tensor(&name, &value).map_err(|e| e.at(path))?;
                    Ok((name, tensor))
                };
                values.into_iter().map(each).collect()
            }
            _ => Err(Error::new(ErrorKind::InvalidInput, format!("`{}` is not an input", path.display()))
                .with_hint(format!("inputs are NAME=FILE or NAME=VALUE; {}", self.hint()))),
        }
    }

    /// One input: a file if there is one of this name, otherwise the value itself.
    fn value(&self, name: &str, value: &str, fit: Fit, printer: &Printer) -> Result<Given> {
        let path = Path::new(value);
        let ty = self.feature(name).map(|f| &f.ty);
        let extension = extension(path);
        if path.exists() {
            return match extension.as_str() {
                "npz" => {
                    let arrays = npz::read(path)?;
                    let only = arrays.len() == 1;
                    let array = arrays.into_iter().find(|(n, _)| only || n == name);
                    array.map(|(_, t)| Given::Tensor(t)).ok_or_else(|| {
                        let error =
                            Error::new(ErrorKind::InvalidInput, format!("it holds no array `{name}`"));
                        error
                            .with_hint("name the arrays after the inputs: numpy.savez(file, NAME=array)")
                            .at(path)
                    })
                }
                "json" => self.tensor(name, &json(path)?).map_err(|e| e.at(path)),
                "txt" => self.literal(name, &text(path)?).map_err(|e| e.at(path)),
                "png" | "jpg" | "jpeg" if !matches!(ty, Some(FeatureType::Image { .. })) => {
                    let error = invalid(name, "the file is an image, and the model takes something else");
                    Err(error.with_hint(format!("give it as in {}", example(name, ty))).at(path))
                }
                _ => {
                    note_fit(name, path, ty, fit, printer);
                    read_file_fitted(path, ty, fit).map(Given::Tensor)
                }
            };
        }
        let looks_like_a_file =
            matches!(extension.as_str(), "npy" | "npz" | "png" | "jpg" | "jpeg" | "json" | "txt")
                || ty != Some(&FeatureType::String) && value.contains(['/', '\\'])
                || matches!(ty, Some(FeatureType::Image { .. }));
        if looks_like_a_file && !value.starts_with(['[', '{']) {
            let missing = std::fs::metadata(path).err().unwrap_or(std::io::ErrorKind::NotFound.into());
            return Err(Error::io("open", path, missing));
        }
        self.literal(name, value)
    }

    /// A value that is written out: JSON, or numbers with commas or spaces between, or text where text is taken.
    fn literal(&self, name: &str, text: &str) -> Result<Given> {
        let ty = self.feature(name).map(|f| &f.ty);
        if ty == Some(&FeatureType::String) {
            return Ok(Given::Tensor(Tensor::string(text.trim_end_matches(['\n', '\r']))));
        }
        if let Ok(value) = serde_json::from_str::<Value>(text.trim()) {
            return self.tensor(name, &value);
        }
        let words = text.split([',', ' ', '\t', '\n', '\r']).filter(|w| !w.is_empty());
        let numbers: Option<Vec<f64>> = words.map(|w| w.parse().ok()).collect();
        match numbers {
            Some(numbers) if !numbers.is_empty() => self.shaped(name, numbers).map(Given::Tensor),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the input `{name}`: `{}` is neither a file nor a value", shortened(text)),
            )
            .with_hint(format!("give it as in {}", example(name, ty)))),
        }
    }

    fn shaped(&self, name: &str, numbers: Vec<f64>) -> Result<Tensor> {
        let shape = [numbers.len()];
        let tensor = Tensor::from_vec(&shape, numbers).map_err(|e| invalid(name, &e.to_string()))?;
        Ok(self.in_shape(name, tensor))
    }

    /// A flat list gets the shape that the model takes, if it has as many elements.
    fn in_shape(&self, name: &str, tensor: Tensor) -> Tensor {
        let declared = match self.feature(name).map(|f| &f.ty) {
            Some(FeatureType::MultiArray { shape, .. }) => shape.iter().map(|&n| n as usize).collect(),
            Some(FeatureType::Double | FeatureType::Int64) => Vec::new(),
            _ => return tensor,
        };
        let shape = self.shape(name).map_or(declared, <[usize]>::to_vec);
        if tensor.shape().len() > 1 || tensor.shape() == shape {
            return tensor;
        }
        tensor.reshaped(&shape).unwrap_or(tensor)
    }

    fn tensor(&self, name: &str, value: &Value) -> Result<Given> {
        if let Value::Object(entries) = value {
            let is_dictionary =
                matches!(self.feature(name).map(|f| &f.ty), Some(FeatureType::Dictionary { .. }));
            if !is_dictionary {
                let error = invalid(name, "it is an object with names, and the model takes none");
                return Err(if entries.contains_key(name) {
                    error.with_hint("a file with inputs by name is given without a name: --input FILE")
                } else {
                    error.with_hint(format!(
                        "give it as in {}",
                        example(name, self.feature(name).map(|f| &f.ty))
                    ))
                });
            }
            let is_int = matches!(
                self.feature(name).map(|f| &f.ty),
                Some(FeatureType::Dictionary { key: KeyType::Int64 })
            );
            return dictionary(name, entries, is_int).map(Given::Dictionary);
        }
        let (mut shape, mut leaves) = (Vec::new(), Vec::new());
        flatten(value, 0, &mut shape, &mut leaves).map_err(|e| invalid(name, e))?;
        let strings: Option<Vec<String>> = leaves.iter().map(|v| v.as_str().map(str::to_owned)).collect();
        let ints: Option<Vec<i64>> = leaves.iter().map(|v| v.as_i64()).collect();
        let bools: Option<Vec<bool>> = leaves.iter().map(|v| v.as_bool()).collect();
        let floats: Option<Vec<f64>> = leaves.iter().map(|v| v.as_f64()).collect();
        let tensor = match (strings, ints, bools, floats) {
            (Some(strings), ..) if !strings.is_empty() => Tensor::from_strings(&shape, strings),
            (_, Some(ints), ..) => Tensor::from_vec(&shape, ints),
            (_, _, Some(bools), _) => Tensor::from_bools(&shape, &bools),
            (.., Some(floats)) => Tensor::from_vec(&shape, floats),
            _ => return Err(invalid(name, "it is not all numbers, all text, or all true and false")),
        };
        let tensor = tensor.map_err(|e| invalid(name, &e.to_string()))?;
        Ok(Given::Tensor(self.in_shape(name, tensor)))
    }
}

fn dictionary(name: &str, entries: &serde_json::Map<String, Value>, is_int: bool) -> Result<Dictionary> {
    let number =
        |v: &Value| v.as_f64().ok_or_else(|| invalid(name, "the values of a dictionary are numbers"));
    let values = entries.values().map(number).collect::<Result<Vec<f64>>>()?;
    if !is_int {
        return Ok(Dictionary::from_strings(entries.keys().cloned().zip(values)));
    }
    let key = |k: &String| k.parse::<i64>().map_err(|_| invalid(name, "the keys are whole numbers"));
    let keys = entries.keys().map(key).collect::<Result<Vec<i64>>>()?;
    Ok(Dictionary::from_ints(keys.into_iter().zip(values)))
}

/// Says how an image of another size is made to fit.
fn note_fit(name: &str, path: &Path, ty: Option<&FeatureType>, fit: Fit, printer: &Printer) {
    let Some(FeatureType::Image { width, height, flexibility: milwright::Flexibility::Fixed, .. }) = ty
    else {
        return;
    };
    let Ok((w, h)) = image::dimensions(path) else { return };
    let how = match fit {
        Fit::Crop => "scaled, and cropped in the middle",
        Fit::Pad => "scaled, and padded with black",
        Fit::Stretch => "stretched",
        Fit::Exact => return,
    };
    if (u64::from(w), u64::from(h)) != (*width, *height) {
        printer.note(format!("{name}: {w} x {h} pixels, {how} to {width} x {height} (--fit)"));
    }
}

/// How an input of a type is given.
fn example(name: &str, ty: Option<&FeatureType>) -> String {
    let value = match ty {
        Some(FeatureType::Image { .. }) => "photo.png".to_owned(),
        Some(FeatureType::Double) => "1.5".to_owned(),
        Some(FeatureType::Int64) => "1".to_owned(),
        Some(FeatureType::String) => "'some text'".to_owned(),
        Some(FeatureType::Dictionary { key: KeyType::Int64 }) => "'{\"7\": 1.0}'".to_owned(),
        Some(FeatureType::Dictionary { .. }) => "'{\"key\": 1.0}'".to_owned(),
        Some(FeatureType::Sequence { .. }) => "'[…]'".to_owned(),
        Some(FeatureType::MultiArray { shape, .. }) if shape.iter().product::<u64>() == 1 => "1.5".to_owned(),
        _ => format!("{name}.npy"),
    };
    format!("--input {name}={value}")
}

fn flatten<'a>(
    value: &'a Value,
    depth: usize,
    shape: &mut Vec<usize>,
    leaves: &mut Vec<&'a Value>,
) -> std::result::Result<(), &'static str> {
    let Value::Array(values) = value else {
        if depth != shape.len() {
            return Err("its rows have different lengths");
        }
        leaves.push(value);
        return Ok(());
    };
    match shape.get(depth) {
        Some(&n) if n != values.len() => return Err("its rows have different lengths"),
        Some(_) => {}
        None if !leaves.is_empty() => return Err("its rows have different lengths"),
        None => shape.push(values.len()),
    }
    values.iter().try_for_each(|v| flatten(v, depth + 1, shape, leaves))
}

fn invalid(name: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the input `{name}`: {what}"))
}

fn text(path: &Path) -> Result<String> {
    let len = std::fs::metadata(path).map_err(|e| Error::io("open", path, e))?.len();
    if len > MAX_TEXT_BYTES {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{len} bytes of text are too many")).at(path));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    String::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::InvalidInput, "not a text in UTF-8").at(path))
}

fn json(path: &Path) -> Result<Value> {
    serde_json::from_str(&text(path)?)
        .map_err(|e| Error::new(ErrorKind::InvalidInput, format!("not JSON: {e}")).at(path))
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

fn shortened(text: &str) -> String {
    let line: String = text.chars().take(40).collect();
    if line.len() < text.len() { format!("{line}…") } else { line }
}
