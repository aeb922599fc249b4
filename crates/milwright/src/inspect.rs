//! Describes model files, also those that cannot be run.

use std::path::Path;
use std::sync::Arc;

use milwright_formats::onnx::OnnxFile;
use milwright_formats::{Format, Package};

use crate::kinds::pipeline;
use crate::storage::Storage;
use crate::{ImportOptions, Model, ModelInfo, Result};

impl ModelInfo {
    /// Describes a model file of any type. If weights are missing, or are still pointers of Git LFS, or if an ONNX model
    /// has nodes that no program can compute, the description has a warning.
    ///
    /// # Errors
    /// The file cannot be read or is neither a Core ML model nor an ONNX model.
    pub fn open(path: impl AsRef<Path>) -> Result<ModelInfo> {
        let path = path.as_ref();
        match Format::of(path) {
            Format::CoreMl => ModelInfo::of_core_ml(path),
            Format::Onnx => ModelInfo::of_onnx(path),
        }
    }

    fn of_core_ml(path: &Path) -> Result<ModelInfo> {
        let package = Package::open_without_weights(path)?;
        let mut info = ModelInfo::of_package(&package).map_err(|e| e.at(path))?;
        let unreadable = package.unreadable_weights().values();
        info.warnings.extend(unreadable.map(|error| {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("the weights cannot be read, and the model cannot be run: {error}{hint}")
        }));
        let unread = package.unread_layers();
        info.runnable &= unread.is_empty();
        info.warnings.extend(
            unread.iter().map(|layer| format!("not understood, so that the model cannot be run: {layer}")),
        );
        Ok(info)
    }

    /// Describes an ONNX model: as the program that it becomes or, if it cannot become one, as its file declares it.
    fn of_onnx(path: &Path) -> Result<ModelInfo> {
        let file = Arc::new(OnnxFile::open(path)?);
        let error = match Model::from_onnx(path, Arc::clone(&file), &ImportOptions::new().0) {
            Ok(model) => {
                let mut info = model.info().clone();
                info.warnings.extend_from_slice(model.import_notes());
                return Ok(info);
            }
            Err(error) => error,
        };
        let outline = milwright_convert::onnx::outline(&file);
        let mut info = ModelInfo::new(&outline.model);
        // How new a system must be follows from the ops that the nodes become.
        (info.runnable, info.needs) = (false, None);
        info.storage = Storage::of_outline(&outline.weights);
        info.functions.iter_mut().for_each(|f| f.ops.clone_from(&outline.ops));
        let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        info.warnings.push(format!("the model cannot be run: {error}{hint}"));
        Ok(info)
    }

    fn of_package(package: &Package) -> Result<ModelInfo> {
        let model = package.model();
        let info = ModelInfo::new(model);
        if let Some(pipeline) = pipeline(model) {
            let parts = pipeline.models.iter().enumerate();
            let parts = parts.map(|(i, m)| ModelInfo::of_package(&package.part(i, m)));
            return Ok(info.with_parts(parts.collect::<Result<_>>()?));
        }
        match milwright_convert::ml_program::read(package) {
            Ok(program) => Ok(info.with_program(&program)),
            // A compiled model has its ops only in the program text, which cannot be read completely without the
            // weights.
            Err(_) if !package.unreadable_weights().is_empty() => Ok(info),
            Err(e) if package.program_text().is_some() => Err(e.into()),
            // The converted program of a network knows more shapes than the network declares.
            Err(_) => Ok(match milwright_convert::neural_network::read(model) {
                Ok(program) => info.with_computed(&program),
                Err(_) => info,
            }),
        }
    }
}
