//! `list_scatter`

by_engine!(ListScatter);
