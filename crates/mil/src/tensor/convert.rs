//! Conversions between element types.

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

use super::{Element, Tensor};
use crate::DType;

impl Tensor {
    /// Converts the elements to another type, as Core ML converts inputs: any numbers to floats, and to integers if
    /// every element is a whole number that fits; to bools, whether an element is not zero. `None` for other
    /// conversions.
    ///
    /// ```
    /// use milwright_mil::{DType, Tensor};
    ///
    /// let whole = Tensor::from_vec(&[2], vec![1.0f32, -2.0]).unwrap();
    /// assert_eq!(whole.converted(DType::Int32).unwrap().to_vec::<i32>().unwrap(), [1, -2]);
    /// assert!(Tensor::scalar(0.5f32).converted(DType::Int32).is_none());
    /// ```
    pub fn converted(&self, dtype: DType) -> Option<Tensor> {
        if self.dtype() == dtype {
            return Some(self.clone());
        }
        match dtype {
            DType::Fp32 => Tensor::from_vec(self.shape(), self.widened()?).ok(),
            DType::Fp16 => {
                let mut narrow = vec![f16::ZERO; self.elements()];
                narrow.convert_from_f32_slice(&self.widened()?);
                Tensor::from_vec(self.shape(), narrow).ok()
            }
            DType::Int32 => self.whole(|x| i32::try_from(x).ok()),
            DType::Int16 => self.whole(|x| i16::try_from(x).ok()),
            DType::UInt16 => self.whole(|x| u16::try_from(x).ok()),
            DType::Int8 => self.whole(|x| i8::try_from(x).ok()),
            DType::UInt8 => self.whole(|x| u8::try_from(x).ok()),
            DType::Bool => {
                let values: Vec<bool> = self.to_f64().iter().map(|&x| x != 0.0).collect();
                Tensor::from_bools(self.shape(), &values).ok()
            }
            _ => None,
        }
    }

    /// Every element as `f32`, rounded once; `None` for strings and elements smaller than a byte.
    fn widened(&self) -> Option<Vec<f32>> {
        fn each<T: Element>(tensor: &Tensor, f: impl Fn(T) -> f32) -> Vec<f32> {
            let bytes = tensor.bytes().chunks_exact(size_of::<T>());
            bytes.map(|c| f(bytemuck::pod_read_unaligned(c))).collect()
        }
        Some(match self.dtype() {
            DType::Fp16 => {
                let mut wide = vec![0.0; self.elements()];
                self.as_slice::<f16>()?.convert_to_f32_slice(&mut wide);
                wide
            }
            DType::Bf16 => each::<bf16>(self, f32::from),
            DType::Fp32 => self.to_vec().ok()?,
            DType::Fp64 => each::<f64>(self, |x| x as f32),
            DType::Bool | DType::UInt8 => each::<u8>(self, f32::from),
            DType::Int8 => each::<i8>(self, f32::from),
            DType::Int16 => each::<i16>(self, f32::from),
            DType::UInt16 => each::<u16>(self, f32::from),
            DType::Int32 => each::<i32>(self, |x| x as f32),
            DType::UInt32 => each::<u32>(self, |x| x as f32),
            DType::Int64 => each::<i64>(self, |x| x as f32),
            DType::UInt64 => each::<u64>(self, |x| x as f32),
            _ => return None,
        })
    }

    /// Converts whole numbers to integers, even if they come as floats: NumPy makes most arrays of floats.
    fn whole<T: Element>(&self, narrow: impl Fn(i64) -> Option<T>) -> Option<Tensor> {
        /// `f64` represents every whole number up to this magnitude.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let whole = |x: f64| (x.fract() == 0.0 && x.abs() <= EXACT).then_some(x as i64);
        let values: Vec<i64> = match self.to_i64() {
            Some(values) => values,
            None => self.to_f64().into_iter().map(whole).collect::<Option<_>>()?,
        };
        Tensor::from_vec(self.shape(), values.into_iter().map(narrow).collect::<Option<Vec<T>>>()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against values that NumPy gives: `np.array([...], np.float64).astype(np.float16)` and the like.
    #[test]
    fn floats_are_rounded_to_even() {
        let x = Tensor::from_vec(&[5], vec![1.0f32, 2049.0, 2051.0, 65519.0, 65520.0]).unwrap();
        let halves = x.converted(DType::Fp16).unwrap();
        assert_eq!(halves.to_f64(), [1.0, 2048.0, 2052.0, 65504.0, f64::INFINITY]);
        let x = Tensor::from_vec(&[2], vec![16_777_217i64, -3]).unwrap();
        assert_eq!(x.converted(DType::Fp32).unwrap().to_f64(), [16_777_216.0, -3.0]);
    }

    #[test]
    fn integers_take_whole_numbers_that_fit() {
        let of = |x: f64| Tensor::scalar(x).converted(DType::Int8).map(|t| t.to_i64().unwrap()[0]);
        assert_eq!(of(-128.0), Some(-128));
        assert_eq!([of(128.0), of(0.5), of(f64::NAN), of(f64::INFINITY)], [None; 4]);
        assert_eq!(Tensor::scalar(f32::NAN).converted(DType::Bool).unwrap().to_f64(), [1.0]);
        let text = Tensor::from_strings(&[1], vec!["1".into()]).unwrap();
        assert!(text.converted(DType::Fp32).is_none() && text.converted(DType::Int32).is_none());
    }
}
