//! Attention.

mod scaled_dot_product_attention;
