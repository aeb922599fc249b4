//! `reduce_max`

unsupported!(ReduceMax, "there is no kernel yet");
