//! Milwright spec.
