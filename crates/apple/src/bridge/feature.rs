//! Inputs and outputs of predictions.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use block2::{DynBlock, RcBlock, StackBlock};
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, ProtocolObject};
use objc2::{AnyThread, ClassType, msg_send};
use objc2_core_ml::{
    MLArrayBatchProvider, MLBatchProvider, MLDictionaryFeatureProvider, MLFeatureProvider, MLFeatureType,
    MLFeatureValue, MLMultiArray, MLPredictionOptions, MLSequence,
};
use objc2_foundation::{NSArray, NSDictionary, NSError, NSNumber, NSSet, NSString};

use super::convert::{
    data_type, dictionary, element_type, integer, label, numbers, size, sizes, text, texts,
};
use super::edge::{Held, failed, responds, unsupported};
use super::{Maybe, image, some};
use crate::array::{Memory, gather, packed_len, packed_strides, span};
use crate::{Array, Backings, ElementType, Error, Features, Label, Result, Value};

pub(super) type Provider = ProtocolObject<dyn MLFeatureProvider>;
pub(super) type Batch = ProtocolObject<dyn MLBatchProvider>;

/// Converts inputs to a feature provider. Core ML reads arrays and images in place.
pub(super) fn provider(features: &Features) -> Result<Retained<Provider>> {
    let mut entries = Vec::with_capacity(features.len());
    for (name, value) in features {
        entries.push((NSString::from_str(name), Retained::into_super(Retained::into_super(feature(value)?))));
    }
    let dictionary: Retained<NSDictionary<NSString, AnyObject>> = dictionary(entries);
    let mut error: Maybe<NSError> = None;
    // SAFETY: the dictionary's keys are strings and its values are feature values; the error is written or left alone.
    let provider: Maybe<MLDictionaryFeatureProvider> = unsafe {
        msg_send![MLDictionaryFeatureProvider::alloc(), initWithDictionary: &*dictionary, error: &mut error]
    };
    let provider = provider.ok_or_else(|| failed("take the inputs", error))?;
    Ok(ProtocolObject::from_retained(provider))
}

/// Converts several sets of inputs to a batch.
pub(super) fn batch(batch: &[Features]) -> Result<Retained<Batch>> {
    let providers = batch.iter().map(provider).collect::<Result<Vec<_>>>()?;
    let array = NSArray::from_retained_slice(&providers);
    // SAFETY: the array holds feature providers.
    let batch: Maybe<MLArrayBatchProvider> =
        unsafe { msg_send![MLArrayBatchProvider::alloc(), initWithFeatureProviderArray: &*array] };
    Ok(ProtocolObject::from_retained(some(batch, "batch")?))
}

fn feature(value: &Value) -> Result<Retained<MLFeatureValue>> {
    let class = MLFeatureValue::class();
    // SAFETY: each selector gets arguments of the types it takes, and returns a feature value.
    let feature: Maybe<MLFeatureValue> = unsafe {
        match value {
            Value::Array(array) => {
                let array = multi_array(array)?;
                msg_send![class, featureValueWithMultiArray: &*array]
            }
            Value::Image(image) => {
                let image = image::pixel_buffer(image)?;
                msg_send![class, featureValueWithPixelBuffer: image.as_ptr()]
            }
            Value::Int64(n) => msg_send![class, featureValueWithInt64: *n],
            Value::Double(n) => msg_send![class, featureValueWithDouble: *n],
            Value::String(text) => msg_send![class, featureValueWithString: &*NSString::from_str(text)],
            Value::Dictionary(entries) => return labelled(entries),
            Value::Strings(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| NSString::from_str(text)).collect();
                let texts = NSArray::from_retained_slice(&texts);
                let sequence: Maybe<MLSequence> =
                    msg_send![MLSequence::class(), sequenceWithStringArray: &*texts];
                msg_send![class, featureValueWithSequence: &*some(sequence, "sequence")?]
            }
            Value::Integers(numbers) => {
                let numbers: Vec<_> = numbers.iter().map(|n| NSNumber::new_i64(*n)).collect();
                let numbers = NSArray::from_retained_slice(&numbers);
                let sequence: Maybe<MLSequence> =
                    msg_send![MLSequence::class(), sequenceWithInt64Array: &*numbers];
                msg_send![class, featureValueWithSequence: &*some(sequence, "sequence")?]
            }
        }
    };
    some(feature, "feature value")
}

