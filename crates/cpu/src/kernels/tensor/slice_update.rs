//! `slice_update`

unsupported!(SliceUpdate, "there is no kernel yet");
