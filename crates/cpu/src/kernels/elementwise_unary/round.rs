//! `round`

unsupported!(Round, "there is no kernel yet");
