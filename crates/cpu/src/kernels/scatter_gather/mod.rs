//! Reading and writing elements by index.

mod gather;
mod gather_along_axis;
mod gather_nd;
mod indices;
mod scatter;
mod scatter_along_axis;
mod scatter_nd;
