//! The command `milwright`.
fn main() {}
