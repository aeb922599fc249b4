//! Where a model came from.

use milwright_formats::proto as pb;
use milwright_formats::{Container, Package};
use milwright_mil::{Program, text};
use prost::Message as _;

use crate::onnx::Onnx;

/// The origin of a model: what is left of it beside the content that runs.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A Core ML file.
    CoreMl(Box<Package>),
    /// An ONNX file, and what a Core ML file would say of the model.
    Onnx(Box<Onnx>, Box<pb::Model>),
    /// A program in memory, and what a Core ML file would say of the model.
    Program(Box<pb::Model>),
}

impl Origin {
    /// What a Core ML file says of the model, or would say. A program is in it only if the file has it there.
    pub fn specification(&self) -> &pb::Model {
        match self {
            Origin::CoreMl(package) => package.model(),
            Origin::Onnx(_, model) | Origin::Program(model) => model,
        }
    }

    /// The files of a Core ML model.
    pub fn package(&self) -> Option<&Package> {
        match self {
            Origin::CoreMl(package) => Some(package),
            Origin::Onnx(..) | Origin::Program(_) => None,
        }
    }

    /// The format that the model was imported from; `None` for a Core ML model and a program in memory.
    pub fn imported_from(&self) -> Option<&'static str> {
        match self {
            Origin::Onnx(..) => Some("onnx"),
            Origin::CoreMl(_) | Origin::Program(_) => None,
        }
    }

    /// Whether it is a compiled Core ML model. The models of a compiled pipeline are outside its own message and files.
    pub fn is_compiled(&self) -> bool {
        self.package().is_some_and(|package| package.container() == Container::Mlmodelc)
    }

    /// What the import had to assume or to leave out, in sentences.
    pub fn notes(&self) -> &[String] {
        match self {
            Origin::Onnx(onnx, _) => &onnx.notes,
            Origin::CoreMl(_) | Origin::Program(_) => &[],
        }
    }

    /// Bytes on disk of the model's structure, without [those outside](Origin::size_outside).
    pub fn size(&self) -> u64 {
        match self {
            Origin::Onnx(onnx, _) => onnx.size(),
            Origin::CoreMl(_) | Origin::Program(_) => self.specification().encoded_len() as u64,
        }
    }

    /// Bytes of weight files and of programs that are texts.
    pub fn size_outside(&self) -> u64 {
        let Some(package) = self.package() else { return 0 };
        let weights = package.weight_files().values().flat_map(|f| f.blobs()).flatten();
        let text = package.program_text().map_or(0, str::len) as u64;
        text + weights.map(|(_, b)| b.data.len() as u64).sum::<u64>()
    }

    /// Hashes everything that affects what the model computes.
    pub fn hash(&self, program: Option<&Program>, hasher: &mut blake3::Hasher) {
        hasher.update(&self.specification().encode_to_vec());
        match self {
            Origin::CoreMl(package) => {
                hasher.update(package.program_text().unwrap_or_default().as_bytes());
                for (name, file) in package.weight_files() {
                    hasher.update(name.as_bytes());
                    for (offset, blob) in file.blobs().flatten() {
                        hasher.update(&offset.to_le_bytes());
                        hasher.update(&blob.dtype.code().to_le_bytes());
                        hasher.update(&blob.data);
                    }
                }
            }
            Origin::Onnx(onnx, _) => onnx.hash(hasher),
            Origin::Program(_) => {
                hasher.update(program.map(text::print).unwrap_or_default().as_bytes());
            }
        }
    }
}
