//! Constants, plain and compressed.

pub mod constant;
