//! Milwright cache.
