//! `real_div`

unsupported!(RealDiv, "there is no kernel yet");
