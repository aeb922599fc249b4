//! `inverse`

unsupported!(Inverse, "there is no kernel yet");
