//! Random tensors.

mod random_bernoulli;
mod random_categorical;
mod random_normal;
mod random_uniform;
