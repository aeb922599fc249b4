//! `constexpr_cast`

unsupported!(ConstexprCast, "there is no kernel yet");
