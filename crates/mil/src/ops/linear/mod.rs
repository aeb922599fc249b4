//! Matrix products.

pub mod einsum;
#[expect(clippy::module_inception, reason = "the op has its family's name")]
pub mod linear;
pub mod matmul;
