//! What reading and writing by index share: indices, checked.

use milwright_mil::Opset;
use milwright_mil::ops::OpView;

use crate::kernel::OpViewExt;
use crate::{KernelError, View};

/// Where an op finds its indices, and which it takes.
#[derive(Clone, Copy)]
pub(super) struct Indices {
    slot: usize,
    negative: bool,
}

impl Indices {
    /// The parameter `indices`. Negative indices count from the end, unless the op was asked to validate them.
    pub(super) fn of(op: &OpView<'_>) -> Result<Indices, KernelError> {
        let strict = op.version.opset >= Opset::Ios17 && op.bool("validate_indices")?;
        Ok(Indices { slot: op.slot("indices")?, negative: !strict })
    }

    /// The indices as they are.
    pub(super) fn read(&self, inputs: &[View<'_>]) -> Result<Vec<i64>, KernelError> {
        inputs[self.slot].to_i64().ok_or_else(|| KernelError::invalid("`indices` must be integers"))
    }

    /// The indices of one dimension of size `n`.
    ///
    /// # Errors
    /// One is out of range.
    pub(super) fn of_size(&self, inputs: &[View<'_>], n: usize) -> Result<Vec<usize>, KernelError> {
        self.read(inputs)?.into_iter().map(|i| self.check(i, n)).collect()
    }

    /// An index of a dimension of size `n`.
    ///
    /// # Errors
    /// It is out of range.
    pub(super) fn check(&self, index: i64, n: usize) -> Result<usize, KernelError> {
        let at = if index < 0 && self.negative { index + n as i64 } else { index };
        usize::try_from(at).ok().filter(|&at| at < n).ok_or_else(|| {
            KernelError::invalid(format!("index {index} is out of range for a dimension of size {n}"))
        })
    }

    /// The offsets of index vectors of `depth` elements in a tensor of the shape `dims`, in units of what follows
    /// these dimensions.
    ///
    /// # Errors
    /// An index is out of range.
    pub(super) fn offsets(&self, inputs: &[View<'_>], dims: &[usize]) -> Result<Vec<usize>, KernelError> {
        let indices = self.read(inputs)?;
        let place = |vector: &[i64]| {
            vector.iter().zip(dims).try_fold(0, |at, (&i, &n)| Ok(at * n + self.check(i, n)?))
        };
        if dims.is_empty() {
            // Vectors without elements all name the whole tensor.
            let shape = inputs[self.slot].shape();
            return Ok(vec![0; shape[..shape.len() - 1].iter().product()]);
        }
        indices.chunks_exact(dims.len()).map(place).collect()
    }
}
