//! `sin`

unsupported!(Sin, "there is no kernel yet");
