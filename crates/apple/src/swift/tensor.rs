//! Conversion of arrays to and from Swift.

use std::ffi::{CString, c_void};
use std::slice;

use super::ffi::milwright_swift_tensor;
use super::table::{OWNERS, c_text, text};
use crate::array::{gather, packed_len, packed_strides, scatter, span};
use crate::{Array, ElementType, Error, ErrorKind, Features, Result, Value};

/// The most dimensions of an array. Core ML's arrays have fewer.
const MAX_RANK: i32 = 64;

/// Inputs in Swift's form: the tensors point into the other fields.
pub(super) struct Inputs {
    tensors: Vec<milwright_swift_tensor>,
    _names: Vec<CString>,
    _sizes: Vec<Vec<i64>>,
}

impl Inputs {
    /// Converts inputs. Adds the memory of each to [`OWNERS`] only when no error is possible any more. The caller must
    /// pass the inputs to Swift, which releases every owner.
    pub fn new(features: &Features) -> Result<Inputs> {
        let (mut names, mut sizes, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in features {
            let Value::Array(array) = value else {
                let message = format!("the input `{name}` is no array, and Swift is given arrays only");
                return Err(Error::new(ErrorKind::Unsupported, message));
            };
            names.push(c_text(name, "name")?);
            let input = Memory::new(array);
            for list in [array.shape(), &input.strides] {
                let list = list.iter().map(|n| i64::try_from(*n)).collect::<Result<Vec<_>, _>>();
                sizes.push(list.map_err(|_| Error::invalid(format!("the input `{name}` is too large")))?);
            }
            memory.push((array.element(), input));
        }
        let named = names.iter().zip(sizes.chunks_exact(2)).zip(memory);
        let tensors = named
            .map(|((name, sizes), (element, input))| milwright_swift_tensor {
                name: name.as_ptr(),
                element: number(element),
                rank: sizes[0].len() as i32,
                shape: sizes[0].as_ptr(),
                strides: sizes[1].as_ptr(),
                data: input.start.cast_mut().cast::<c_void>(),
                bytes: input.len as i64,
                owner: OWNERS.add(input.owner),
            })
            .collect();
        Ok(Inputs { tensors, _names: names, _sizes: sizes })
    }

    pub fn tensors(&self) -> &[milwright_swift_tensor] {
        &self.tensors
    }
}

/// The memory of an input, aligned to its elements.
struct Memory {
    start: *const u8,
    len: usize,
    strides: Vec<usize>,
    owner: Box<dyn Send>,
}

impl Memory {
    fn new(array: &Array) -> Memory {
        let data = array.data().clone();
        let (start, len) = (data.as_ptr(), data.len());
        if start.addr().is_multiple_of(array.element().size()) {
            return Memory { start, len, strides: array.strides().to_vec(), owner: Box::new(data) };
        }
        // Memory-mapped files and slices may start at any address; a vector of u64 is aligned.
        let packed = array.packed();
        let words: Vec<u64> = packed
            .chunks(size_of::<u64>())
            .map(|chunk| {
                let mut word = [0; size_of::<u64>()];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_ne_bytes(word)
            })
            .collect();
        let strides = packed_strides(array.shape());
        Memory { start: words.as_ptr().cast(), len: packed.len(), strides, owner: Box::new(words) }
    }
}

/// Copies all outputs of a prediction.
///
/// # Safety
/// `start` points to `count` tensors, each of which [`see`] may be called with.
pub(super) unsafe fn read_all(start: *const milwright_swift_tensor, count: i64) -> Result<Features> {
    let count = usize::try_from(count).map_err(|_| Error::protocol(format!("Swift gave {count} outputs")))?;
    // SAFETY: the caller says so.
    let tensors = unsafe { slice::from_raw_parts(start, count) };
    tensors
        .iter()
        .map(|tensor| {
            // SAFETY: the caller says so.
            let (name, seen) = unsafe { (text(tensor.name), see(tensor)?) };
            let name = name.ok_or_else(|| Error::protocol("Swift gave an output without a name"))?;
            Ok((name, Value::Array(seen.read()?)))
        })
        .collect()
}

/// A borrowed array of Swift's.
pub(super) struct Seen<'a> {
    element: ElementType,
    shape: Vec<usize>,
    strides: Vec<usize>,
    data: &'a mut [u8],
}

/// # Safety
/// The tensor's lists have as many elements as its rank says, and its data as many bytes as it says. Nobody else
/// accesses the data during the lifetime `'a`.
pub(super) unsafe fn see<'a>(tensor: &milwright_swift_tensor) -> Result<Seen<'a>> {
    let bad = |what: &str| Error::protocol(format!("Swift gave an array with {what}"));
    let element = element(tensor.element).ok_or_else(|| bad("elements of an unknown type"))?;
    let rank = usize::try_from(tensor.rank).ok().filter(|_| tensor.rank <= MAX_RANK);
    let rank = rank.ok_or_else(|| bad(&format!("{} dimensions", tensor.rank)))?;
    let list = |start: *const i64| -> Result<Vec<usize>> {
        if rank == 0 {
            return Ok(Vec::new());
        }
        if start.is_null() {
            return Err(bad("no shape or no strides"));
        }
        // SAFETY: the caller says so.
        let list = unsafe { slice::from_raw_parts(start, rank) };
        list.iter().map(|n| usize::try_from(*n).map_err(|_| bad(&format!("{n} in its shape")))).collect()
    };
    let (shape, strides) = (list(tensor.shape)?, list(tensor.strides)?);
    let needed = span(element, &shape, &strides).map_err(|e| bad(e.message()))?;
    // With strides that repeat elements, a copy would have more bytes than the array.
    let packed = packed_len(element, &shape)?;
    let bytes = usize::try_from(tensor.bytes).ok().filter(|n| needed <= *n && packed <= *n);
    if bytes.is_none() || tensor.data.is_null() && needed > 0 {
        return Err(bad(&format!("{} bytes in the shape {shape:?}", tensor.bytes)));
    }
    let data: &mut [u8] = match needed {
        0 => &mut [],
        // SAFETY: the caller says so.
        _ => unsafe { slice::from_raw_parts_mut(tensor.data.cast(), needed) },
    };
    Ok(Seen { element, shape, strides, data })
}

impl Seen<'_> {
    /// Copies the array, without gaps.
    pub fn read(&self) -> Result<Array> {
        let data = gather(self.data, self.element.size(), &self.shape, &self.strides);
        Array::new(self.element, &self.shape, data.into())
    }

    pub fn write(self, name: &str, array: &Array) -> Result<()> {
        let (element, shape) = (self.element, self.shape);
        if shape != array.shape() || element != array.element() {
            return Err(Error::invalid(format!(
                "the state `{name}` holds {shape:?} {element:?}, not {:?} {:?}",
                array.shape(),
                array.element()
            )));
        }
        scatter(&array.packed(), self.data, element.size(), &shape, &self.strides);
        Ok(())
    }
}

/// The number of an element type, as in `MLMultiArrayDataType`.
fn number(element: ElementType) -> i32 {
    match element {
        ElementType::Float16 => 0x1_0010,
        ElementType::Float32 => 0x1_0020,
        ElementType::Float64 => 0x1_0040,
        ElementType::Int8 => 0x2_0008,
        ElementType::Int32 => 0x2_0020,
    }
}

fn element(number: i32) -> Option<ElementType> {
    use ElementType::*;
    [Float16, Float32, Float64, Int8, Int32].into_iter().find(|e| self::number(*e) == number)
}
