//! `less_equal`

unsupported!(LessEqual, "there is no kernel yet");
