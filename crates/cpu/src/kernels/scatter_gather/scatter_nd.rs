//! `scatter_nd`

unsupported!(ScatterNd, "there is no kernel yet");
