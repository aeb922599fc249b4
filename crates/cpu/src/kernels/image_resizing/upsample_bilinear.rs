//! `upsample_bilinear`

unsupported!(UpsampleBilinear, "there is no kernel yet");
