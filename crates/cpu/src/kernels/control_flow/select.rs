//! `select`

unsupported!(Select, "there is no kernel yet");
