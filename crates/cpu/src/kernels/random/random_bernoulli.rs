//! `random_bernoulli`

unsupported!(RandomBernoulli, "there is no kernel yet");
