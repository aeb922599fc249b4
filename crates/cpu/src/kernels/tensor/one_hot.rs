//! `one_hot`

unsupported!(OneHot, "there is no kernel yet");
