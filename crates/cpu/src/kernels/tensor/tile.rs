//! `tile`

unsupported!(Tile, "there is no kernel yet");
