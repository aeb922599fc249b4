//! Texts, paths and numbers.

use std::path::{Path, PathBuf};

use objc2::rc::Retained;
use objc2::runtime::AnyObject;
use objc2_core_ml::MLMultiArrayDataType;
use objc2_foundation::{NSArray, NSDictionary, NSNumber, NSRange, NSString, NSURL};

use crate::{ElementType, Error, Label, Result};

/// The URL of a file.
pub(super) fn url(path: &Path) -> Result<Retained<NSURL>> {
    let text = path.to_str().filter(|text| !text.is_empty() && !text.contains('\0'));
    let text = text.ok_or_else(|| Error::invalid(format!("{path:?} is no path that Core ML can open")))?;
    Ok(NSURL::fileURLWithPath(&NSString::from_str(text)))
}

/// The path of a URL.
pub(super) fn path_of(url: &NSURL) -> Result<PathBuf> {
    match url.path() {
        Some(path) => Ok(path.to_string().into()),
        None => Err(Error::protocol("Core ML gave a URL that is no file")),
    }
}

/// Creates a dictionary from pairs of key and value.
pub(super) fn dictionary<V: objc2::Message>(
    entries: impl IntoIterator<Item = (Retained<NSString>, Retained<V>)>,
) -> Retained<NSDictionary<NSString, V>> {
    let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    let keys: Vec<&NSString> = keys.iter().map(|key| &**key).collect();
    NSDictionary::from_retained_objects(&keys, &values)
}

pub(super) fn numbers(values: &[usize]) -> Retained<NSArray<NSNumber>> {
    let numbers: Vec<_> = values.iter().map(|n| NSNumber::new_usize(*n)).collect();
    NSArray::from_retained_slice(&numbers)
}

/// Reads numbers that are sizes or counts.
pub(super) fn sizes(numbers: &NSArray<NSNumber>, what: &str) -> Result<Vec<usize>> {
    numbers.iter().map(|n| size(integer(&n, what)?, what)).collect()
}

pub(super) fn size(n: i64, what: &str) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::protocol(format!("Core ML gave {n} in a {what}")))
}

/// Reads an integer from an object that should be a number.
pub(super) fn integer(object: &AnyObject, what: &str) -> Result<i64> {
    match object.downcast_ref::<NSNumber>() {
        Some(number) => Ok(number.as_i64()),
        None => Err(Error::protocol(format!("Core ML gave something else than a number in a {what}"))),
    }
}

pub(super) fn text(object: &AnyObject, what: &str) -> Result<String> {
    match object.downcast_ref::<NSString>() {
        Some(text) => Ok(text.to_string()),
        None => Err(Error::protocol(format!("Core ML gave something else than a text in a {what}"))),
    }
}

pub(super) fn texts(array: &NSArray<NSString>, what: &str) -> Result<Vec<String>> {
    array.iter().map(|t| text(&t, what)).collect()
}

/// Reads a class label, or the key of a dictionary.
pub(super) fn label(object: &AnyObject) -> Result<Label> {
    match object.downcast_ref::<NSString>() {
        Some(text) => Ok(Label::String(text.to_string())),
        None => Ok(Label::Int64(integer(object, "label")?)),
    }
}

/// Converts an `NSRange` (start and length) to a range of sizes with both ends included. A range that reaches to the
/// largest numbers has no upper bound.
pub(super) fn bounds(range: NSRange) -> (usize, Option<usize>) {
    /// Core ML's files say -1 for "no bound", and in places hold 32-bit numbers.
    const UNBOUNDED: usize = i32::MAX as usize - 1;
    let highest = range.location.saturating_add(range.length.saturating_sub(1));
    (range.location, (highest < UNBOUNDED).then_some(highest))
}

pub(super) fn data_type(element: ElementType) -> MLMultiArrayDataType {
    match element {
        ElementType::Float16 => MLMultiArrayDataType::Float16,
        ElementType::Float32 => MLMultiArrayDataType::Float32,
        ElementType::Float64 => MLMultiArrayDataType::Float64,
        ElementType::Int8 => MLMultiArrayDataType::Int8,
        ElementType::Int32 => MLMultiArrayDataType::Int32,
    }
}

pub(super) fn element_type(data_type: MLMultiArrayDataType) -> Option<ElementType> {
    use ElementType::*;
    [Float16, Float32, Float64, Int8, Int32].into_iter().find(|e| self::data_type(*e) == data_type)
}
