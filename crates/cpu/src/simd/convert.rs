//! Conversions between half and single precision.

use half::f16;

use super::{Isa, Op, Simd};

/// Widens halves to singles, exactly.
///
/// # Panics
/// The lengths differ.
pub fn widen(isa: Isa, halves: &[f16], out: &mut [f32]) {
    assert_eq!(halves.len(), out.len());
    isa.run(Widen(halves, out));
}

/// Rounds singles to halves, to nearest even.
///
/// # Panics
/// The lengths differ.
pub fn narrow(isa: Isa, values: &[f32], out: &mut [f16]) {
    assert_eq!(values.len(), out.len());
    isa.run(Narrow(values, out));
}

struct Widen<'a>(&'a [f16], &'a mut [f32]);
struct Narrow<'a>(&'a [f32], &'a mut [f16]);

impl Op for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Widen(halves, out) = self;
        let whole = halves.len() / S::LANES * S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            // SAFETY: `i + LANES` is at most the length of both.
            unsafe { s.store(out.as_mut_ptr().add(i), s.load_f16(halves.as_ptr().add(i))) };
        }
        for (o, h) in out[whole..].iter_mut().zip(&halves[whole..]) {
            *o = h.to_f32();
        }
    }
}

impl Op for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Narrow(values, out) = self;
        let whole = values.len() / S::LANES * S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            // SAFETY: `i + LANES` is at most the length of both.
            unsafe { s.store_f16(out.as_mut_ptr().add(i), s.load(values.as_ptr().add(i))) };
        }
        for (o, x) in out[whole..].iter_mut().zip(&values[whole..]) {
            *o = f16::from_f32(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|h| !h.is_nan()).collect();
        for isa in Isa::available() {
            let mut wide = vec![0.0; halves.len()];
            widen(isa, &halves, &mut wide);
            assert!(wide.iter().zip(&halves).all(|(w, h)| w.to_bits() == h.to_f32().to_bits()), "{isa:?}");
            let mut narrowed = vec![f16::ZERO; wide.len()];
            narrow(isa, &wide, &mut narrowed);
            assert!(narrowed.iter().zip(&halves).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa:?}");
        }
    }

    #[test]
    fn rounds_to_nearest_even() {
        let values: Vec<f32> = (0..100_003u32).map(|i| f32::from_bits(0x3300_0000 + i * 0x1357)).collect();
        for isa in Isa::available() {
            let mut narrowed = vec![f16::ZERO; values.len()];
            narrow(isa, &values, &mut narrowed);
            assert!(narrowed.iter().zip(&values).all(|(h, v)| *h == f16::from_f32(*v)), "{isa:?}");
        }
    }
}
