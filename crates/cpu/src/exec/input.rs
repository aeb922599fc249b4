//! Converts the inputs that callers pass to the types that the function declares.

use milwright_mil::{DType, Element, Tensor};

use super::{Executable, RunError};
use crate::convert::{read_f32, write_f32};
use crate::memory::AlignedBytes;
use crate::{View, ViewMut};

impl Executable {
    /// Returns the inputs in declared order, converted.
    pub(super) fn bind(&self, given: &[(&str, Tensor)]) -> Result<Vec<Tensor>, RunError> {
        let error = |name: &str, message| RunError::Input { name: name.into(), message };
        let names = || self.inputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some((name, _)) = given.iter().find(|(n, _)| !self.inputs.iter().any(|p| p.name == *n)) {
            return Err(error(name, format!("the function has no such input; it has: {}", names())));
        }
        let mut tensors = Vec::with_capacity(self.inputs.len());
        for port in &self.inputs {
            let mut named = given.iter().filter(|(n, _)| *n == port.name);
            let Some((_, tensor)) = named.next() else {
                return Err(error(&port.name, "it is missing".into()));
            };
            if named.next().is_some() {
                return Err(error(&port.name, "it is given twice".into()));
            }
            let Some((dtype, shape)) = &self.values[port.value as usize].tensor else {
                return Err(error(&port.name, "it is not a tensor of a fixed shape".into()));
            };
            if tensor.shape() != shape {
                let message = format!("its shape is {:?}, but this plan is for {shape:?}", tensor.shape());
                return Err(error(&port.name, message));
            }
            let converted = convert(tensor, *dtype).ok_or_else(|| {
                error(
                    &port.name,
                    format!("it holds {}, which cannot be converted to {dtype}", tensor.dtype()),
                )
            })?;
            tensors.push(converted);
        }
        Ok(tensors)
    }
}

/// Converts elements to another type, as Core ML converts inputs: any numbers to floats, and to integers if every
/// element is a whole number that fits. `None` for other conversions.
pub fn convert(tensor: &Tensor, dtype: DType) -> Option<Tensor> {
    if tensor.dtype() == dtype {
        return Some(tensor.clone());
    }
    let shape = tensor.shape();
    match dtype {
        DType::Fp16 | DType::Fp32 if tensor.dtype() != DType::String && !tensor.dtype().is_sub_byte() => {
            let mut values = vec![0.0; tensor.elements()];
            read_f32(&View::from(tensor), 0, &mut values);
            let mut bytes = AlignedBytes::zeroed(dtype.byte_len(values.len())?);
            write_f32(&mut ViewMut::new(dtype, shape, bytes.as_mut()), 0, &values);
            Tensor::from_bytes(dtype, shape, bytes.into()).ok()
        }
        DType::Int32 => whole(tensor, |x| i32::try_from(x).ok()),
        DType::Int16 => whole(tensor, |x| i16::try_from(x).ok()),
        DType::UInt16 => whole(tensor, |x| u16::try_from(x).ok()),
        DType::Int8 => whole(tensor, |x| i8::try_from(x).ok()),
        DType::UInt8 => whole(tensor, |x| u8::try_from(x).ok()),
        DType::Bool => {
            let values: Vec<bool> = tensor.to_f64().iter().map(|&x| x != 0.0).collect();
            Tensor::from_bools(shape, &values).ok()
        }
        _ => None,
    }
}

/// Converts whole numbers to integers, even if they come as floats: NumPy makes most arrays of floats.
fn whole<T: Element>(tensor: &Tensor, narrow: impl Fn(i64) -> Option<T>) -> Option<Tensor> {
    /// `f64` represents every whole number up to this magnitude.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = |x: f64| (x.fract() == 0.0 && x.abs() <= EXACT).then_some(x as i64);
    let values: Vec<i64> = match tensor.to_i64() {
        Some(values) => values,
        None => tensor.to_f64().into_iter().map(whole).collect::<Option<_>>()?,
    };
    Tensor::from_vec(tensor.shape(), values.into_iter().map(narrow).collect::<Option<Vec<T>>>()?).ok()
}