fn labelled(entries: &[(Label, f64)]) -> Result<Retained<MLFeatureValue>> {
    let mut keys: Vec<Retained<AnyObject>> = Vec::with_capacity(entries.len());
    let mut values = Vec::with_capacity(entries.len());
    for (label, value) in entries {
        keys.push(match label {
            Label::Int64(n) => NSNumber::new_i64(*n).into(),
            Label::String(text) => NSString::from_str(text).into(),
        });
        values.push(NSNumber::new_f64(*value));
    }
    let (keys, values) = (NSArray::from_retained_slice(&keys), NSArray::from_retained_slice(&values));
    let mut error: Maybe<NSError> = None;
    // SAFETY: NSDictionary copies keys that are strings or numbers; both lists have the same length.
    let feature: Maybe<MLFeatureValue> = unsafe {
        let class = NSDictionary::<AnyObject, NSNumber>::class();
        let dictionary: Maybe<NSDictionary<AnyObject, NSNumber>> =
            msg_send![class, dictionaryWithObjects: &*values, forKeys: &*keys];
        let dictionary = some(dictionary, "dictionary")?;
        msg_send![MLFeatureValue::class(), featureValueWithDictionary: &*dictionary, error: &mut error]
    };
    feature.ok_or_else(|| failed("take a dictionary", error))
}

/// Creates an array over the caller's memory, which lives until Core ML releases the array.
fn multi_array(array: &Array) -> Result<Retained<MLMultiArray>> {
    let data = array.data().clone();
    // Core ML only reads inputs, so nothing writes through this pointer.
    let start = data.as_ptr().cast_mut();
    if start.addr().is_multiple_of(array.element().size()) {
        return over(array.shape(), array.element(), start, array.strides(), data);
    }
    // Memory-mapped files and slices may start at any address; a vector of u64 is aligned.
    let packed = array.packed();
    let mut words = vec![0u64; packed.len().div_ceil(size_of::<u64>())];
    let start = words.as_mut_ptr().cast::<u8>();
    // SAFETY: the words have room for the packed bytes, and are new.
    unsafe { packed.as_ptr().copy_to_nonoverlapping(start, packed.len()) };
    over(array.shape(), array.element(), start, &packed_strides(array.shape()), words)
}

/// Creates an array over memory that starts at `start` and belongs to `owner`, which is dropped when Core ML releases
/// the array. Shape and strides stay within the memory: `Array` and `Backing` have checked that.
fn over(
    shape: &[usize],
    element: ElementType,
    start: *mut u8,
    strides: &[usize],
    owner: impl Send + 'static,
) -> Result<Retained<MLMultiArray>> {
    // If Core ML refuses the array, the block is dropped without being called, and the owner with it.
    let owner = Mutex::new(Some(owner));
    let release: RcBlock<dyn Fn(NonNull<c_void>)> = RcBlock::new(move |_: NonNull<c_void>| {
        drop(owner.lock().unwrap_or_else(PoisonError::into_inner).take());
    });
    let (shape, strides) = (numbers(shape), numbers(strides));
    let mut error: Maybe<NSError> = None;
    // SAFETY: the memory is valid for shape and strides, which `Array` and `Backing` have checked, and for as long as
    // the block has its owner: until the array is deallocated.
    let array: Maybe<MLMultiArray> = unsafe {
        msg_send![
            MLMultiArray::alloc(),
            initWithDataPointer: start.cast::<c_void>(),
            shape: &*shape,
            dataType: data_type(element),
            strides: &*strides,
            deallocator: &*release,
            error: &mut error,
        ]
    };
    array.ok_or_else(|| failed("make an array", error))
}

/// Outputs that Core ML writes into the caller's memory.
pub(super) struct Backed {
    pub options: Held<MLPredictionOptions>,
    /// Core ML's arrays and the memory of each.
    arrays: Vec<(Held<MLMultiArray>, Memory)>,
}

// SAFETY: the arrays are only compared by address and released, which any thread may do. The options are used before
// the prediction starts.
unsafe impl Send for Backed {}
// SAFETY: as above: through a reference, addresses are compared and nothing else is done.
unsafe impl Sync for Backed {}

