//! `lstm`

unsupported!(Lstm, "there is no kernel yet");
