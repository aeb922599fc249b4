//! `softplus`

unsupported!(Softplus, "there is no kernel yet");
