//! `greater_equal`

unsupported!(GreaterEqual, "there is no kernel yet");
