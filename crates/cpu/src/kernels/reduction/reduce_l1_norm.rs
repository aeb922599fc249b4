//! `reduce_l1_norm`

unsupported!(ReduceL1Norm, "there is no kernel yet");
