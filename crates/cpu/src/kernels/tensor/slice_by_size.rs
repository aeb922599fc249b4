//! `slice_by_size`

unsupported!(SliceBySize, "there is no kernel yet");
