//! `split`

unsupported!(Split, "there is no kernel yet");
