//! `pow`

unsupported!(Pow, "there is no kernel yet");
