//! Decodes the specification of a model.

use bytes::Bytes;
use prost::Message as _;

use crate::limits::{MAX_MESSAGE_DEPTH, MAX_SPEC_BYTES, NEWEST_SPECIFICATION_VERSION};
use crate::proto::{Model, layout};
use crate::{Error, Result, lfs_pointer, manifest, memory};

/// Decodes a serialized model.
pub(crate) fn decode(data: Bytes) -> Result<Model> {
    if data.len() as u64 > MAX_SPEC_BYTES {
        return Err(Error::limit(format!("{} bytes, more than the limit of {MAX_SPEC_BYTES}", data.len())));
    }
    if let Some(error) = lfs_pointer(&data) {
        return Err(error);
    }
    if data.is_empty() {
        return Err(Error::malformed("the model file is empty").with_hint(manifest::COPY_AGAIN));
    }
    memory::check(&data, &layout::MESSAGES, layout::MODEL)?;
    let model = Model::decode(data).map_err(not_decoded)?;
    check_version(model.specification_version)?;
    if model.r#type.is_none() {
        return Err(Error::malformed("the model has none of the known model types"));
    }
    Ok(model)
}

/// Refuses unknown specification versions.
pub(crate) fn check_version(version: i32) -> Result<()> {
    if version < 1 {
        return Err(Error::malformed("not a Core ML model: it has no specification version"));
    }
    if version > NEWEST_SPECIFICATION_VERSION {
        return Err(Error::unsupported(format!(
            "specification version {version}; versions up to {NEWEST_SPECIFICATION_VERSION} are known"
        ))
        .with_hint("a newer Milwright may read it"));
    }
    Ok(())
}

fn not_decoded(error: prost::DecodeError) -> Error {
    // The text names every message that contains the damage, the innermost first.
    let text = error.to_string();
    if text.ends_with("recursion limit reached") {
        let error =
            Error::limit(format!("messages are nested too deep: the recursion limit is {MAX_MESSAGE_DEPTH}"));
        return error
            .with_hint("a model that was made by a converter is not: this file is damaged or made to harm");
    }
    let what = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    Error::malformed(format!("not a Core ML model, or a damaged one: {what}"))
        .with_hint(
            "give an .mlpackage folder or an .mlmodel file; if it is one, copy, download or export it again",
        )
        .with_source(error)
}
