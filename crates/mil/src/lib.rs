//! The intermediate representation: Core ML's MIL (Model Intermediate Language) in Rust.
//!
//! A [`Program`] holds [`Function`]s. A function owns arenas of values, ops and blocks, which typed ids refer to. An
//! [`Op`] has a kind from one table ([`ops`]), named inputs, outputs, and nested blocks if it is control flow. Every
//! value has a [`Type`]. Every constant is a [`Value`], which may share its bytes with a memory-mapped file.
//!
//! Semantics, in short:
//!
//! * A function's ops run in the order of its body block. A value is defined once (SSA) and visible to every later
//!   op of its block and of the blocks nested in it.
//! * A function's opset chooses the version of each op: the newest that is not newer than the opset.
//! * Tensors are dense and row-major. A scalar is a tensor of rank 0.
//! * An input of an op is a value, a list of values (a *variadic* parameter), or an immediate constant.
//! * `const` ops carry their value in the attribute `val`. The parameters of `constexpr_*` ops are always inputs
//!   here, although files up to iOS17 store them as attributes: the reader and the writer translate.
//!
//! [`mod@verify`] checks all of that; [`text`] prints and parses programs; [`infer`] infers types and known values;
//! [`build`] builds functions; [`engine`] is the contract of what runs them; [`passes`] rewrite programs; [`widen()`] converts fp16 programs to fp32.
//!
//! This crate does not use files, protobuf or threads.
#![forbid(unsafe_code)]

pub mod build;
pub mod cases;
mod dtype;
pub mod engine;
pub mod evaluate;
pub mod infer;
pub mod ops;
pub mod passes;
mod program;
mod tensor;
pub mod text;
mod types;
mod value;
pub mod verify;
pub mod widen;

pub use dtype::{DType, Opset};
pub use evaluate::Evaluate;
pub use ops::OpKind;
pub use program::{
    Arg, Attributes, Block, BlockId, Def, Function, Input, Op, OpId, Program, ValueData, ValueId, ValueMap,
};
pub use tensor::{Element, Tensor, TensorError, pack_bits, unpack_bits};
pub use types::{Dim, TensorType, Type};
pub use value::Value;
pub use verify::{Checked, VerifyErrors, verify};
pub use widen::widen;
