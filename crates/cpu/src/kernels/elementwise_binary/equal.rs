//! `equal`

unsupported!(Equal, "there is no kernel yet");
