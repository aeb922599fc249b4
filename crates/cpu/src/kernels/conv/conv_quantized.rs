//! `conv_quantized`

unsupported!(
    ConvQuantized,
    "no converter writes conv_quantized, and its packing of weights is not documented"
);
