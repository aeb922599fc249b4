//! `batch_norm`

unsupported!(BatchNorm, "there is no kernel yet");
