//! The bounds on what the other process may claim.

/// The most bytes of a frame's message: names, shapes, texts. Tensors are blobs, not part of it.
pub const MAX_MESSAGE: usize = 16 << 20;
/// The most blobs of a frame. A model has at most some thousand inputs, states and outputs.
pub const MAX_BLOBS: usize = 1 << 16;
/// The most bytes of shared memory, that is, of all blobs of a frame: more than most machines with Core ML have.
pub const MAX_MEMORY: u64 = 64 << 30;
/// The most bytes of the identity in a greeting.
pub const MAX_IDENTITY: usize = 256;
/// Alignment of blobs in shared memory: the width of a cache line.
pub const ALIGN: u64 = 64;
