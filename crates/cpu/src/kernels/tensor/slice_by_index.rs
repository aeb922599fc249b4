//! `slice_by_index`

unsupported!(SliceByIndex, "there is no kernel yet");
