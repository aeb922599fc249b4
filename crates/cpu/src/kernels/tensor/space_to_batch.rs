//! `space_to_batch`

unsupported!(SpaceToBatch, "there is no kernel yet");
