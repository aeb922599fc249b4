//! `random_normal`

unsupported!(RandomNormal, "there is no kernel yet");
