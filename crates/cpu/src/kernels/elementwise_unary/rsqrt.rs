//! `rsqrt`

unsupported!(Rsqrt, "there is no kernel yet");
