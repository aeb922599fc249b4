//! Every bound on untrusted input.
//!
//! Other allocations are at most proportional to the input: see [`MAX_SPEC_BYTES`].

/// The largest serialized model, in bytes: protobuf itself allows no more.
///
/// Weights in `bytes` fields and blob files are not copied. Decoded messages take a multiple of their size in the file:
/// see [`MAX_MEMORY_PER_BYTE`].
pub const MAX_SPEC_BYTES: u64 = (1 << 31) - 1;

/// How many bytes of memory the messages of a serialized model may take for each byte of it. Models from converters
/// take less than 30; a list of empty messages, two bytes each, could take a thousand. Numbers and strings are not
/// counted; they take at most 48 more.
pub const MAX_MEMORY_PER_BYTE: usize = 100;

/// Memory that messages may take even if the model is small.
pub const MIN_MEMORY: usize = 4 << 20;

/// The largest text of a compiled program, in bytes. It holds no weights, only the constants that coremltools does not
/// put into weight files.
pub const MAX_PROGRAM_TEXT_BYTES: u64 = 1 << 30;

/// Depth of nested messages. Each nested block of an ML program takes two, each nested pipeline two.
///
/// The decoder enforces it, so that neither decoding, walking nor dropping a model can overflow the stack.
pub const MAX_MESSAGE_DEPTH: usize = 100;

/// The newest specification version that this crate reads (iOS 26, macOS 26).
pub const NEWEST_SPECIFICATION_VERSION: i32 = 10;

/// The largest `Manifest.json` of a package, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// The most items in a package's manifest.
pub const MAX_MANIFEST_ITEMS: usize = 1000;

/// The largest file of the texts that Xcode keeps beside a specification, in bytes.
pub const MAX_OVERLAY_BYTES: u64 = 4 << 20;

/// The most files besides its model and weights that a rewritten package keeps.
pub const MAX_CARRIED_FILES: usize = 1000;

/// How deep folders nest in a package.
pub const MAX_FOLDER_DEPTH: usize = 16;

/// The most distinct weight files of one model.
pub const MAX_WEIGHT_FILES: usize = 1000;

/// The largest JSON file of a compiled network, in bytes: some thousand layers take a few hundred kilobytes. Parsed
/// JSON takes some thirty times as much memory.
pub const MAX_COMPILED_JSON_BYTES: u64 = 1 << 24;

/// The largest weight file of a compiled network, in bytes. Unlike a program's weights, these are copied, as those in
/// an `.mlmodel` are.
pub const MAX_WEIGHT_FILE_BYTES: u64 = (1 << 31) - 1;

/// How deep pipelines nest in compiled pipelines.
pub const MAX_COMPILED_DEPTH: usize = 8;

/// The most models in a compiled pipeline, including those of nested ones.
pub const MAX_COMPILED_MODELS: usize = 200;
