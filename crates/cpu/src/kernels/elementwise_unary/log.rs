//! `log`

unsupported!(Log, "there is no kernel yet");
