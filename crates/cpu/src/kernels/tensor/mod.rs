//! Joining, splitting, shaping and moving tensors.

mod concat;
