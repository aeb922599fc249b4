//! `l2_norm`

unsupported!(L2Norm, "there is no kernel yet");
