//! `reduce_log_sum_exp`

unsupported!(ReduceLogSumExp, "there is no kernel yet");
