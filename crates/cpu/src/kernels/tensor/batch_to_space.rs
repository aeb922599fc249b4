//! `batch_to_space`

unsupported!(BatchToSpace, "there is no kernel yet");
