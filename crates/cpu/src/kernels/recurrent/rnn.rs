//! `rnn`

unsupported!(Rnn, "there is no kernel yet");
