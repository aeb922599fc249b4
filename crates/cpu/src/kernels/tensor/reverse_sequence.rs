//! `reverse_sequence`

unsupported!(ReverseSequence, "there is no kernel yet");
