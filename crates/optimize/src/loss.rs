//! The error of weights that are stored in another form.

use half::f16;
use half::slice::HalfFloatSliceExt;
use milwright_mil::DType;

/// The error of values that were stored in another form.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    signal: f64,
    noise: f64,
    /// The largest absolute error.
    pub max: f64,
}

impl Loss {
    /// Measures the error of storing `after`, rounded to `dtype`, instead of `before`.
    pub fn of(before: &[f32], after: impl IntoIterator<Item = f32>, dtype: DType) -> Loss {
        const CHUNK: usize = 1024;
        let (mut rounded, mut halves) = ([0f32; CHUNK], [f16::ZERO; CHUNK]);
        let mut after = after.into_iter();
        let mut loss = Loss::default();
        for before in before.chunks(CHUNK) {
            let rounded = &mut rounded[..before.len()];
            rounded.iter_mut().zip(&mut after).for_each(|(r, x)| *r = x);
            if dtype == DType::Fp16 {
                let halves = &mut halves[..before.len()];
                halves.convert_from_f32_slice(rounded);
                halves.convert_to_f32_slice(rounded);
            }
            for (&a, &b) in before.iter().zip(&*rounded) {
                let (a, e) = (f64::from(a), f64::from(a) - f64::from(b));
                loss.signal += a * a;
                loss.noise += e * e;
                loss.max = loss.max.max(e.abs());
            }
        }
        loss
    }

    /// Returns the signal-to-noise ratio in dB; infinite if nothing was lost.
    pub fn snr_db(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }
}
