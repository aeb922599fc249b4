//! `make_list`

by_engine!(MakeList);
