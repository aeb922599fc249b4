//! Affine quantization of activations.

mod dequantize;
mod quantize;
