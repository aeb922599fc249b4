//! `logical_xor`

unsupported!(LogicalXor, "there is no kernel yet");
