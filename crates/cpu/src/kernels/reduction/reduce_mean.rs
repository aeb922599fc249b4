//! `reduce_mean`

unsupported!(ReduceMean, "there is no kernel yet");
