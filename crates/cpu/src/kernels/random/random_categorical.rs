//! `random_categorical`

unsupported!(RandomCategorical, "there is no kernel yet");
