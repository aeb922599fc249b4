//! `reduce_sum_square`

unsupported!(ReduceSumSquare, "there is no kernel yet");
