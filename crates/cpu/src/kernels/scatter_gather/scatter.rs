//! `scatter`

unsupported!(Scatter, "there is no kernel yet");
