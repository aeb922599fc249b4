//! `sign`

unsupported!(Sign, "there is no kernel yet");
