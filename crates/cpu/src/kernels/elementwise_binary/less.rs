//! `less`

unsupported!(Less, "there is no kernel yet");
