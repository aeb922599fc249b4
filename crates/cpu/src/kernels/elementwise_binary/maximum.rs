//! `maximum`

unsupported!(Maximum, "there is no kernel yet");
