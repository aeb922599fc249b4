//! `local_response_norm`

unsupported!(LocalResponseNorm, "there is no kernel yet");
