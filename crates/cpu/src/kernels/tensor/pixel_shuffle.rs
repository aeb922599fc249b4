//! `pixel_shuffle`

unsupported!(PixelShuffle, "there is no kernel yet");
