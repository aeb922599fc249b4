//! `scatter_along_axis`

unsupported!(ScatterAlongAxis, "there is no kernel yet");
