//! `asin`

unsupported!(Asin, "there is no kernel yet");
