//! `resize_nearest_neighbor`

unsupported!(ResizeNearestNeighbor, "there is no kernel yet");
