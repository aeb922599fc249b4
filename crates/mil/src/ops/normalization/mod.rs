//! Normalization.

pub mod batch_norm;
pub mod instance_norm;
pub mod l2_norm;
pub mod layer_norm;
pub mod local_response_norm;
