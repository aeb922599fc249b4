//! `classify`

unsupported!(
    Classify,
    "it yields a dictionary, which only the end of a model can: it is taken off before a plan is made"
);
