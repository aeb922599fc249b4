//! SIMD: one small abstraction over the instruction sets, and what is built on it.
//!
//! * [`Isa`] names an instruction set, chosen once at run time. Only [`Isa::detect`] and [`Isa::available`] make one,
//!   so that an `Isa` proves that the machine has it.
//! * [`Simd`] is a vector of `f32` in one instruction set. Its implementors are *tokens*: a value of one proves that
//!   the machine has the instructions, which makes all of its arithmetic safe to call.
//! * [`Op`] is code written once for every `Simd`; [`Isa::run`] compiles it for each and calls the right one.
//! * [`convert`] works on slices; [`gemm`] multiplies matrices, [`gemv`] a few rows with a matrix, [`tiles`] matrices
//!   where the machine has tile registers.

pub mod coded;
pub mod convert;
mod cut;
pub mod gemm;
pub mod gemv;
mod isa;
pub mod tiles;
pub mod window;

use std::sync::OnceLock;

pub use isa::{MAX_LANES, Portable, Simd};

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

/// Code that is compiled for every instruction set.
pub trait Op {
    /// The result.
    type Output;

    /// Runs the code. It must be `#[inline(always)]`, as must everything that it calls with `simd`: only code that is
    /// inlined into the function that enables the instruction set is compiled for it.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

impl Isa {
    /// The instruction set that every machine has.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// The best instruction set of this machine.
    pub fn detect() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::available()[0])
    }

    /// Every instruction set of this machine, the best one first.
    pub fn available() -> Vec<Isa> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if isa::x86::has_avx512() {
                all.push(Isa(Kind::Avx512));
            }
            if isa::x86::has_avx2() {
                all.push(Isa(Kind::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.extend([Isa(Kind::Neon)]);
        all.push(Isa::PORTABLE);
        all
    }

    /// A stable name, for cache keys and reports.
    pub const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            Kind::Portable => "portable",
        }
    }

    /// The number of `f32` in a vector.
    pub const fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => isa::x86::Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => isa::x86::Avx2::LANES,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => isa::neon::Neon::LANES,
            Kind::Portable => Portable::LANES,
        }
    }

    /// Runs `op` with this instruction set.
    #[inline]
    pub fn run<O: Op>(self, op: O) -> O::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` of this kind exists only where `has_avx512` held.
            Kind::Avx512 => unsafe { isa::x86::run_avx512(op) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` of this kind exists only where `has_avx2` held.
            Kind::Avx2 => unsafe { isa::x86::run_avx2(op) },
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => op.run(isa::neon::Neon::new()),
            Kind::Portable => op.run(Portable),
        }
    }
}
