//! `identity`

unsupported!(Identity, "there is no kernel yet");
