//! `gather_along_axis`

unsupported!(GatherAlongAxis, "there is no kernel yet");
