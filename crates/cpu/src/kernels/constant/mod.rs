//! Constants.

#[expect(clippy::module_inception, reason = "the file has the name of its op, the folder that of its family")]
mod constant;
