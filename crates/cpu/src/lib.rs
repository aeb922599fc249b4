//! The engine: it compiles a function for given input shapes and this machine, and runs it.
//!
//! Where is what:
//!
//! * [`kernel`]: the contract between the engine and the code of one op; `kernels/` has one file per op, at the same
//!   path as its declaration in `milwright-mil`.
//! * [`view`], [`index`], [`convert`], [`pool`]: what kernels are written with.
//! * [`chain`]: element-wise functions, fused and run block by block, alone or as the epilogue of another kernel.
//! * [`eager`]: one op on given tensors, for constant folding and tests.

pub mod chain;
pub mod convert;
pub mod eager;
pub mod index;
pub mod kernel;
pub mod kernels;
mod memory;
pub mod pool;
pub mod product;
pub mod view;

pub use eager::Engine;
pub use kernel::{Kernel, KernelError, Map, Packed, Prepared, Run, Step, Support};
pub use pool::Pool;
pub use view::{View, ViewMut};
