//! `crop`

unsupported!(Crop, "there is no kernel yet");
