//! ONNX files: the messages, and the data of tensors that are in files of their own.
//!
//! The model file and the data files are memory-mapped, and the bytes of every tensor are a slice of a mapping. The
//! rule of the crate holds: nobody may truncate or rewrite a file in place while it is open here.

mod external;
pub mod proto;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use crate::limits::MAX_SPEC_BYTES;
use crate::{Error, Result, foreign, memory};
use external::External;
pub use external::MAX_EXTERNAL_FILES;
use milwright_files::map_bytes;

/// An ONNX model that was opened: its messages, and access to the data that is outside its file.
#[derive(Debug)]
pub struct OnnxFile {
    model: proto::ModelProto,
    /// The whole model file.
    bytes: Bytes,
    external: External,
}

impl OnnxFile {
    /// Whether a file is an ONNX model, by its content, or by its name if the content has no other mark.
    pub fn is_one(path: impl AsRef<Path>) -> bool {
        foreign::is_onnx_file(path.as_ref())
    }

    /// Opens an ONNX file. Reads only its structure: the bytes of tensors stay in the (memory-mapped) file, and files
    /// with the data of tensors are opened when it is asked for.
    ///
    /// # Errors
    ///
    /// If there is no such file, or if it is damaged or not an ONNX model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = map_bytes(path, MAX_SPEC_BYTES).map_err(|error| error.at(path))?;
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Self::new(bytes, External::in_folder(folder)).map_err(|error| error.at(path))
    }

    /// Reads an ONNX model from memory. It cannot refer to other files.
    ///
    /// # Errors
    ///
    /// If it is damaged or not an ONNX model.
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        Self::new(bytes, External::none())
    }

    fn new(bytes: Bytes, external: External) -> Result<Self> {
        let model = decode(bytes.clone())?;
        Ok(Self { model, bytes, external })
    }

    /// The model.
    pub fn model(&self) -> &proto::ModelProto {
        &self.model
    }

    /// The bytes of the model file.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The little-endian bytes of a tensor whose data is in a file of its own, exactly `length` bytes: what its element
    /// type and shape need.
    ///
    /// # Errors
    ///
    /// If the place is outside the model's folder, if the file is missing or too short, or if the tensor says that its
    /// data has another length.
    pub fn external_data(&self, tensor: &proto::TensorProto, length: u64) -> Result<Bytes> {
        self.external.read(tensor, length)
    }

    /// The files with data that were read so far, with their contents, in the order of their names.
    pub fn external_files(&self) -> Vec<(String, Bytes)> {
        self.external.files()
    }
}

fn decode(bytes: Bytes) -> Result<proto::ModelProto> {
    memory::check(&bytes, &proto::layout::MESSAGES, proto::layout::MODEL)?;
    let model = proto::ModelProto::decode(bytes).map_err(|error| {
        Error::malformed(format!("not an ONNX model, or a damaged one: {error}"))
            .with_hint("check that the file was copied or downloaded completely")
            .with_source(error)
    })?;
    if model.graph.is_none() {
        return Err(Error::malformed("the ONNX model has no graph")
            .with_hint("check that the file was copied or downloaded completely"));
    }
    Ok(model)
}
