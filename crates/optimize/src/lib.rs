//! Milwright optimize.
