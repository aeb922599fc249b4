//! Activation functions.

mod clamped_relu;
mod elu;
mod gelu;
mod leaky_relu;
mod linear_activation;
mod prelu;
mod relu;
mod relu6;
mod scaled_tanh;
mod sigmoid;
mod sigmoid_hard;
mod silu;
mod softmax;
mod softplus;
mod softplus_parametric;
mod softsign;
mod thresholded_relu;
