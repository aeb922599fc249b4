//! Milwright cpu.
