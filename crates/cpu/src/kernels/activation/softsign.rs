//! `softsign`

unsupported!(Softsign, "there is no kernel yet");
