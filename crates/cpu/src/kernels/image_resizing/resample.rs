//! `resample`

unsupported!(Resample, "there is no kernel yet");
