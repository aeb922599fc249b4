//! `list_length`

by_engine!(ListLength);
