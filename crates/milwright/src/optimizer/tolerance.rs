//! How much a result may differ from the original.

use milwright_optimize::{Compression, Quantization};

/// The lowest acceptable SNR, in dB, of every output against the original's.
///
/// ```
/// use milwright::{Optimizer, Tolerance};
///
/// let (strict, lax) = (Optimizer::new().tolerance(40.0), Optimizer::new().tolerance(Tolerance::None));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Tolerance {
    /// The default for the setting: see [`default_db`](Tolerance::default_db).
    #[default]
    Default,
    /// This many dB.
    Decibels(f64),
    /// No limit, but the result must not be broken: all outputs exist, with the same types and shapes, and are NaN or
    /// infinite exactly where the original's are.
    None,
}

impl From<f64> for Tolerance {
    fn from(snr_db: f64) -> Tolerance {
        Tolerance::Decibels(snr_db)
    }
}

impl Tolerance {
    /// The default tolerance of a setting: that of the compression, but at most 30 dB if the result computes in fp16.
    pub fn default_db(compression: impl Into<Compression>, computes_in_fp16: bool) -> f64 {
        limited(compression.into().tolerance_db(), computes_in_fp16)
    }
}

/// At most 30 dB if the result computes in fp16, which is no more exact.
pub(super) fn limited(db: f64, computes_in_fp16: bool) -> f64 {
    if computes_in_fp16 { db.min(Quantization::Float16.info().tolerance_db) } else { db }
}
