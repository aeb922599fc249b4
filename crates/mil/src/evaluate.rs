//! The interface through which the IR runs ops on an engine.

use crate::ops::OpView;
use crate::{Tensor, Type};

/// Runs one op on constants. The engine implements it, so that constant folding gives exactly what a run gives.
pub trait Evaluate {
    /// Computes the outputs of `op`, whose inputs must all be known. `outputs` are the outputs' types.
    ///
    /// # Errors
    /// The op is not supported or cannot run on these inputs; the text says why. A pass then leaves the op as it is.
    fn evaluate(&self, op: &OpView<'_>, outputs: &[Type]) -> Result<Vec<Tensor>, String>;
}
