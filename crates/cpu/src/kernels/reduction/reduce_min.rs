//! `reduce_min`

unsupported!(ReduceMin, "there is no kernel yet");
