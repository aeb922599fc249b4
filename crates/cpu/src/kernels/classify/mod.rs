//! The last op of a classifier.

#[expect(clippy::module_inception, reason = "a module is named after its op, a folder after its family")]
mod classify;
