//! `depth_to_space`

unsupported!(DepthToSpace, "there is no kernel yet");
