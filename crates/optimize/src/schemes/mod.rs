//! A file for each family of schemes.

pub mod cluster;
pub mod linear;
pub mod palette;
pub mod prune;
mod vectors;
