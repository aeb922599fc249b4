//! `fill`

unsupported!(Fill, "there is no kernel yet");
