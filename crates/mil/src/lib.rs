//! Milwright mil.
