//! Milwright's own engine: compiles a function of a program for given input shapes and this machine's CPU, and runs it.
//!
//! First the modules that a program passes through, then what they are built on:
//!
//! * [`compile()`]: from a checked program to a [`Plan`]: inference, fusion, packing of weights, memory layout.
//! * [`Plan`]: plain data that can be written to a file and used from there without a copy.
//! * [`Executable`]: prepares a plan's steps and runs them.
//! * [`kernel`]: the contract between the engine and the code of one op; `kernels/` has one file per op, at the same
//!   path as its declaration in `milwright-mil`.
//! * [`view`], [`index`], [`convert`], [`rows`], [`math`], [`pool`]: building blocks for kernels.
//! * [`simd`]: vectors of each instruction set, and matrix products on them; the one home of SIMD `unsafe`.
//! * [`chain`]: element-wise functions, fused and run block by block, alone or as the epilogue of another kernel.
//! * [`CpuEngine`]: all of this behind the contract of engines, [`milwright_mil::engine`].
//! * [`eager`]: runs one op on given tensors, for constant folding and tests.

pub mod chain;
mod compile;
pub mod convert;
pub mod eager;
mod engine;
mod exec;
pub mod features;
pub mod index;
pub mod kernel;
pub mod kernels;
pub mod math;
mod memory;
mod plan;
pub mod pool;
pub mod product;
pub mod rows;
pub mod simd;
mod simple;
pub mod view;

pub use compile::{compile, compile_with};
pub use eager::Eager;
pub use engine::CpuEngine;
pub use exec::Executable;
pub use kernel::{Kernel, Map, Packed, Params, Prepared, Run, Step, Support};
pub use memory::Memory;
pub use milwright_mil::engine::{
    CompileError, CompileOptions, DEFAULT_MEMORY, KernelError, MAX_THREADS, PlanError, RunError, RunOptions,
    State,
};
pub use plan::{Feature, Plan};
pub use pool::Pool;
pub use view::{View, ViewMut};
