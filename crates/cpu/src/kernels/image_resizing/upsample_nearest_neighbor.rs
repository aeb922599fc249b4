//! `upsample_nearest_neighbor`

unsupported!(UpsampleNearestNeighbor, "there is no kernel yet");
