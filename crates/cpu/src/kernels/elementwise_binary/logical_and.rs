//! `logical_and`

unsupported!(LogicalAnd, "there is no kernel yet");
