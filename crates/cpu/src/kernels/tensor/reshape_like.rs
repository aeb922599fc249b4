//! `reshape_like`

unsupported!(ReshapeLike, "there is no kernel yet");
