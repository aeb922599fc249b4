//! Compiles a model to a folder that Core ML loads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error;
use crate::{CompileOptions, CompiledModel, CompiledModels, Error, LoadOptions, Model, PlanOrigin, Result};

/// A compiled model on disk.
pub(super) enum Compiled {
    /// The model was opened in its compiled form.
    Given(PathBuf),
    /// Core ML compiled the model, now or for the cache.
    Made(CompiledModel),
}

impl Compiled {
    /// Loads a model with Core ML. If the model is neither compiled already nor in the cache, Core ML compiles it
    /// first. If a cached model fails to load, it is compiled again.
    pub fn load<T>(
        model: &Model,
        options: &LoadOptions,
        mut load: impl FnMut(&Path) -> Result<T>,
    ) -> Result<(T, Compiled)> {
        let source = model.path();
        if is_compiled(model) {
            return Ok((load(source)?, Compiled::Given(source.to_owned())));
        }
        let compile_options = compile_options(model, options);
        let models = CompiledModels::new(options.cache.clone());
        let compile = |to: &Path| {
            if !core_ml_compiles(model) {
                return model.compile_to(to);
            }
            let temporary = milwright_apple::compile(source).map_err(|e| error(e).at(source))?;
            let moved = move_folder(&temporary, to);
            // After a successful move there is nothing left to remove.
            let _ = fs::remove_dir_all(&temporary);
            moved.map_err(|e| Error::io("write", to, e))
        };
        let (loaded, compiled) = models.load(model, &compile_options, compile, load)?;
        Ok((loaded, Compiled::Made(compiled)))
    }

    pub fn path(&self) -> PathBuf {
        match self {
            Compiled::Given(path) => path.clone(),
            Compiled::Made(compiled) => compiled.path(),
        }
    }

    pub fn origin(&self) -> PlanOrigin {
        match self {
            Compiled::Given(_) => PlanOrigin::Compiled,
            Compiled::Made(compiled) => compiled.origin().clone(),
        }
    }
}

/// Whether the cache has a model, or the model is compiled already.
pub(super) fn is_cached(model: &Model, options: &LoadOptions) -> bool {
    let models = CompiledModels::new(options.cache.clone());
    is_compiled(model) || models.is_cached(model, &compile_options(model, options))
}

fn is_compiled(model: &Model) -> bool {
    model.path().extension().is_some_and(|extension| extension == "mlmodelc")
}

/// Whether Core ML compiles the model, which has to be a file. We compile models that came from memory ourselves, as
/// Core ML would.
fn core_ml_compiles(model: &Model) -> bool {
    model.path().exists() && milwright_apple::availability().is_ok()
}

fn compile_options(model: &Model, options: &LoadOptions) -> CompileOptions {
    let ours = concat!("milwright ", env!("CARGO_PKG_VERSION"));
    CompileOptions {
        compute_units: options.compute_units,
        // Off Apple's systems there is no system version, and the compiled model depends on none.
        system: milwright_apple::system().unwrap_or_default(),
        device: milwright_apple::machine(),
        compiler: if core_ml_compiles(model) { "coreml" } else { ours }.to_owned(),
        cancel: options.cancel.clone(),
        ..CompileOptions::default()
    }
}

/// Moves a folder, also to another file system.
fn move_folder(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => copy_folder(from, to),
        result => result,
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => fs::copy(entry.path(), target).map(drop)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_copied_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(from.join("weights")).unwrap();
        fs::write(from.join("weights/weight.bin"), [1, 2]).unwrap();
        copy_folder(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("weights/weight.bin")).unwrap(), [1, 2]);
        move_folder(&from, &folder.path().join("c")).unwrap();
        assert!(!from.exists() && folder.path().join("c/weights/weight.bin").is_file());
    }
}
