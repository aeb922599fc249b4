//! Groups of output files that appear together, each one complete.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use milwright_formats::StagedFile;

use crate::paths::stage;
use crate::{Error, Existing, FeatureType, Result, Tensor, image, npy};

/// A group of staged writes, which are renamed together. After an error, or if it is dropped before
/// [`commit`](Files::commit), older files of these names are unchanged.
///
/// ```
/// use milwright::{Files, Tensor, npy};
///
/// let folder = tempfile::tempdir()?;
/// let mut files = Files::default();
/// files.npy(folder.path().join("a.npy"), &Tensor::scalar(1f32))?;
/// files.npy(folder.path().join("b.npy"), &Tensor::scalar(2f32))?;
/// files.commit()?;
/// assert_eq!(npy::read(folder.path().join("b.npy"))?, Tensor::scalar(2f32));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Files {
    existing: Existing,
    staged: IndexMap<PathBuf, StagedFile>,
}

impl Files {
    /// An empty group. `existing` says what happens to files that have these names already.
    pub fn new(existing: Existing) -> Files {
        Files { existing, staged: IndexMap::new() }
    }

    /// Stages a tensor as a `.npy` file: see [`npy::write`].
    ///
    /// # Errors
    /// The file cannot be written, or the group already has a file of this name.
    pub fn npy(&mut self, path: impl AsRef<Path>, tensor: &Tensor) -> Result<()> {
        self.add(path.as_ref(), |out| npy::write_to(out, tensor))
    }

    /// Stages an image output as a PNG file: see [`image::write_png`].
    ///
    /// # Errors
    /// As for [`npy`](Files::npy), or the tensor is not an image.
    pub fn png(&mut self, path: impl AsRef<Path>, tensor: &Tensor, ty: &FeatureType) -> Result<()> {
        let path = path.as_ref();
        let encoded = image::encode_png(tensor, ty).map_err(|e| e.at(path))?;
        self.add(path, |out| out.write_all(&encoded))
    }

    /// Stages a file of text.
    ///
    /// # Errors
    /// As for [`npy`](Files::npy).
    pub fn text(&mut self, path: impl AsRef<Path>, text: &str) -> Result<()> {
        self.add(path.as_ref(), |out| out.write_all(text.as_bytes()))
    }

    fn add(
        &mut self,
        path: &Path,
        write: impl FnOnce(&mut BufWriter<StagedFile>) -> std::io::Result<()>,
    ) -> Result<()> {
        if self.staged.contains_key(path) {
            return Err(Error::invalid("two outputs would be written to this file").at(path));
        }
        let file = stage(path, write)?;
        self.staged.insert(path.to_owned(), file);
        Ok(())
    }

    /// Renames every file to its final name.
    ///
    /// # Errors
    /// A file cannot be renamed, or there is one that should stay. Files before it are then in place, later ones are not.
    pub fn commit(self) -> Result<()> {
        self.staged.into_iter().try_for_each(|(_, file)| Ok(file.commit_over(self.existing)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_should_stay_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let write = |existing, value: f32| {
            let mut files = Files::new(existing);
            files.npy(&path, &Tensor::scalar(value))?;
            files.commit()
        };
        write(Existing::Keep, 1.0).unwrap();
        let error = write(Existing::Keep, 2.0).unwrap_err();
        assert_eq!((error.kind(), error.path()), (crate::ErrorKind::Exists, Some(&*path)));
        assert_eq!(npy::read(&path).unwrap(), Tensor::scalar(1f32));
        write(Existing::Replace, 3.0).unwrap();
        assert_eq!(npy::read(&path).unwrap(), Tensor::scalar(3f32));
    }

    #[test]
    fn nothing_is_replaced_before_everything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        npy::write(path("a.npy"), &Tensor::scalar(1f32)).unwrap();
        std::fs::create_dir(path("b.npy")).unwrap();
        let mut files = Files::default();
        files.npy(path("a.npy"), &Tensor::scalar(2f32)).unwrap();
        files.npy(path("a.npy"), &Tensor::scalar(3f32)).unwrap_err();
        files.npy(path("b.npy"), &Tensor::scalar(4f32)).unwrap_err();
        drop(files);
        assert_eq!(npy::read(path("a.npy")).unwrap(), Tensor::scalar(1f32));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }
}
