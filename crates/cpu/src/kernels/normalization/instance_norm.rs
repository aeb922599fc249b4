//! `instance_norm`

unsupported!(InstanceNorm, "there is no kernel yet");
