//! `expand_dims`

unsupported!(ExpandDims, "there is no kernel yet");
