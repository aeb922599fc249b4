//! `affine`

unsupported!(Affine, "there is no kernel yet");
