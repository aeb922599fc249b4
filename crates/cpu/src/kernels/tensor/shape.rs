//! `shape`

unsupported!(Shape, "there is no kernel yet");
