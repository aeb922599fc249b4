//! Choices, loops and lists.

mod cond;
mod list_gather;
mod list_length;
mod list_read;
mod list_scatter;
mod list_write;
mod make_list;
mod select;
mod while_loop;
