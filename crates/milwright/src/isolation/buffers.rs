//! Memory for the tensors that come, used again.

use bytes::Bytes;
use milwright_mil::Tensor;

/// The memory of the last tensors. Once nobody else has them, the next ones get it: fresh memory from the system costs
/// more than the copy into it.
#[derive(Default)]
pub(super) struct Buffers(Vec<Bytes>);

impl Buffers {
    /// A vector for so many bytes: empty, and with room for them if there is one.
    pub fn take(&mut self, len: u64) -> Vec<u8> {
        let fits = |bytes: &Bytes| bytes.len() as u64 == len && bytes.is_unique();
        match self.0.iter().position(fits) {
            // It is unique: nothing is copied.
            Some(at) => Vec::from(self.0.swap_remove(at)),
            None => Vec::new(),
        }
    }

    /// Keeps the memory of these tensors, and no other.
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
