//! `while_loop`

by_engine!(WhileLoop);
