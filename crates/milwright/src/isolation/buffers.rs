//! Reuses the memory of received tensors.

use bytes::Bytes;
use milwright_mil::Tensor;

/// The memory of the last tensors. The next tensors reuse it once nothing else refers to it, because fresh memory from
/// the system costs more than the copy into it.
#[derive(Default)]
pub(super) struct Buffers(Vec<Bytes>);

impl Buffers {
    /// Returns an empty vector, with the capacity for `len` bytes if there is free memory of that size.
    pub fn take(&mut self, len: u64) -> Vec<u8> {
        let fits = |bytes: &Bytes| bytes.len() as u64 == len && bytes.is_unique();
        match self.0.iter().position(fits) {
            // The buffer is unique, so the conversion does not copy.
            Some(at) => Vec::from(self.0.swap_remove(at)),
            None => Vec::new(),
        }
    }

    /// Keeps the memory of these tensors for reuse, and drops the rest.
    pub fn keep<'a>(&mut self, tensors: impl IntoIterator<Item = &'a Tensor>) {
        self.0.clear();
        self.0.extend(tensors.into_iter().map(Tensor::shared_bytes).filter(|bytes| !bytes.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::DType;

    use super::*;

    #[test]
    fn memory_is_used_again_when_nobody_has_it() {
        let mut buffers = Buffers::default();
        assert_eq!(buffers.take(8).capacity(), 0);
        let tensor = |bytes: Vec<u8>| Tensor::from_bytes(DType::UInt8, &[8], bytes.into()).unwrap();
        let (first, second) = (tensor(vec![1; 8]), tensor(vec![2; 8]));
        buffers.keep([&first, &second]);
        assert_eq!(buffers.take(8).capacity(), 0, "both are in use");
        let address = second.bytes().as_ptr();
        drop(second);
        assert_eq!(buffers.take(7).capacity(), 0, "another size");
        let taken = buffers.take(8);
        assert_eq!((taken.as_ptr(), taken.capacity()), (address, 8));
        assert_eq!(first.bytes(), [1; 8]);
    }
}
