//! `crop_resize`

unsupported!(CropResize, "there is no kernel yet");
