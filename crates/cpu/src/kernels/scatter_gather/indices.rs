//! Checked indices, for the ops that read and write by index.

use milwright_mil::ops::Operand;

use crate::{KernelError, View};

/// The slot of an op's indices, and whether negative ones are valid.
#[derive(Clone, Copy)]
pub(super) struct Indices {
    slot: usize,
    negative: bool,
}

impl Indices {
    /// Makes the indices of the parameter `indices`. Negative ones count from the end, unless the op validates indices.
    pub(super) fn of(indices: Operand<'_>, validate: bool) -> Indices {
        Indices { slot: indices.slot, negative: !validate }
    }

    /// Returns the indices unchecked.
    pub(super) fn read(&self, inputs: &[View<'_>]) -> Result<Vec<i64>, KernelError> {
        inputs[self.slot].to_i64().ok_or_else(|| KernelError::invalid("`indices` must be integers"))
    }

    /// Returns the indices, which are into a dimension of size `n`.
    ///
    /// # Errors
    /// An index is out of range.
    pub(super) fn of_size(&self, inputs: &[View<'_>], n: usize) -> Result<Vec<usize>, KernelError> {
        self.read(inputs)?.into_iter().map(|i| self.check(i, n)).collect()
    }

    /// Checks an index into a dimension of size `n`, and makes it count from the start.
    ///
    /// # Errors
    /// It is out of range.
    pub(super) fn check(&self, index: i64, n: usize) -> Result<usize, KernelError> {
        let at = if index < 0 && self.negative { index + n as i64 } else { index };
        usize::try_from(at).ok().filter(|&at| at < n).ok_or_else(|| {
            KernelError::invalid(format!("index {index} is out of range for a dimension of size {n}"))
        })
    }

    /// Returns the offset of each index vector in a tensor whose first dimensions are `dims`, in units of the elements
    /// that one vector names. A vector has one index for each of these dimensions.
    ///
    /// # Errors
    /// An index is out of range.
    pub(super) fn offsets(&self, inputs: &[View<'_>], dims: &[usize]) -> Result<Vec<usize>, KernelError> {
        let indices = self.read(inputs)?;
        let place = |vector: &[i64]| {
            vector.iter().zip(dims).try_fold(0, |at, (&i, &n)| Ok(at * n + self.check(i, n)?))
        };
        if dims.is_empty() {
            // A vector without indices names the whole tensor.
            let shape = inputs[self.slot].shape();
            return Ok(vec![0; shape[..shape.len() - 1].iter().product()]);
        }
        indices.chunks_exact(dims.len()).map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::ops::Family;
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    /// Returns what an op makes of `index` and 0, for a dimension of size 2; checks that it does not matter whether the
    /// indices are known at compile time.
    fn found(kind: OpKind, opset: Opset, validate: Option<bool>, index: i32) -> Option<Vec<f32>> {
        let vector = |values: [f32; 2]| [Tensor::from_vec(&[2], values.to_vec()).unwrap()];
        let shape: &[usize] = if kind.name().ends_with("_nd") { &[2, 1] } else { &[2] };
        let indices = [Tensor::from_vec(shape, vec![index, 0]).unwrap()];
        let validate = validate.map(|v| [Tensor::from_bools(&[], &[v]).unwrap()]);
        let mode = [Tensor::string("add")];
        let (data, updates) = (vector([1.0, 2.0]), vector([5.0, 6.0]));
        let mut inputs: Vec<(&str, &[Tensor])> = match is_gather(kind) {
            true => vec![("x", &data), ("indices", &indices)],
            false => vec![("data", &data), ("indices", &indices), ("updates", &updates), ("mode", &mode)],
        };
        inputs.extend(validate.as_ref().map(|v| ("validate_indices", &v[..])));
        let [late, early] = ["", "indices"].map(|known| {
            let is_known = |n: &str| n == "validate_indices" || n == "mode" || n == known;
            run_op(kind, opset, &inputs, is_known).ok().map(|out| out[0].to_vec::<f32>().unwrap())
        });
        assert_eq!(late, early, "{} {index}", kind.name());
        late
    }

    fn is_gather(kind: OpKind) -> bool {
        kind.name().starts_with("gather")
    }

    /// The table in the docs: negative indices count from the end, unless they are validated; others out of range are
    /// errors. From iOS17 on, `scatter` ignores those that it does not validate, negative ones included.
    #[test]
    fn indices_out_of_range_are_as_documented() {
        let ops: Vec<OpKind> =
            OpKind::ALL.iter().copied().filter(|kind| kind.family() == Family::ScatterGather).collect();
        assert_eq!(ops.len(), 6);
        for kind in ops {
            for (opset, validate) in [
                (Opset::Ios15, None),
                (Opset::Ios17, None),
                (Opset::Ios17, Some(false)),
                (Opset::Ios17, Some(true)),
            ] {
                let skips = kind == OpKind::Scatter && opset == Opset::Ios17 && validate != Some(true);
                for index in [0, 1, -1, -2, 2, -3, i32::MAX, i32::MIN] {
                    let place = match index {
                        0 | 1 => Some(index as usize),
                        -2 | -1 if validate != Some(true) && !skips => Some((index + 2) as usize),
                        _ => None,
                    };
                    let expected = match place {
                        Some(at) if is_gather(kind) => Some(vec![[1.0, 2.0][at], 1.0]),
                        Some(0) => Some(vec![1.0 + 5.0 + 6.0, 2.0]),
                        Some(_) => Some(vec![1.0 + 6.0, 2.0 + 5.0]),
                        None => skips.then(|| vec![1.0 + 6.0, 2.0]),
                    };
                    let found = found(kind, opset, validate, index);
                    assert_eq!(found, expected, "{} {opset} {validate:?} {index}", kind.name());
                }
            }
        }
    }
}
