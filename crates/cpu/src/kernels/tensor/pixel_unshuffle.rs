//! `pixel_unshuffle`

unsupported!(PixelUnshuffle, "there is no kernel yet");
