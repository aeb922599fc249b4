//! `sliding_windows`

unsupported!(SlidingWindows, "there is no kernel yet");
