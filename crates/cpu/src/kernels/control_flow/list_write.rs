//! `list_write`

by_engine!(ListWrite);
