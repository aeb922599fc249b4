//! `reduce_log_sum`

unsupported!(ReduceLogSum, "there is no kernel yet");
