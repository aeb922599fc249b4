//! `write_state`

by_engine!(WriteState);
