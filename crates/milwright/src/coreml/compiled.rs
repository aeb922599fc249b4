//! From a model to a folder that Core ML loads.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Model, Result};

/// A compiled model on disk.
pub(super) struct Compiled {
    path: PathBuf,
    /// Of models that were compiled for this session: what to remove with it.
    temporary: Option<PathBuf>,
}

impl Compiled {
    /// Has Core ML compile the model, unless it is compiled. A cache of compiled models belongs here.
    pub fn new(model: &Model) -> Result<Compiled> {
        let source = model.path();
        if source.extension().is_some_and(|extension| extension == "mlmodelc") {
            return Ok(Compiled { path: source.to_owned(), temporary: None });
        }
        if !source.exists() {
            // It came from memory. What we write compiled is what Core ML's compiler would write.
            let folder = tempfile::Builder::new()
                .prefix("milwright-")
                .tempdir()
                .map_err(|e| Error::io("make a temporary folder", &std::env::temp_dir(), e))?;
            let path = folder.path().join("model.mlmodelc");
            model.compile_to(&path)?;
            return Ok(Compiled { path, temporary: Some(folder.keep()) });
        }
        let path = milwright_apple::compile(source).map_err(|e| super::error(e).at(source))?;
        Ok(Compiled { temporary: Some(path.clone()), path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary
            && let Err(e) = fs::remove_dir_all(path)
        {
            tracing::warn!("a compiled model could not be removed: {}: {e}", path.display());
        }
    }
}
