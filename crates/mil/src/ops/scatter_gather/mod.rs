//! Reading and writing elements by index.

pub mod gather;
pub mod gather_along_axis;
pub mod gather_nd;
pub mod scatter;
pub mod scatter_along_axis;
pub mod scatter_nd;
