//! The bounds on what the other process may claim.

/// Bytes of a frame's message: names, shapes, texts. Tensors are not part of it.
pub const MAX_MESSAGE: usize = 16 << 20;
/// Blobs of a frame. A model has some thousand inputs, states and outputs at most.
pub const MAX_BLOBS: usize = 1 << 16;
/// Bytes of shared memory: all the blobs of a frame. More than the memory of most machines that Core ML runs on.
pub const MAX_MEMORY: u64 = 64 << 30;
/// Bytes of the identity in a greeting.
pub const MAX_IDENTITY: usize = 256;
/// Blobs start at multiples of this in shared memory: the width of a cache line.
pub const ALIGN: u64 = 64;
