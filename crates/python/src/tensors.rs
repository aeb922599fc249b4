//! NumPy arrays in and out.

use bytes::Bytes;
use half::f16;
use milwright::{DType, Dictionary, Error, ErrorKind, InferenceRequest, Tensor};
use numpy::{Element, PyArray1, PyArrayDescrMethods, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::errors::exception;

/// One set of inputs.
pub fn request(inputs: &Bound<'_, PyDict>) -> PyResult<InferenceRequest> {
    let mut request = InferenceRequest::new();
    for (name, value) in inputs {
        let wrong = |_| {
            let message = format!("the name of an input is text, not {name:?}");
            exception(inputs.py(), &Error::new(ErrorKind::InvalidInput, message))
        };
        let name: String = name.extract().map_err(wrong)?;
        request = add(request, &name, &value)?;
    }
    Ok(request)
}

/// A tensor over an array's memory, which it keeps alive. Only what is not contiguous, or in the other byte order, is
/// copied.
pub fn from_python(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let py = value.py();
    let wrong = |message: String| exception(py, &Error::new(ErrorKind::InvalidInput, message));
    let numpy = py.import("numpy")?;
    // NumPy would take what is masked for data.
    if value.hasattr("_mask")? && numpy.getattr("ma")?.call_method1("is_masked", (value,))?.is_truthy()? {
        return Err(wrong(format!("the input `{name}` has masked elements: fill them first (`filled`)")));
    }
    let array = numpy.call_method1("asarray", (value,)).map_err(|cause| {
        if cause.is_instance_of::<PyMemoryError>(py) || !cause.is_instance_of::<PyException>(py) {
            return cause;
        }
        let error = wrong(format!("the input `{name}` is not an array of numbers: {}", cause.value(py)));
        error.set_cause(py, Some(cause));
        error
    })?;
    let native = array.getattr("dtype")?.call_method1("newbyteorder", ("=",))?;
    // Unlike `ascontiguousarray`, this keeps arrays without dimensions as they are.
    let array = numpy.call_method1("asarray", (array, native, "C"))?;
    let array = array.cast_into::<PyUntypedArray>().map_err(|e| wrong(format!("the input `{name}`: {e}")))?;
    let dtype = match (array.dtype().kind(), array.dtype().itemsize()) {
        (b'f', 2) => DType::Fp16,
        (b'f', 4) => DType::Fp32,
        (b'f', 8) => DType::Fp64,
        (b'i', 1) => DType::Int8,
        (b'i', 2) => DType::Int16,
        (b'i', 4) => DType::Int32,
        (b'i', 8) => DType::Int64,
        (b'u', 1) => DType::UInt8,
        (b'u', 2) => DType::UInt16,
        (b'u', 4) => DType::UInt32,
        (b'u', 8) => DType::UInt64,
        (b'b', 1) => DType::Bool,
        _ => {
            let message = format!("the input `{name}` is not an array of numbers, but of {}", array.dtype());
            return Err(wrong(message));
        }
    };
    let shape = array.shape().to_vec();
    let bytes = Bytes::from_owner(Memory::of(array));
    Tensor::from_bytes(dtype, &shape, bytes).map_err(|e| wrong(format!("the input `{name}`: {e}")))
}

/// Adds an input of any kind: a dictionary, text, a list of texts, or what NumPy makes an array of numbers of.
pub fn add(request: InferenceRequest, name: &str, value: &Bound<'_, PyAny>) -> PyResult<InferenceRequest> {
    if let Ok(entries) = value.cast::<PyDict>() {
        let dictionary = dictionary(name, entries)?;
        return Ok(request.dictionary(name, dictionary));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(request.input(name, Tensor::string(text.extract::<String>()?)));
    }
    if (value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>())
        && let Ok(texts) = value.extract::<Vec<String>>()
        && !texts.is_empty()
    {
        let texts = Tensor::from_strings(&[texts.len()], texts).expect("the shape is the number of texts");
        return Ok(request.input(name, texts));
    }
    Ok(request.input(name, from_python(name, value)?))
}

/// Numbers by key, all keys being texts or all of them whole numbers.
fn dictionary(name: &str, entries: &Bound<'_, PyDict>) -> PyResult<Dictionary> {
    let texts = entries.iter().map(|(key, value)| Ok((key.extract()?, value.extract()?)));
    if let Ok(entries) = texts.collect::<PyResult<Vec<(String, f64)>>>() {
        return Ok(Dictionary::from_strings(entries));
    }
    let numbers = entries.iter().map(|(key, value)| Ok((key.extract()?, value.extract()?)));
    numbers.collect::<PyResult<Vec<(i64, f64)>>>().map(Dictionary::from_ints).map_err(|_| {
        let message = format!("the input `{name}` is not a dictionary of numbers whose keys are str or int");
        exception(entries.py(), &Error::new(ErrorKind::InvalidInput, message))
    })
}

/// The memory of a contiguous array.
struct Memory {
    start: *const u8,
    len: usize,
    /// Keeps the memory alive.
    _array: Py<PyUntypedArray>,
}

// SAFETY: the pointer is read from only, and what it points to lives as long as `_array`, which itself may be sent
// and shared (PyO3 defers the release of a `Py` to a thread that holds Python's lock). As with NumPy itself, it is
// for the caller not to change an array in one thread while another computes with it; the documentation of `predict`
// says so.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `array` must be C-contiguous.
    fn of(array: Bound<'_, PyUntypedArray>) -> Memory {
        let len = array.len() * array.dtype().itemsize();
        // SAFETY: `as_array_ptr` is a valid `PyArrayObject`, since `array` is one and is alive.
        let start = unsafe { (*array.as_array_ptr()).fields.data }.cast_const().cast();
        Memory { start, len, _array: array.unbind() }
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: a C-contiguous array of `len` bytes starts at `start` and lives as long as `self`; every byte of a
        // numeric array is initialized; see above for who may write to it meanwhile.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// A new array that the caller owns; a string, or a list of them, for strings.
pub fn to_python<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    match tensor.dtype() {
        DType::Fp16 => array::<f16>(py, tensor),
        DType::Fp32 => array::<f32>(py, tensor),
        DType::Fp64 => array::<f64>(py, tensor),
        DType::Int8 => array::<i8>(py, tensor),
        DType::Int16 => array::<i16>(py, tensor),
        DType::Int32 => array::<i32>(py, tensor),
        DType::Int64 => array::<i64>(py, tensor),
        DType::UInt8 => array::<u8>(py, tensor),
        DType::UInt16 => array::<u16>(py, tensor),
        DType::UInt32 => array::<u32>(py, tensor),
        DType::UInt64 => array::<u64>(py, tensor),
        DType::Bool => {
            let values: Vec<bool> = tensor.bytes().iter().map(|&b| b != 0).collect();
            shaped(PyArray1::from_vec(py, values), tensor.shape())
        }
        DType::String => match (tensor.shape(), tensor.strings()) {
            ([], [one]) => Ok(PyString::new(py, one).into_any()),
            (_, strings) => Ok(PyList::new(py, strings)?.into_any()),
        },
        // bf16 and numbers of less than a byte have no NumPy type: every value of them is a float.
        _ => {
            let values: Vec<f32> = tensor.to_f64().into_iter().map(|x| x as f32).collect();
            shaped(PyArray1::from_vec(py, values), tensor.shape())
        }
    }
}

fn array<'py, T: Element + milwright::Element>(
    py: Python<'py>,
    tensor: &Tensor,
) -> PyResult<Bound<'py, PyAny>> {
    let values = tensor.to_vec::<T>().expect("the element type is that of the tensor");
    shaped(PyArray1::from_vec(py, values), tensor.shape())
}

fn shaped<'py, T: Element>(flat: Bound<'py, PyArray1<T>>, shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    Ok(flat.reshape(shape)?.into_any())
}