pub(super) fn backed(backings: Backings) -> Result<Backed> {
    // SAFETY: a plain initializer.
    let options: Maybe<MLPredictionOptions> = unsafe { msg_send![MLPredictionOptions::alloc(), init] };
    let options = some(options, "prediction options")?;
    let mut arrays = Vec::with_capacity(backings.len());
    let mut entries: Vec<(_, Retained<AnyObject>)> = Vec::with_capacity(backings.len());
    for (name, backing) in &backings {
        let memory = backing.memory().clone();
        let strides = packed_strides(backing.shape());
        let array = over(backing.shape(), backing.element(), memory.start(), &strides, memory.clone())?;
        entries.push((NSString::from_str(name), array.clone().into()));
        arrays.push((Held::new(array), memory));
    }
    if !entries.is_empty() {
        if !responds(&*options, objc2::sel!(setOutputBackings:)) {
            return Err(unsupported("writing outputs into memory of one's own", "macOS 13"));
        }
        // SAFETY: the keys are names of outputs, the values arrays.
        unsafe { options.setOutputBackings(&dictionary(entries)) };
    }
    Ok(Backed { options: Held::new(options), arrays })
}

/// Reads the outputs of a prediction.
pub(super) fn outputs(provider: &Provider, backed: &Backed) -> Result<Features> {
    // SAFETY: the protocol's method, which returns a set.
    let names: Maybe<NSSet<NSString>> = unsafe { msg_send![provider, featureNames] };
    let mut outputs = Features::new();
    for name in some(names, "names of outputs")?.iter() {
        let key = text(&name, "set of names")?;
        // SAFETY: the protocol's method takes a name and returns a value or nil.
        let value = unsafe { provider.featureValueForName(&name) };
        let value = read_feature(&*some(value, &format!("value of the output `{key}`"))?, &key, backed)?;
        outputs.insert(key, value);
    }
    Ok(outputs)
}

/// Reads the outputs of a batch, in its order.
pub(super) fn batch_outputs(batch: &Batch, expected: usize, backed: &Backed) -> Result<Vec<Features>> {
    // SAFETY: the protocol's method without arguments.
    let count = unsafe { batch.count() };
    if usize::try_from(count) != Ok(expected) {
        return Err(Error::protocol(format!("Core ML gave {count} results for a batch of {expected}")));
    }
    (0..count)
        .map(|i| {
            // SAFETY: the index is below the count.
            let provider: Maybe<Provider> = unsafe { msg_send![batch, featuresAtIndex: i] };
            outputs(&*some(provider, "result of a batch")?, backed)
        })
        .collect()
}

fn read_feature(feature: &MLFeatureValue, name: &str, backed: &Backed) -> Result<Value> {
    // SAFETY: getters of a feature value; each is called for the type that it belongs to.
    unsafe {
        Ok(match feature.r#type() {
            MLFeatureType::Int64 => Value::Int64(feature.int64Value()),
            MLFeatureType::Double => Value::Double(feature.doubleValue()),
            MLFeatureType::String => {
                let text: Maybe<NSString> = msg_send![feature, stringValue];
                Value::String(some(text, "text")?.to_string())
            }
            MLFeatureType::MultiArray => {
                Value::Array(output(&*some(feature.multiArrayValue(), "array")?, backed)?)
            }
            MLFeatureType::Image => {
                let buffer: *mut image::CVBuffer = msg_send![feature, imageBufferValue];
                Value::Image(image::read(buffer)?)
            }
            MLFeatureType::Dictionary => {
                let entries: Maybe<NSDictionary<AnyObject, NSNumber>> = msg_send![feature, dictionaryValue];
                Value::Dictionary(read_labelled(&*some(entries, "dictionary")?)?)
            }
            MLFeatureType::Sequence => {
                let sequence = some(feature.sequenceValue(), "sequence")?;
                read_sequence(&sequence)?
            }
            other => {
                return Err(Error::protocol(format!(
                    "the output `{name}` is of an unknown type: {}",
                    other.0
                )));
            }
        })
    }
}

fn read_labelled(entries: &NSDictionary<AnyObject, NSNumber>) -> Result<Vec<(Label, f64)>> {
    let mut read = Vec::with_capacity(entries.count());
    for key in entries.allKeys().iter() {
        let value = some(entries.objectForKey(&key), "value of a dictionary")?;
        integer(&value, "dictionary")?;
        read.push((label(&key)?, value.as_f64()));
    }
    read.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(read)
}

