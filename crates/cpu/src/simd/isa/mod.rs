//! One vector of `f32` per instruction set.

#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

pub use portable::Portable;

/// A vector of [`LANES`](Simd::LANES) `f32` in one instruction set. A value of the implementing type proves that the
/// machine has the instruction set.
///
/// Every method is inlined into its caller. `F` is the vector, `I` as many `i32`, `M` a mask.
pub trait Simd: Copy + Send + Sync + 'static {
    /// The vector of `f32`.
    type F: Copy;
    /// The vector of `i32` with as many lanes.
    type I: Copy;
    /// One bool per lane.
    type M: Copy;

    /// The number of lanes: at most `MAX_LANES`.
    const LANES: usize;
    /// The most rows of a tile of the matrix product, at most `MAX_ROWS` in `gemm/tile.rs`: two accumulators per row,
    /// two vectors of B and one element of A fit in the registers.
    const TILE_ROWS: usize;

    /// Reads `LANES` elements.
    ///
    /// # Safety
    /// `p` must be valid for reads of `LANES` elements; it need not be aligned to the vector.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// Writes `LANES` elements.
    ///
    /// # Safety
    /// `p` must be valid for writes of `LANES` elements; it need not be aligned to the vector.
    unsafe fn store(self, p: *mut f32, x: Self::F);
    /// Reads `LANES` half-precision elements.
    ///
    /// # Safety
    /// `p` must be valid for reads of `LANES` elements.
    unsafe fn load_f16(self, p: *const half::f16) -> Self::F;
    /// Rounds to nearest even and writes `LANES` half-precision elements.
    ///
    /// # Safety
    /// `p` must be valid for writes of `LANES` elements.
    unsafe fn store_f16(self, p: *mut half::f16, x: Self::F);

    /// The same number in every lane.
    fn splat(self, x: f32) -> Self::F;
    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once if the machine can.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger one; `b` where either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller one; `b` where either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The square root.
    fn sqrt(self, a: Self::F) -> Self::F;
    /// `a < b`
    fn lt(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a == b`
    fn eq(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a` where `m` is set, else `b`.
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F;
    /// Whether any lane is set.
    fn any(self, m: Self::M) -> bool;

    /// The nearest integers (ties to even). Unspecified for numbers that do not fit.
    fn to_int(self, a: Self::F) -> Self::I;
    /// The integers as `f32`.
    fn int_to_float(self, a: Self::I) -> Self::F;
    /// The bits as integers.
    fn to_bits(self, a: Self::F) -> Self::I;
    /// The integers as the bits of `f32`.
    fn bits_to_float(self, a: Self::I) -> Self::F;
    /// The same integer in every lane.
    fn splat_int(self, x: i32) -> Self::I;
    /// `a + b`, wrapping.
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a - b`, wrapping.
    fn sub_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a & b`
    fn and_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a | b`
    fn or_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a ^ b`
    fn xor_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a << N`
    fn shl<const N: u32>(self, a: Self::I) -> Self::I;
    /// `a >> N`, keeping the sign.
    fn shr<const N: u32>(self, a: Self::I) -> Self::I;

    /// Reads `LANES` bytes as integers.
    ///
    /// # Safety
    /// `p` must be valid for reads of `LANES` bytes.
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8) -> Self::I {
        let mut numbers = [0.0; MAX_LANES];
        for (i, number) in numbers[..Self::LANES].iter_mut().enumerate() {
            // SAFETY: as the caller vouches.
            *number = f32::from(unsafe { *p.add(i) });
        }
        // SAFETY: `numbers` has at least `LANES` elements.
        self.to_int(unsafe { self.load(numbers.as_ptr()) })
    }

    /// The entries of a table with these numbers, which are below 16.
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], numbers: Self::I) -> Self::F {
        let mut entries = [0.0; MAX_LANES];
        // SAFETY: `entries` has at least `LANES` elements.
        unsafe {
            self.store(entries.as_mut_ptr(), self.int_to_float(numbers));
            entries.iter_mut().for_each(|x| *x = table[*x as usize & 15]);
            self.load(entries.as_ptr())
        }
    }

    /// Reads the first `n` elements of a vector; the others are zero.
    ///
    /// # Safety
    /// `p` must be valid for reads of `n` elements, and `n` at most `LANES`.
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> Self::F {
        let mut all = [0.0; MAX_LANES];
        // SAFETY: as the caller vouches; `all` has at least `LANES` elements.
        unsafe {
            std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), n);
            self.load(all.as_ptr())
        }
    }

    /// Like [`load_part`](Simd::load_part), of half-precision elements.
    ///
    /// # Safety
    /// As [`load_part`](Simd::load_part).
    #[inline(always)]
    unsafe fn load_part_f16(self, p: *const half::f16, n: usize) -> Self::F {
        let mut all = [half::f16::ZERO; MAX_LANES];
        // SAFETY: as the caller vouches; `all` has at least `LANES` elements.
        unsafe {
            std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), n);
            self.load_f16(all.as_ptr())
        }
    }

    /// Writes the first `n` elements of a vector.
    ///
    /// # Safety
    /// `p` must be valid for writes of `n` elements, and `n` at most `LANES`.
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize, x: Self::F) {
        let mut all = [0.0; MAX_LANES];
        // SAFETY: as the caller vouches; `all` has at least `LANES` elements.
        unsafe {
            self.store(all.as_mut_ptr(), x);
            std::ptr::copy_nonoverlapping(all.as_ptr(), p, n);
        }
    }

    /// Rounds to nearest even and writes the first `n` elements of a vector in half precision.
    ///
    /// # Safety
    /// As [`store_part`](Simd::store_part).
    #[inline(always)]
    unsafe fn store_part_f16(self, p: *mut half::f16, n: usize, x: Self::F) {
        let mut all = [half::f16::ZERO; MAX_LANES];
        // SAFETY: as the caller vouches; `all` has at least `LANES` elements.
        unsafe {
            self.store_f16(all.as_mut_ptr(), x);
            std::ptr::copy_nonoverlapping(all.as_ptr(), p, n);
        }
    }

    /// Asks for the cache line at an address, which need not be valid. Does nothing where there is no such instruction.
    #[inline(always)]
    fn prefetch<T>(self, _p: *const T) {}

    /// Rounds to half precision, to nearest even, and widens again.
    #[inline(always)]
    fn round_f16(self, a: Self::F) -> Self::F {
        let mut halves = [half::f16::ZERO; MAX_LANES];
        // SAFETY: `halves` has at least `LANES` elements.
        unsafe {
            self.store_f16(halves.as_mut_ptr(), a);
            self.load_f16(halves.as_ptr())
        }
    }

    /// The elements 0, 2, 4 … of `a`, then those of `b`.
    #[inline(always)]
    fn evens(self, a: Self::F, b: Self::F) -> Self::F {
        let mut all = [0.0; 2 * MAX_LANES];
        // SAFETY: `all` has at least two vectors; every second element of them is one vector.
        unsafe {
            self.store(all.as_mut_ptr(), a);
            self.store(all.as_mut_ptr().add(Self::LANES), b);
            for i in 0..Self::LANES {
                all[i] = all[2 * i];
            }
            self.load(all.as_ptr())
        }
    }

    /// `-a`
    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        self.bits_to_float(self.xor_int(self.to_bits(a), self.splat_int(i32::MIN)))
    }

    /// `|a|`
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        self.bits_to_float(self.and_int(self.to_bits(a), self.splat_int(i32::MAX)))
    }

    /// The sum of the lanes, added pairwise.
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        self.fold(a, |x, y| x + y)
    }

    /// Combines the lanes pairwise.
    #[inline(always)]
    fn fold(self, a: Self::F, f: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: `lanes` has at least `LANES` elements.
        unsafe { self.store(lanes.as_mut_ptr(), a) };
        let mut n = Self::LANES;
        while n > 1 {
            n /= 2;
            for i in 0..n {
                lanes[i] = f(lanes[i], lanes[i + n]);
            }
        }
        lanes[0]
    }
}

/// The most lanes that any [`Simd`] has.
pub const MAX_LANES: usize = 16;
