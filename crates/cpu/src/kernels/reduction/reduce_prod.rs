//! `reduce_prod`

unsupported!(ReduceProd, "there is no kernel yet");
