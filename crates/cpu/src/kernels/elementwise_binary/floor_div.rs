//! `floor_div`

unsupported!(FloorDiv, "there is no kernel yet");
