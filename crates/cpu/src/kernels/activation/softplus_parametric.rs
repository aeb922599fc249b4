//! `softplus_parametric`

unsupported!(SoftplusParametric, "there is no kernel yet");
