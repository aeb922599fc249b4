//! ML programs of Core ML models: converts protobuf messages, or the text of compiled programs, to IR and back.
//!
//! [`read()`] shares the bytes of weights with the (memory-mapped) weight files. [`write()`] hands each weight to a
//! [`WeightSink`] when it gets to it, so that a model is never in memory as a whole.
//!
//! File and IR differ in two ways. Files up to iOS17 store the parameters of `constexpr_*` ops as attributes; in the IR
//! they are always inputs. And files order the inputs of an op by name.

mod compiled;
mod describe;
mod read;
mod types;
mod values;
mod write;

pub use compiled::{summaries, write_text};
pub use describe::describe;
pub use read::read;
pub use types::read_type;
pub use write::{WeightSink, write};
