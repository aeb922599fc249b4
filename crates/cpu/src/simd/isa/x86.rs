//! AVX-512 and AVX2 with FMA and F16C.

use std::arch::x86_64::*;

use half::f16;

use super::Simd;
use crate::simd::Op;

/// Whether the machine can run [`run_avx512`].
pub fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// Whether the machine can run [`run_avx2`].
pub fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// # Safety
/// [`has_avx512`] must hold.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub unsafe fn run_avx512<O: Op>(op: O) -> O::Output {
    op.run(Avx512(()))
}

/// # Safety
/// [`has_avx2`] must hold.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn run_avx2<O: Op>(op: O) -> O::Output {
    op.run(Avx2(()))
}

/// AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

/// The mask of the first `n` of 16 lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

/// Methods whose bodies are intrinsics.
macro_rules! methods {
    ($($name:ident $(<const $n:ident>)? ($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name $(<const $n: u32>)? (self, $($arg: $ty),*) -> $ret {
                // SAFETY: `self` is the proof that the machine has the instructions; none touches memory.
                unsafe { $body }
            }
        )*
    };
}

/// Methods that load or store through a pointer for which the caller vouches.
macro_rules! memory_methods {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $body:expr;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name(self, $($arg: $ty),*) $(-> $ret)? {
                // SAFETY: `self` is the proof that the machine has the instructions; the caller vouches for the
                // pointer, and the instructions need no alignment.
                unsafe { $body }
            }
        )*
    };
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type M = __mmask16;
    const LANES: usize = 16;
    const TILE_ROWS: usize = 14;

    memory_methods! {
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        store(p: *mut f32, x: __m512) = _mm512_storeu_ps(p, x);
        load_f16(p: *const f16) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
        load_bytes(p: *const u8) -> __m512i = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
        store_f16(p: *mut f16, x: __m512) =
            _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(x));
        load_part(p: *const f32, n: usize) -> __m512 = _mm512_maskz_loadu_ps(first(n), p);
        load_part_f16(p: *const f16, n: usize) -> __m512 =
            _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p.cast()));
        store_part(p: *mut f32, n: usize, x: __m512) = _mm512_mask_storeu_ps(p, first(n), x);
        store_part_f16(p: *mut f16, n: usize, x: __m512) = _mm256_mask_storeu_epi16(
            p.cast(),
            first(n),
            _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(x)
        );
    }

    methods! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        lookup(table: &[f32; 16], numbers: __m512i) -> __m512 =
            _mm512_permutexvar_ps(numbers, _mm512_loadu_ps(table.as_ptr()));
        round_f16(a: __m512) -> __m512 =
            _mm512_cvtph_ps(_mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(a));
        evens(a: __m512, b: __m512) -> __m512 = _mm512_permutex2var_ps(
            a,
            _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
            b
        );
        lt(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        eq(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b);
        select(m: __mmask16, a: __m512, b: __m512) -> __m512 = _mm512_mask_blend_ps(m, b, a);
        to_int(a: __m512) -> __m512i = _mm512_cvtps_epi32(a);
        int_to_float(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        to_bits(a: __m512) -> __m512i = _mm512_castps_si512(a);
        bits_to_float(a: __m512i) -> __m512 = _mm512_castsi512_ps(a);
        splat_int(x: i32) -> __m512i = _mm512_set1_epi32(x);
        add_int(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        sub_int(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);
        and_int(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        or_int(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        xor_int(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512(a, b);
        shl<const N>(a: __m512i) -> __m512i = _mm512_slli_epi32::<N>(a);
        shr<const N>(a: __m512i) -> __m512i = _mm512_srai_epi32::<N>(a);
    }

    #[inline(always)]
    fn prefetch<T>(self, p: *const T) {
        // SAFETY: prefetching an address that is not valid has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) };
    }

    #[inline(always)]
    fn any(self, m: __mmask16) -> bool {
        m != 0
    }
}

impl Simd for Avx2 {
    type F = __m256;
    type I = __m256i;
    type M = __m256;
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;

    memory_methods! {
        load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        store(p: *mut f32, x: __m256) = _mm256_storeu_ps(p, x);
        load_f16(p: *const f16) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
        load_bytes(p: *const u8) -> __m256i = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
        store_f16(p: *mut f16, x: __m256) =
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(x));
    }

    methods! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        sqrt(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
        lookup(table: &[f32; 16], numbers: __m256i) -> __m256 = _mm256_blendv_ps(
            _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr()), numbers),
            _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr().add(8)), numbers),
            _mm256_castsi256_ps(_mm256_slli_epi32::<28>(numbers))
        );
        round_f16(a: __m256) -> __m256 =
            _mm256_cvtph_ps(_mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(a));
        evens(a: __m256, b: __m256) -> __m256 = _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(
            _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(a, b))
        ));
        lt(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
        eq(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b);
        select(m: __m256, a: __m256, b: __m256) -> __m256 = _mm256_blendv_ps(b, a, m);
        any(m: __m256) -> bool = _mm256_movemask_ps(m) != 0;
        to_int(a: __m256) -> __m256i = _mm256_cvtps_epi32(a);
        int_to_float(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
        to_bits(a: __m256) -> __m256i = _mm256_castps_si256(a);
        bits_to_float(a: __m256i) -> __m256 = _mm256_castsi256_ps(a);
        splat_int(x: i32) -> __m256i = _mm256_set1_epi32(x);
        add_int(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        sub_int(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);
        and_int(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        or_int(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        xor_int(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256(a, b);
    }

    #[inline(always)]
    fn prefetch<T>(self, p: *const T) {
        // SAFETY: prefetching an address that is not valid has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) };
    }

    // These intrinsics take an `i32` constant, and a const parameter cannot be cast in an argument.
    #[inline(always)]
    fn shl<const N: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: `self` is the proof that the machine has AVX2.
        unsafe { _mm256_sll_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }

    #[inline(always)]
    fn shr<const N: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: `self` is the proof that the machine has AVX2.
        unsafe { _mm256_sra_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }
}
