//! What the machine can do at best, measured beside the engines: multiply-adds in `f32`, and reading memory.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};

/// Bytes that are read: more than any cache that a core has for itself.
const BYTES: usize = 256 << 20;

/// Billions of floating-point operations per second of one thread, and gigabytes that it reads per second.
pub fn measure() -> Value {
    let best = |f: &dyn Fn() -> f64| (0..5).map(|_| f()).fold(0.0, f64::max);
    let data = vec![1u64; BYTES / 8];
    json!({ "gflops": best(&multiply_adds), "read_gb_s": best(&|| read(&data)) })
}

/// Zero where there is no code for the machine.
fn multiply_adds() -> f64 {
    const TURNS: usize = 4_000_000;
    let start = Instant::now();
    let lanes = multiply_add(TURNS);
    (TURNS * CHAINS * lanes * 2) as f64 / start.elapsed().as_secs_f64() / 1e9
}

/// Returns the lanes of a vector.
#[cfg(target_arch = "x86_64")]
fn multiply_add(turns: usize) -> usize {
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has AVX-512F.
        unsafe { x86::avx512(turns) };
        16
    } else if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the machine has AVX2 and FMA.
        unsafe { x86::avx2(turns) };
        8
    } else {
        0
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_add(_turns: usize) -> usize {
    0
}

/// Sums that do not wait for each other.
const CHAINS: usize = 10;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{CHAINS, black_box};

    macro_rules! chains {
        ($name:ident, $features:literal, $set:ident, $fma:ident) => {
            #[target_feature(enable = $features)]
            pub unsafe fn $name(turns: usize) {
                let (x, y) = ($set(black_box(0.5)), $set(black_box(0.25)));
                let mut sums = [$set(0.0); CHAINS];
                for _ in 0..turns {
                    for sum in &mut sums {
                        *sum = $fma(*sum, x, y);
                    }
                }
                black_box(sums);
            }
        };
    }
    chains!(avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps);
    chains!(avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps);
}

fn read(data: &[u64]) -> f64 {
    let start = Instant::now();
    let mut sums = [0u64; 32];
    for chunk in data.chunks_exact(32) {
        sums.iter_mut().zip(chunk).for_each(|(s, x)| *s ^= x);
    }
    black_box(sums);
    BYTES as f64 / start.elapsed().as_secs_f64() / 1e9
}
