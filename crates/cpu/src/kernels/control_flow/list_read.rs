//! `list_read`

by_engine!(ListRead);
