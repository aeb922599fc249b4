//! Milwright convert.
