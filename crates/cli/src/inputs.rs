//! Inputs as users give them: files, numbers, text.

use std::path::Path;

use indexmap::IndexMap;
use milwright::image::{self, Fit};
use milwright::json::read_json;
use milwright::{
    Error, ErrorKind, FeatureInfo, FeatureType, InferenceRequest, InputValue, KeyType, Model, Result,
    did_you_mean, npz, read_file_fitted,
};
use serde_json::Value;

use crate::printer::Printer;

/// What a model takes, to read inputs by.
pub struct Declared {
    path: std::path::PathBuf,
    inputs: IndexMap<String, (Option<FeatureInfo>, Option<Vec<usize>>)>,
}

impl Declared {
    /// The inputs of a function: those of its program, or those that are declared.
    pub fn new(model: &Model, function: Option<&str>) -> Result<Declared> {
        let info = model.info().function(function);
        let feature = |name: &str| info.and_then(|f| f.inputs.named(name)).cloned();
        let inputs = match model.program() {
            Ok(_) => {
                let program = model.function(function)?;
                let values = program.inputs.iter().map(|&v| &program[v]);
                let tensors = values.filter_map(|v| v.ty.as_tensor().map(|t| (&v.name, t)));
                tensors.map(|(name, t)| (name.clone(), (feature(name), t.fixed_shape()))).collect()
            }
            Err(_) => {
                let declared = info.map_or(&[][..], |f| &f.inputs).iter();
                declared.map(|i| (i.name.clone(), (Some(i.clone()), None))).collect()
            }
        };
        Ok(Declared { path: model.path().to_owned(), inputs })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.inputs.keys().map(String::as_str)
    }

    /// The shape that an input has in the program, if it is fixed.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.inputs.get(name).and_then(|(_, shape)| shape.as_deref())
    }

    fn feature(&self, name: &str) -> Option<&FeatureInfo> {
        self.inputs.get(name).and_then(|(feature, _)| feature.as_ref())
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
            .map(|(name, (feature, _))| example(name, feature.as_ref().map(|f| &f.ty)))
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
                    if let Some((name, _)) = all.iter().find(|(name, _)| !self.inputs.contains_key(name)) {
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
            if !self.inputs.contains_key(name) {
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

    fn add(&self, request: InferenceRequest, name: &str, given: InputValue) -> Result<InferenceRequest> {
        if !self.inputs.contains_key(name) {
            return Err(self.unknown(name));
        }
        if request.inputs().named(name).is_some() {
            return Err(Error::new(ErrorKind::InvalidInput, format!("the input `{name}` is given twice")));
        }
        Ok(given.add_to(request, name))
    }

    /// Every input of a file that has them by name.
    fn read_all(&self, path: &Path) -> Result<Vec<(String, InputValue)>> {
        match extension(path).as_str() {
            "npz" => {
                Ok(npz::read(path)?.into_iter().map(|(name, t)| (name, InputValue::Tensor(t))).collect())
            }
            "json" => {
                let Value::Object(values) = read_json(path)? else {
                    return Err(Error::new(
                        ErrorKind::InvalidInput,
                        "it is not an object with inputs by name",
                    )
                    .at(path));
                };
                let each = |(name, value): (String, Value)| {
                    let tensor = self.json(&name, &value).map_err(|e| e.at(path))?;
                    Ok((name, tensor))
                };
                values.into_iter().map(each).collect()
            }
            _ => Err(Error::new(ErrorKind::InvalidInput, format!("`{}` is not an input", path.display()))
                .with_hint(format!("inputs are NAME=FILE or NAME=VALUE; {}", self.hint()))),
        }
    }

    /// One input: a file if there is one of this name, otherwise the value itself.
    fn value(&self, name: &str, value: &str, fit: Fit, printer: &Printer) -> Result<InputValue> {
        let path = Path::new(value);
        let ty = self.feature(name).map(|f| &f.ty);
        let extension = extension(path);
        if path.exists() {
            return match extension.as_str() {
                "npz" => {
                    let arrays = npz::read(path)?;
                    let only = arrays.len() == 1;
                    let array = arrays.into_iter().find(|(n, _)| only || n == name);
                    array.map(|(_, t)| InputValue::Tensor(t)).ok_or_else(|| {
                        let error =
                            Error::new(ErrorKind::InvalidInput, format!("it holds no array `{name}`"));
                        error
                            .with_hint("name the arrays after the inputs: numpy.savez(file, NAME=array)")
                            .at(path)
                    })
                }
                "json" => self.json(name, &read_json(path)?).map_err(|e| e.at(path)),
                "txt" => InputValue::read(path, name, ty, self.shape(name)),
                "png" | "jpg" | "jpeg" if !matches!(ty, Some(FeatureType::Image { .. })) => {
                    let error = invalid(name, "the file is an image, and the model takes something else");
                    Err(error.with_hint(format!("give it as in {}", example(name, ty))).at(path))
                }
                _ => {
                    note_fit(name, path, ty, fit, printer);
                    read_file_fitted(path, ty, fit).map(InputValue::Tensor)
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
    fn literal(&self, name: &str, text: &str) -> Result<InputValue> {
        let ty = self.feature(name).map(|f| &f.ty);
        InputValue::parse(name, ty, self.shape(name), text).map_err(|e| {
            let is_json = serde_json::from_str::<Value>(text.trim()).is_ok();
            let message = format!("the input `{name}`: `{}` is neither a file nor a value", shortened(text));
            let e = if is_json { e } else { Error::new(ErrorKind::InvalidInput, message) };
            e.with_hint(format!("give it as in {}", example(name, ty)))
        })
    }

    /// What JSON says of one input.
    fn json(&self, name: &str, value: &Value) -> Result<InputValue> {
        let ty = self.feature(name).map(|f| &f.ty);
        InputValue::from_json(name, ty, self.shape(name), value).map_err(|e| match value {
            Value::Object(entries) if entries.contains_key(name) => {
                e.with_hint("a file with inputs by name is given without a name: --input FILE")
            }
            _ => e.with_hint(format!("give it as in {}", example(name, ty))),
        })
    }
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

fn invalid(name: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the input `{name}`: {what}"))
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

fn shortened(text: &str) -> String {
    let line: String = text.chars().take(40).collect();
    if line.len() < text.len() { format!("{line}…") } else { line }
}
