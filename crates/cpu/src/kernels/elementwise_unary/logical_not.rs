//! `logical_not`

unsupported!(LogicalNot, "there is no kernel yet");
