//! Conversions between element types: widening to `f32`, narrowing from it, and dispatch over element types.

use std::borrow::Cow;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use milwright_mil::DType;
use num_traits::AsPrimitive;

use crate::simd::{self, Isa};
use crate::{View, ViewMut};

/// Evaluates an expression with `$T` bound to the Rust type of a whole-byte element type (`u8` for bool). For strings
/// and sub-byte types, evaluates the `else` expression.
///
/// ```ignore
/// with_element!(x.dtype(), T => gather::<T>(x, indices), else => return Err(...))
/// ```
#[macro_export]
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::with_number!($dtype, $T => $body, else => match $dtype {
            milwright_mil::DType::Bool => { type $T = u8; $body }
            _ => $other,
        })
    };
}

/// Like [`with_element!`], without bool.
#[macro_export]
macro_rules! with_number {
    ($dtype:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::with_int!($dtype, $T => $body, else => match $dtype {
            milwright_mil::DType::Fp16 => { type $T = half::f16; $body }
            milwright_mil::DType::Bf16 => { type $T = half::bf16; $body }
            milwright_mil::DType::Fp32 => { type $T = f32; $body }
            milwright_mil::DType::Fp64 => { type $T = f64; $body }
            _ => $other,
        })
    };
}

/// Like [`with_element!`], for whole-byte integers only.
#[macro_export]
macro_rules! with_int {
    ($dtype:expr, $T:ident => $body:expr, else => $other:expr) => {
        match $dtype {
            milwright_mil::DType::Int8 => {
                type $T = i8;
                $body
            }
            milwright_mil::DType::Int16 => {
                type $T = i16;
                $body
            }
            milwright_mil::DType::Int32 => {
                type $T = i32;
                $body
            }
            milwright_mil::DType::Int64 => {
                type $T = i64;
                $body
            }
            milwright_mil::DType::UInt8 => {
                type $T = u8;
                $body
            }
            milwright_mil::DType::UInt16 => {
                type $T = u16;
                $body
            }
            milwright_mil::DType::UInt32 => {
                type $T = u32;
                $body
            }
            milwright_mil::DType::UInt64 => {
                type $T = u64;
                $body
            }
            _ => $other,
        }
    };
}

/// Evaluates an expression with `$T` bound to an unsigned integer as wide as an element, for kernels that only move
/// data. Such kernels read and write with [`View::words`] and [`ViewMut::words`].
#[macro_export]
macro_rules! with_width {
    ($dtype:expr, $T:ident => $body:expr, else => $other:expr) => {
        match $dtype.bits() {
            8 => {
                type $T = u8;
                $body
            }
            16 => {
                type $T = u16;
                $body
            }
            32 => {
                type $T = u32;
                $body
            }
            64 => {
                type $T = u64;
                $body
            }
            _ => $other,
        }
    };
}

/// Converts elements `start` .. `start + out.len()` of a tensor of numbers or bools to `f32`.
pub fn read_f32(view: &View<'_>, start: usize, out: &mut [f32]) {
    let range = start..start + out.len();
    match view.dtype() {
        DType::Fp32 => out.copy_from_slice(&view.slice::<f32>()[range]),
        DType::Fp16 => widen(&view.slice::<f16>()[range], out),
        DType::Bf16 => view.slice::<bf16>()[range].convert_to_f32_slice(out),
        d => with_element!(d, T => {
            for (o, &x) in out.iter_mut().zip(&view.slice::<T>()[range]) {
                *o = x.as_();
            }
        }, else => out.fill(f32::NAN)),
    }
}

/// Rounds `f32` values into elements `start` .. `start + values.len()` of a float tensor.
pub fn write_f32(out: &mut ViewMut<'_>, start: usize, values: &[f32]) {
    let range = start..start + values.len();
    match out.dtype() {
        DType::Fp32 => out.slice::<f32>()[range].copy_from_slice(values),
        DType::Fp16 => narrow(values, &mut out.slice::<f16>()[range]),
        DType::Bf16 => out.slice::<bf16>()[range].convert_from_f32_slice(values),
        DType::Fp64 => {
            for (o, &x) in out.slice::<f64>()[range].iter_mut().zip(values) {
                *o = x.into();
            }
        }
        d => unreachable!("a kernel writes floats to {d}"),
    }
}

/// Returns all elements of a tensor of numbers as `f32`, borrowed if they are `f32` already.
pub fn to_f32<'a>(view: &View<'a>) -> Cow<'a, [f32]> {
    if view.dtype() == DType::Fp32 {
        return Cow::Borrowed(view.slice());
    }
    let mut out = vec![0.0; view.elements()];
    read_f32(view, 0, &mut out);
    Cow::Owned(out)
}

/// Widens halves to singles, exactly.
pub fn widen(halves: &[f16], out: &mut [f32]) {
    simd::convert::widen(Isa::detect(), halves, out);
}

/// Rounds singles to halves, to nearest even.
pub fn narrow(values: &[f32], out: &mut [f16]) {
    simd::convert::narrow(Isa::detect(), values, out);
}

/// Rounds `f32` values to those of an element type, in place. Only fp16 and bf16 lose precision.
pub fn round_to(dtype: DType, values: &mut [f32]) {
    const BLOCK: usize = 256;
    match dtype {
        DType::Fp16 => {
            let mut halves = [f16::ZERO; BLOCK];
            for block in values.chunks_mut(BLOCK) {
                let halves = &mut halves[..block.len()];
                narrow(block, halves);
                widen(halves, block);
            }
        }
        DType::Bf16 => values.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::Tensor;

    use super::*;

    #[test]
    fn reads_any_number() {
        let t = Tensor::from_vec(&[3], vec![1i8, -2, 3]).unwrap();
        assert_eq!(*to_f32(&View::from(&t)), [1.0, -2.0, 3.0]);
        let t = Tensor::from_bools(&[2], &[true, false]).unwrap();
        assert_eq!(*to_f32(&View::from(&t)), [1.0, 0.0]);
    }

    #[test]
    fn rounds_to_half() {
        let mut values = vec![0.1f32; 300];
        round_to(DType::Fp16, &mut values);
        assert!(values.iter().all(|&x| x == f16::from_f32(0.1).to_f32()));
    }
}
