//! Milwright milwright.
