//! The subcommands, one file each: `Args`, and `run`.

pub mod bench;
pub mod cache;
pub mod compare;
pub mod compile;
pub mod convert;
pub mod doctor;
pub mod inspect;
pub mod optimize;
pub mod plan;
pub mod profile;
pub mod run;
pub mod selftest;
pub mod smallest;
mod task;
