//! `read_state`

by_engine!(ReadState);
