//! ML programs of Core ML models: protobuf messages, or the text of compiled ones, to IR and back.
//!
//! [`read()`] shares the bytes of weights with the (memory-mapped) weight files; [`write()`] hands each weight to a
//! [`WeightSink`] as it comes to it, so that a model is never in memory as a whole.
//!
//! Two things differ between file and IR. Up to iOS17 a file stores the parameters of `constexpr_*` ops as
//! attributes; in the IR they are inputs always. And a file orders the inputs of an op by name.

mod compiled;
mod read;
mod types;
mod values;
mod write;

pub use compiled::{summaries, write_text};
pub use read::read;
pub use types::read_type;
pub use write::{WeightSink, write};
