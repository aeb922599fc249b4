//! `gather`

unsupported!(Gather, "there is no kernel yet");
