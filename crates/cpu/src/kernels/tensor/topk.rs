//! `topk`

unsupported!(Topk, "there is no kernel yet");
