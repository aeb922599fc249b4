//! Constants.

mod constant;
