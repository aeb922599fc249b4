//! ONNX files: the messages, and the data of tensors that are in files of their own.
//!
//! The model file and the data files are memory-mapped, and the bytes of every tensor are a slice of a mapping. The
//! rule of the crate holds: nobody may truncate or rewrite a file in place while it is open here.

mod external;
pub mod proto;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use prost::Message as _;

use crate::limits::MAX_SPEC_BYTES;
use crate::{Error, Existing, Result, StagedFile, memory};
use external::External;
pub use external::MAX_EXTERNAL_FILES;
use milwright_files::{FileMap, map_file};

/// An ONNX model that was opened: its messages, and access to the data that is outside its file.
#[derive(Debug)]
pub struct OnnxFile {
    model: proto::ModelProto,
    /// The whole model file.
    bytes: Bytes,
    map: Option<FileMap>,
    external: External,
    aligned: Mutex<Aligned>,
}

impl OnnxFile {
    /// Opens an ONNX file. Reads only its structure: the bytes of tensors stay in the (memory-mapped) file, and files
    /// with the data of tensors are opened when it is asked for.
    ///
    /// # Errors
    ///
    /// If there is no such file, or if it is damaged or not an ONNX model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let map = map_file(path, MAX_SPEC_BYTES).map_err(|error| error.at(path))?;
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let bytes = map.as_ref().map(FileMap::bytes).unwrap_or_default();
        let file = Self::new(bytes, External::in_folder(folder)).map_err(|error| error.at(path))?;
        Ok(Self { map, ..file })
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
        Ok(Self { model, bytes, map: None, external, aligned: Mutex::default() })
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

    /// Data of a tensor at an address that is a multiple of `align`.
    ///
    /// Inside a message, data begins anywhere. Large data of a model in a file is then copied to an unnamed temporary file,
    /// which is mapped, so that it takes no memory that cannot be [released](Self::release_memory).
    pub fn aligned(&self, data: Bytes, align: usize) -> Bytes {
        if self.map.is_none() || data.len() < MIN_ALIGNED || data.as_ptr().addr().is_multiple_of(align) {
            return data;
        }
        let mut aligned = self.aligned.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = aligned.get(&data);
        self.map.iter().for_each(FileMap::release);
        // Without room on the disk, it stays where it is.
        copy.unwrap_or(data)
    }

    /// Large data that was made of a tensor's, in the same temporary file; `None` if it is small, or the model in memory.
    pub fn spilled(&self, data: &[u8]) -> Option<Bytes> {
        if self.map.is_none() || data.len() < MIN_ALIGNED {
            return None;
        }
        self.aligned.lock().unwrap_or_else(PoisonError::into_inner).append(data)
    }

    /// Returns the memory of mapped files to the system. Their bytes stay the same, and are read again when accessed.
    pub fn release_memory(&self) {
        self.map.iter().for_each(FileMap::release);
        self.external.release_memory();
        let aligned = self.aligned.lock().unwrap_or_else(PoisonError::into_inner);
        aligned.maps.iter().for_each(FileMap::release);
    }

    /// The files with data that were read so far, with their contents, in the order of their names.
    pub fn external_files(&self) -> Vec<(String, Bytes)> {
        self.external.files()
    }
}

/// Writes a model as an ONNX file, or nothing. Constants of a model that a message cannot hold go to `NAME.data` beside it.
///
/// # Errors
///
/// If a file cannot be written, or one is there and is not to be replaced.
pub fn write_onnx(mut model: proto::ModelProto, path: &Path, existing: Existing) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".data");
    let data = path.with_file_name(&name);
    let large = model.encoded_len() as u64 > MAX_MESSAGE;
    let mut staged = None;
    if large {
        let mut file = StagedFile::create(&data)?;
        let mut end = 0u64;
        let tensors = model.graph.as_mut().map(|g| g.initializer.as_mut_slice()).unwrap_or_default();
        for tensor in tensors {
            let Some(bytes) = tensor.raw_data.take_if(|b| b.len() >= MIN_EXTERNAL) else { continue };
            let start = end.next_multiple_of(EXTERNAL_ALIGN);
            file.write_all(&vec![0; (start - end) as usize])
                .map_err(|e| Error::io("write it", e).at(&data))?;
            file.write_all(&bytes).map_err(|e| Error::io("write it", e).at(&data))?;
            end = start + bytes.len() as u64;
            let entry = |key: &str, value: String| proto::StringStringEntryProto {
                key: Some(key.to_owned()),
                value: Some(value),
            };
            tensor.data_location = Some(proto::tensor_proto::DataLocation::External as i32);
            tensor.external_data = vec![
                entry("location", name.to_string_lossy().into_owned()),
                entry("offset", start.to_string()),
                entry("length", bytes.len().to_string()),
            ];
        }
        staged = Some(file);
    }
    let mut file = StagedFile::create(path)?;
    file.write_all(&model.encode_to_vec()).map_err(|e| Error::io("write it", e).at(path))?;
    file.sync()?;
    if let Some(mut data) = staged {
        data.sync()?;
        data.commit_over(existing)?;
    }
    file.commit_over(existing)
}

/// A message cannot be longer than 2 GiB; readers want some of it for themselves.
const MAX_MESSAGE: u64 = 1 << 30;
/// Smaller constants stay in the message.
const MIN_EXTERNAL: usize = 1 << 10;
/// Data begins at a multiple of this, so that it can be mapped.
const EXTERNAL_ALIGN: u64 = 1 << 12;

/// Data of fewer bytes is copied in memory if it is not aligned.
const MIN_ALIGNED: usize = 1 << 18;

/// Data that was copied to a temporary file.
#[derive(Debug, Default)]
struct Aligned {
    file: Option<File>,
    end: u64,
    maps: Vec<FileMap>,
    /// The copies, by the places of the originals.
    known: HashMap<(usize, usize), Bytes>,
}

impl Aligned {
    fn get(&mut self, data: &Bytes) -> Option<Bytes> {
        let place = (data.as_ptr().addr(), data.len());
        if let Some(known) = self.known.get(&place) {
            return Some(known.clone());
        }
        let bytes = self.append(data)?;
        self.known.insert(place, bytes.clone());
        Some(bytes)
    }

    fn append(&mut self, data: &[u8]) -> Option<Bytes> {
        /// Mappings start at page boundaries; this is a multiple of every page size in use.
        const PAGE: u64 = 1 << 16;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile().ok()?),
        };
        let start = self.end.next_multiple_of(PAGE);
        file.seek(SeekFrom::Start(start)).ok()?;
        file.write_all(data).ok()?;
        self.end = start + data.len() as u64;
        let map = FileMap::new(file, start, data.len()).ok()?;
        let bytes = map.bytes();
        self.maps.push(map);
        Some(bytes)
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
