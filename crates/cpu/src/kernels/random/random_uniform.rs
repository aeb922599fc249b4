//! `random_uniform`

unsupported!(RandomUniform, "there is no kernel yet");
