//! `reduce_argmax`

unsupported!(ReduceArgmax, "there is no kernel yet");
