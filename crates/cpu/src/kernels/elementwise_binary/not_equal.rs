//! `not_equal`

unsupported!(NotEqual, "there is no kernel yet");
