//! The texts that somebody has edited in Xcode. Xcode keeps them beside the specification, in two JSON files with other
//! key names.

use serde_json::{Map, Value};

use crate::proto::{FeatureDescription, Metadata, ModelDescription};
use crate::{Error, Result, lfs_pointer};

/// The manifest's description of the file with author, licence, version and description.
pub(crate) const METADATA: &str = "External Metadata Overlay";
/// The manifest's description of the file with the descriptions of inputs and outputs.
pub(crate) const FEATURES: &str = "External FeatureDescription Overlay";

/// Replaces the specification's texts by the edited ones. Ignores unknown entries.
pub(crate) fn metadata(description: &mut ModelDescription, json: &[u8]) -> Result<()> {
    let overlay = parse(json)?;
    if overlay.is_empty() {
        return Ok(());
    }
    let metadata: &mut Metadata = description.metadata.get_or_insert_default();
    for (key, place) in [
        ("MLModelDescriptionKey", &mut metadata.short_description),
        ("MLModelVersionStringKey", &mut metadata.version_string),
        ("MLModelAuthorKey", &mut metadata.author),
        ("MLModelLicenseKey", &mut metadata.license),
    ] {
        if let Some(Value::String(text)) = overlay.get(key) {
            place.clone_from(text);
        }
    }
    if let Some(Value::Object(own)) = overlay.get("MLModelCreatorDefinedKey") {
        let texts = own.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        metadata.user_defined.extend(texts);
    }
    Ok(())
}

/// Like [`metadata`], for the descriptions of inputs and outputs, in every function.
pub(crate) fn features(description: &mut ModelDescription, json: &[u8]) -> Result<()> {
    let overlay = parse(json)?;
    let group = |key: &str| overlay.get(key).and_then(Value::as_object);
    let edit = |texts: Option<&Map<String, Value>>, features: &mut [FeatureDescription]| {
        for feature in features {
            let edited =
                texts.and_then(|texts| texts.get(&feature.name)?.get("MLFeatureShortDescription")?.as_str());
            if let Some(text) = edited {
                text.clone_into(&mut feature.short_description);
            }
        }
    };
    edit(group("Inputs"), &mut description.input);
    edit(group("Outputs"), &mut description.output);
    edit(group("States"), &mut description.state);
    edit(group("TrainingInputs"), &mut description.training_input);
    for function in &mut description.functions {
        edit(group("Inputs"), &mut function.input);
        edit(group("Outputs"), &mut function.output);
        edit(group("States"), &mut function.state);
    }
    Ok(())
}

fn parse(json: &[u8]) -> Result<Map<String, Value>> {
    if let Some(error) = lfs_pointer(json) {
        return Err(error);
    }
    serde_json::from_slice(json).map_err(|error| {
        Error::malformed(format!("not the texts that Xcode keeps: {error}"))
            .with_hint("edit the texts in Xcode again, or remove the file and its entry in Manifest.json")
            .with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::FunctionDescription;

    #[test]
    fn edited_texts_win() {
        let feature = |name: &str| FeatureDescription {
            name: name.into(),
            short_description: "first".into(),
            ..FeatureDescription::default()
        };
        let function = FunctionDescription { input: vec![feature("x")], ..FunctionDescription::default() };
        let mut description = ModelDescription {
            input: vec![feature("x"), feature("y")],
            output: vec![feature("x")],
            functions: vec![function],
            metadata: Some(Metadata {
                author: "first".into(),
                license: "first".into(),
                user_defined: [("a".into(), "1".into()), ("b".into(), "1".into())].into(),
                ..Metadata::default()
            }),
            ..ModelDescription::default()
        };
        let json =
            br#"{"MLModelAuthorKey": "second", "MLModelCreatorDefinedKey": {"b": "2", "c": 3}, "other": [],
            "MLModelVersionStringKey": "2.1", "MLModelLicenseKey": null}"#;
        metadata(&mut description, json).unwrap();
        features(&mut description, br#"{"Inputs": {"x": {"MLFeatureShortDescription": "second"}, "z": 1}}"#)
            .unwrap();
        let found = description.metadata.unwrap();
        assert_eq!((&*found.author, &*found.license, &*found.version_string), ("second", "first", "2.1"));
        assert_eq!(found.user_defined, [("a".into(), "1".into()), ("b".into(), "2".into())].into());
        let texts = |features: &[FeatureDescription]| -> Vec<String> {
            features.iter().map(|f| f.short_description.clone()).collect()
        };
        assert_eq!(texts(&description.input), ["second", "first"]);
        assert_eq!(texts(&description.output), ["first"]);
        assert_eq!(texts(&description.functions[0].input), ["second"]);
    }

    #[test]
    fn damage_is_an_error() {
        let mut description = ModelDescription::default();
        for bad in [&b"{"[..], b"[]", b"version https://git-lfs.github.com/spec/v1", &[b'['; 10_000]] {
            assert!(metadata(&mut description, bad).is_err());
            assert!(features(&mut description, bad).is_err());
        }
        metadata(&mut description, b"{}").unwrap();
        assert_eq!(description, ModelDescription::default());
    }
}
