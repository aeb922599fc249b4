//! `flatten2d`

unsupported!(Flatten2d, "there is no kernel yet");
