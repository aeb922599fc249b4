//! Joining, splitting, shaping and moving tensors.

pub mod concat;
