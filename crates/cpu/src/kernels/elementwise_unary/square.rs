//! `square`

unsupported!(Square, "there is no kernel yet");
