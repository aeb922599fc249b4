//! `stack`

unsupported!(Stack, "there is no kernel yet");
