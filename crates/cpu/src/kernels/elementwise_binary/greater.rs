//! `greater`

unsupported!(Greater, "there is no kernel yet");
