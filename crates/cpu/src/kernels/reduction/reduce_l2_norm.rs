//! `reduce_l2_norm`

unsupported!(ReduceL2Norm, "there is no kernel yet");
