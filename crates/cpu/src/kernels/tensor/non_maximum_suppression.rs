//! `non_maximum_suppression`

unsupported!(NonMaximumSuppression, "there is no kernel yet");
