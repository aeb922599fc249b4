//! Model files: Core ML's containers, protobuf messages and weight blobs, and ONNX files.
//!
//! This crate knows how models are stored, and nothing about what they compute.
//!
//! * [`Format::of`] says of what format a file is.
//! * [`Package`] opens an `.mlmodel`, `.mlpackage` or `.mlmodelc` and resolves the weights that its program refers to.
//! * [`blob`] reads and writes weight files (MIL blob storage version 2).
//! * [`proto`] has the protobuf messages of the whole specification.
//! * [`onnx`] opens ONNX models and the files with their data.
//! * [`PackageWriter`], [`write_mlmodel`] and [`write_mlmodelc`] write complete models or nothing, and [`StagedFile`]
//!   does so for any file.
//! * [`limits`] lists every bound on untrusted input.
//!
//! Files are memory-mapped, and every `bytes` field and weight blob is a slice of the mapping, so that opening a model
//! of many gigabytes takes only the time to parse its structure. The user must keep one rule: **do not truncate a file
//! or rewrite it in place while it is open here.** The writers of this crate keep it: they write a new file and rename
//! it.

#![forbid(unsafe_code)]

pub mod blob;
mod carried;
mod compiled;
mod decode;
mod foreign;
mod format;
mod lfs;
pub mod limits;
mod manifest;
mod memory;
mod nearest;
pub mod onnx;
mod open;
mod overlay;
pub mod proto;
mod references;
mod write;

pub use compiled::{
    CompiledPart, CompiledPipeline, CompiledProgram, FunctionSummary, write_mlmodelc, write_mlmodelc_pipeline,
};
pub use format::Format;
pub use lfs::lfs_pointer;
pub use milwright_files::{
    Error, ErrorKind, Existing, FileMap, Result, StagedFile, abandon_writes, is_device_name, open_regular,
};
pub use nearest::{did_you_mean, nearest};
pub use open::{Container, Package};
pub use write::{PackageWriter, StagedPackage, would_replace, write_mlmodel};
