//! `resize_bilinear`

unsupported!(ResizeBilinear, "there is no kernel yet");
