//! Normalization.

mod batch_norm;
mod instance_norm;
mod l2_norm;
mod layer_norm;
mod local_response_norm;
