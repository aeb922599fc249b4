//! `thresholded_relu`

unsupported!(ThresholdedRelu, "there is no kernel yet");
