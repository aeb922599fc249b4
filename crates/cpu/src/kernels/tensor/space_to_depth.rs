//! `space_to_depth`

unsupported!(SpaceToDepth, "there is no kernel yet");
