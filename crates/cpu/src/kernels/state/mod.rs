//! Memory that outlives one run of the function.

mod read_state;
mod write_state;
