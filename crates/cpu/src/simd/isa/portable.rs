//! Plain Rust over small arrays, which compilers turn into the vectors that the target has.

use half::f16;

use super::Simd;

/// The instruction set that every machine has.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

const N: usize = 4;

#[inline(always)]
fn map<T: Copy, U>(a: [T; N], f: impl Fn(T) -> U) -> [U; N] {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip<T: Copy, U>(a: [T; N], b: [T; N], f: impl Fn(T, T) -> U) -> [U; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type F = [f32; N];
    type I = [i32; N];
    type M = [bool; N];
    const LANES: usize = N;
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> [f32; N] {
        // SAFETY: the caller vouches for `N` readable elements; unaligned reads are asked for.
        unsafe { p.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: [f32; N]) {
        // SAFETY: the caller vouches for `N` writable elements; unaligned writes are asked for.
        unsafe { p.cast::<[f32; N]>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> [f32; N] {
        // SAFETY: the caller vouches for `N` readable elements; unaligned reads are asked for.
        map(unsafe { p.cast::<[f16; N]>().read_unaligned() }, f16::to_f32)
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, x: [f32; N]) {
        // SAFETY: the caller vouches for `N` writable elements; unaligned writes are asked for.
        unsafe { p.cast::<[f16; N]>().write_unaligned(map(x, f16::from_f32)) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; N] {
        [x; N]
    }
    #[inline(always)]
    fn add(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        // `f32::mul_add` would be a slow library call where the target has no such instruction.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self, a: [f32; N]) -> [f32; N] {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    fn lt(self, a: [f32; N], b: [f32; N]) -> [bool; N] {
        zip(a, b, |a, b| a < b)
    }
    #[inline(always)]
    fn eq(self, a: [f32; N], b: [f32; N]) -> [bool; N] {
        zip(a, b, |a, b| a == b)
    }
    #[inline(always)]
    fn select(self, m: [bool; N], a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if m[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn any(self, m: [bool; N]) -> bool {
        m.contains(&true)
    }

    #[inline(always)]
    fn to_int(self, a: [f32; N]) -> [i32; N] {
        // Adding and subtracting 1.5 * 2^23 rounds any number that fits in 22 bits to nearest even.
        const MAGIC: f32 = 12_582_912.0;
        map(a, |x| if x.abs() < 4_194_304.0 { ((x + MAGIC) - MAGIC) as i32 } else { x as i32 })
    }
    #[inline(always)]
    fn int_to_float(self, a: [i32; N]) -> [f32; N] {
        map(a, |x| x as f32)
    }
    #[inline(always)]
    fn to_bits(self, a: [f32; N]) -> [i32; N] {
        map(a, |x| x.to_bits() as i32)
    }
    #[inline(always)]
    fn bits_to_float(self, a: [i32; N]) -> [f32; N] {
        map(a, |x| f32::from_bits(x as u32))
    }
    #[inline(always)]
    fn splat_int(self, x: i32) -> [i32; N] {
        [x; N]
    }
    #[inline(always)]
    fn add_int(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn sub_int(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, i32::wrapping_sub)
    }
    #[inline(always)]
    fn and_int(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or_int(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn xor_int(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    fn shl<const B: u32>(self, a: [i32; N]) -> [i32; N] {
        map(a, |x| x << B)
    }
    #[inline(always)]
    fn shr<const B: u32>(self, a: [i32; N]) -> [i32; N] {
        map(a, |x| x >> B)
    }
}
