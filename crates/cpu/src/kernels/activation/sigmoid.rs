//! `sigmoid`

unsupported!(Sigmoid, "there is no kernel yet");
