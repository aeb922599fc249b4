//! Pooling.

pub mod avg_pool;
pub mod l2_pool;
pub mod max_pool;

use super::conv::{Sweep, Window};
use super::{InferError, Inferred, Operand};
use crate::TensorType;

/// The parameters that every pool has.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    /// `x`
    pub x: Operand<'a>,
    /// `kernel_sizes`
    pub kernel_sizes: &'a [i64],
    /// How the window moves.
    pub window: Window<'a>,
}

impl Pool<'_> {
    /// The sweeps of the window over the spatial dimensions of `x`.
    ///
    /// # Errors
    /// A parameter has the wrong length, or the window does not fit.
    pub fn windows(&self) -> Result<Vec<Sweep>, InferError> {
        let x = self.x;
        if !(3..=5).contains(&x.rank()) {
            return Err(InferError(format!("`x` is a {x}; it must have rank 3, 4 or 5")));
        }
        let kernel: Option<Vec<usize>> =
            self.kernel_sizes.iter().map(|&k| usize::try_from(k).ok().filter(|&k| k > 0)).collect();
        let kernel = kernel.ok_or_else(|| InferError("input `kernel_sizes` must be positive".into()))?;
        self.window.sweeps(&x.shape[2..], &kernel)
    }

    fn infer(&self) -> Result<Vec<Inferred>, InferError> {
        let windows = self.windows()?;
        let mut shape = self.x.shape[..2].to_vec();
        shape.extend(windows.iter().map(|s| s.output));
        Ok(vec![TensorType::new(self.x.dtype, shape).into()])
    }
}

/// Reads the parameters of [`Pool`] from an op's parameters.
macro_rules! pool {
    () => {
        impl Params<'_> {
            /// The parameters that every pool has.
            pub fn pool(&self) -> $crate::ops::pool::Pool<'_> {
                $crate::ops::pool::Pool {
                    x: self.x,
                    kernel_sizes: &self.kernel_sizes,
                    window: $crate::ops::conv::Window {
                        strides: self.strides.as_deref(),
                        dilations: None,
                        pad_type: self.pad_type,
                        pad: self.pad.as_deref(),
                        ceil_mode: self.ceil_mode,
                    },
                }
            }
        }
    };
}
use pool;
