//! `list_gather`

by_engine!(ListGather);
