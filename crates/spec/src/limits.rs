//! Every bound on untrusted input.
//!
//! All other allocation is at most proportional to the input: see [`MAX_SPEC_BYTES`].

/// Size of a serialized model, in bytes: protobuf itself allows no more.
///
/// Weights in `bytes` fields and blob files are not copied. What is decoded takes a multiple of its size in the file:
/// see [`MAX_MEMORY_PER_BYTE`].
pub const MAX_SPEC_BYTES: u64 = (1 << 31) - 1;

/// Memory that the messages of a serialized model may take, in bytes for each byte of it. Models from converters take
/// less than 30; a list of empty messages, two bytes each, could take a thousand. Numbers and strings, which are not
/// counted, take at most 48 on top of it.
pub const MAX_MEMORY_PER_BYTE: usize = 100;

/// Memory that messages may take whatever the size of the model.
pub const MIN_MEMORY: usize = 4 << 20;

/// Size of a compiled program's text, in bytes. It holds no weights, only the constants that coremltools keeps out of
/// weight files.
pub const MAX_PROGRAM_TEXT_BYTES: u64 = 1 << 30;

/// Depth of nested messages. Each nested block of an ML program takes two, each nested pipeline two.
///
/// The decoder enforces it, so that neither decoding, walking nor dropping a model can overflow the stack.
pub const MAX_MESSAGE_DEPTH: usize = 100;

/// Newest specification version that is understood (iOS 26, macOS 26).
pub const NEWEST_SPECIFICATION_VERSION: i32 = 10;

/// Size of a package's `Manifest.json`, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Items in a package's manifest.
pub const MAX_MANIFEST_ITEMS: usize = 1000;

/// Size of a file with the texts that Xcode keeps beside a specification, in bytes.
pub const MAX_OVERLAY_BYTES: u64 = 4 << 20;

/// Files of a package besides its model and weights that whoever rewrites it keeps.
pub const MAX_CARRIED_FILES: usize = 1000;

/// Depth of the folders in a package.
pub const MAX_FOLDER_DEPTH: usize = 16;

/// Distinct weight files that one model refers to.
pub const MAX_WEIGHT_FILES: usize = 1000;

/// Size of a file of a compiled network that is JSON, in bytes: some thousand layers take a few hundred kilobytes. What
/// is parsed takes some thirty times as much memory.
pub const MAX_COMPILED_JSON_BYTES: u64 = 1 << 24;

/// Size of the weights of a compiled network, in bytes. Unlike those of programs they are copied, as those in an
/// `.mlmodel` are.
pub const MAX_WEIGHT_FILE_BYTES: u64 = (1 << 31) - 1;

/// Depth of pipelines inside compiled pipelines.
pub const MAX_COMPILED_DEPTH: usize = 8;

/// Models in a compiled pipeline, those of nested ones included.
pub const MAX_COMPILED_MODELS: usize = 200;
