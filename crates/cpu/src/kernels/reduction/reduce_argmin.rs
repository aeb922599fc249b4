//! `reduce_argmin`

unsupported!(ReduceArgmin, "there is no kernel yet");
