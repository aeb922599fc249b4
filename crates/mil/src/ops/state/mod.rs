//! Memory that outlives one run of the function.

pub mod read_state;
pub mod write_state;
