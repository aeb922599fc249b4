//! Milwright testkit.
