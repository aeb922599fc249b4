//! `cond`

by_engine!(Cond);
