//! `cast`

unsupported!(Cast, "there is no kernel yet");
