//! `gather_nd`

unsupported!(GatherNd, "there is no kernel yet");