fn read_sequence(sequence: &MLSequence) -> Result<Value> {
    // SAFETY: getters of a sequence; each is called for the type that it belongs to.
    unsafe {
        match sequence.r#type() {
            MLFeatureType::String => {
                let values: Maybe<NSArray<NSString>> = msg_send![sequence, stringValues];
                Ok(Value::Strings(texts(&*some(values, "sequence of texts")?, "sequence")?))
            }
            MLFeatureType::Int64 => {
                let values: Maybe<NSArray<NSNumber>> = msg_send![sequence, int64Values];
                let values = some(values, "sequence of integers")?;
                Ok(Value::Integers(values.iter().map(|n| integer(&n, "sequence")).collect::<Result<_>>()?))
            }
            other => Err(Error::protocol(format!("Core ML gave a sequence of the unknown type {}", other.0))),
        }
    }
}

/// Reads an output: the caller's memory if Core ML wrote there, otherwise a copy.
fn output(array: &MLMultiArray, backed: &Backed) -> Result<Array> {
    let ours = backed.arrays.iter().find(|(ours, _)| std::ptr::eq(&**ours, array));
    match ours {
        Some((_, memory)) => {
            let (shape, element, _) = layout(array)?;
            Array::new(element, &shape, memory.clone().into_bytes())
        }
        None => read_array(array),
    }
}

/// Copies an array, without gaps.
pub(super) fn read_array(array: &MLMultiArray) -> Result<Array> {
    let (shape, element, strides) = layout(array)?;
    let needed = span(element, &shape, &strides).map_err(unfit)?;
    let len = packed_len(element, &shape).map_err(unfit)?;
    let copy = RefCell::new(None);
    let handler = StackBlock::new(|start: *const c_void, available: isize| {
        // With strides that repeat elements, the copy would have more bytes than the array.
        let fits = usize::try_from(available).is_ok_and(|n| needed <= n && len <= n);
        if fits && (!start.is_null() || needed == 0) {
            let data: &[u8] = match needed {
                0 => &[],
                // SAFETY: Core ML says that this many bytes are readable while the handler runs.
                _ => unsafe { std::slice::from_raw_parts(start.cast(), needed) },
            };
            *copy.borrow_mut() = Some(gather(data, element.size(), &shape, &strides));
        }
    });
    if !responds(array, objc2::sel!(getBytesWithHandler:)) {
        return Err(unsupported("reading arrays", "macOS 12.3"));
    }
    let handler: &DynBlock<dyn Fn(*const c_void, isize) + '_> = &handler;
    // SAFETY: the selector takes a block of (const void *, NSInteger), and calls it before it returns.
    unsafe { msg_send![array, getBytesWithHandler: handler] }
    let data = copy.into_inner();
    let data = data.ok_or_else(|| Error::protocol(format!("Core ML gave too few bytes for {shape:?}")))?;
    Array::new(element, &shape, data.into())
}

/// The error for an invalid shape or invalid strides that came from Core ML, not from the caller.
pub(super) fn unfit(e: Error) -> Error {
    Error::protocol(format!("Core ML gave an array that cannot be: {}", e.message()))
}

/// Shape, element type and strides.
pub(super) fn layout(array: &MLMultiArray) -> Result<(Vec<usize>, ElementType, Vec<usize>)> {
    // SAFETY: getters of an array.
    let (shape, strides, data_type, count): (Maybe<NSArray<NSNumber>>, Maybe<NSArray<NSNumber>>, _, _) =
        unsafe { (msg_send![array, shape], msg_send![array, strides], array.dataType(), array.count()) };
    let shape = sizes(&*some(shape, "shape")?, "shape")?;
    let strides = sizes(&*some(strides, "strides")?, "stride")?;
    let element = element_type(data_type).ok_or_else(|| {
        Error::protocol(format!("Core ML gave elements of an unknown type: {}", data_type.0))
    })?;
    let elements = packed_len(element, &shape).map_err(unfit)? / element.size();
    if shape.len() != strides.len() || size(count as i64, "count")? != elements {
        return Err(Error::protocol(format!(
            "Core ML gave an array of {count} elements in the shape {shape:?} with the strides {strides:?}"
        )));
    }
    Ok((shape, element, strides))
}
