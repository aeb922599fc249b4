//! The seam between the IR and an engine.

use crate::ops::OpView;
use crate::{Tensor, Type};

/// Runs one op on constants. The engine implements it, so that folding a constant *is* running the op.
pub trait Evaluate {
    /// The outputs of `op`, all of whose inputs are known; `outputs` are their types.
    ///
    /// # Errors
    /// The op is not supported or cannot run on these inputs; the text says why. A pass that asked leaves the op as
    /// it is.
    fn evaluate(&self, op: &OpView<'_>, outputs: &[Type]) -> Result<Vec<Tensor>, String>;
}
