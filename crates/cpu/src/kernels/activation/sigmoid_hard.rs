//! `sigmoid_hard`

unsupported!(SigmoidHard, "there is no kernel yet");
