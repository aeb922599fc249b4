//! `fill_like`

unsupported!(FillLike, "there is no kernel yet");
