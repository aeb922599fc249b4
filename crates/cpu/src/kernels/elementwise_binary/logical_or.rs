//! `logical_or`

unsupported!(LogicalOr, "there is no kernel yet");
