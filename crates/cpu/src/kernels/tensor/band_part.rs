//! `band_part`

unsupported!(BandPart, "there is no kernel yet");
