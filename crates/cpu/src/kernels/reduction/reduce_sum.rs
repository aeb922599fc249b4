//! `reduce_sum`

unsupported!(ReduceSum, "there is no kernel yet");
