//! NEON, which every 64-bit Arm machine has.

use std::arch::aarch64::*;

use half::f16;

use super::Simd;

/// NEON.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

impl Neon {
    /// Every aarch64 target has NEON.
    pub fn new() -> Neon {
        Neon(())
    }
}

/// Methods whose bodies are intrinsics.
macro_rules! methods {
    ($($name:ident $(<const $n:ident>)? ($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name $(<const $n: u32>)? (self, $($arg: $ty),*) -> $ret {
                // SAFETY: every aarch64 target has NEON; none of these touches memory.
                unsafe { $body }
            }
        )*
    };
}

impl Simd for Neon {
    type F = float32x4_t;
    type I = int32x4_t;
    type M = uint32x4_t;
    const LANES: usize = 4;
    const TILE_ROWS: usize = 12;

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> float32x4_t {
        // SAFETY: the caller vouches for four readable elements.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: float32x4_t) {
        // SAFETY: the caller vouches for four writable elements.
        unsafe { vst1q_f32(p, x) }
    }
    // Half-precision vectors are not stable in Rust; `half` uses the conversion instructions one by one.
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> float32x4_t {
        // SAFETY: the caller vouches for four readable elements; unaligned reads are asked for.
        let halves = unsafe { p.cast::<[f16; 4]>().read_unaligned() };
        let wide = halves.map(f16::to_f32);
        // SAFETY: `wide` has four elements.
        unsafe { vld1q_f32(wide.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, x: float32x4_t) {
        let mut wide = [0f32; 4];
        // SAFETY: `wide` has four elements.
        unsafe { vst1q_f32(wide.as_mut_ptr(), x) };
        // SAFETY: the caller vouches for four writable elements; unaligned writes are asked for.
        unsafe { p.cast::<[f16; 4]>().write_unaligned(wide.map(f16::from_f32)) };
    }

    methods! {
        splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        div(a: float32x4_t, b: float32x4_t) -> float32x4_t = vdivq_f32(a, b);
        fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcgtq_f32(a, b), a, b);
        min(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcltq_f32(a, b), a, b);
        sqrt(a: float32x4_t) -> float32x4_t = vsqrtq_f32(a);
        lt(a: float32x4_t, b: float32x4_t) -> uint32x4_t = vcltq_f32(a, b);
        eq(a: float32x4_t, b: float32x4_t) -> uint32x4_t = vceqq_f32(a, b);
        select(m: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(m, a, b);
        any(m: uint32x4_t) -> bool = vmaxvq_u32(m) != 0;
        to_int(a: float32x4_t) -> int32x4_t = vcvtnq_s32_f32(a);
        int_to_float(a: int32x4_t) -> float32x4_t = vcvtq_f32_s32(a);
        to_bits(a: float32x4_t) -> int32x4_t = vreinterpretq_s32_f32(a);
        bits_to_float(a: int32x4_t) -> float32x4_t = vreinterpretq_f32_s32(a);
        splat_int(x: i32) -> int32x4_t = vdupq_n_s32(x);
        add_int(a: int32x4_t, b: int32x4_t) -> int32x4_t = vaddq_s32(a, b);
        sub_int(a: int32x4_t, b: int32x4_t) -> int32x4_t = vsubq_s32(a, b);
        and_int(a: int32x4_t, b: int32x4_t) -> int32x4_t = vandq_s32(a, b);
        or_int(a: int32x4_t, b: int32x4_t) -> int32x4_t = vorrq_s32(a, b);
        xor_int(a: int32x4_t, b: int32x4_t) -> int32x4_t = veorq_s32(a, b);
        shl<const N>(a: int32x4_t) -> int32x4_t = vshlq_s32(a, vdupq_n_s32(N as i32));
        shr<const N>(a: int32x4_t) -> int32x4_t = vshlq_s32(a, vdupq_n_s32(-(N as i32)));
    }
}
