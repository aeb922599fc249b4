//! `linear_activation`

unsupported!(LinearActivation, "there is no kernel yet");
