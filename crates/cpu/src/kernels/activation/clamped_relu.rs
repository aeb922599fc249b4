//! `clamped_relu`

unsupported!(ClampedRelu, "there is no kernel yet");
