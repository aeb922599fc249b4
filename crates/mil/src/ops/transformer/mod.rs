//! Attention.

pub mod scaled_dot_product_attention;
