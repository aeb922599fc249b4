//! Groups of output files that appear together, each one complete.

use std::fs::File;
use std::io::{BufWriter, IntoInnerError, Read, Seek, Write};
use std::path::{Path, PathBuf};

use milwright_spec::{StagedFile, lfs_pointer, open_regular};

use crate::{Error, ErrorKind, FeatureType, Result, Tensor, image, npy};

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
    staged: Vec<(PathBuf, StagedFile)>,
}

impl Files {
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

    fn add(
        &mut self,
        path: &Path,
        write: impl FnOnce(&mut BufWriter<StagedFile>) -> std::io::Result<()>,
    ) -> Result<()> {
        if self.staged.iter().any(|(p, _)| p == path) {
            return Err(Error::invalid("two outputs would be written to this file").at(path));
        }
        let io = |e| Error::io("write", path, e);
        let mut out = BufWriter::new(StagedFile::create(path)?);
        write(&mut out).map_err(io)?;
        let mut file = out.into_inner().map_err(IntoInnerError::into_error).map_err(io)?;
        file.sync()?;
        self.staged.push((path.to_owned(), file));
        Ok(())
    }

    /// Renames every file to its final name.
    ///
    /// # Errors
    /// A file cannot be renamed. Files before it are then in place, later ones are not.
    pub fn commit(self) -> Result<()> {
        self.staged.into_iter().try_for_each(|(_, file)| Ok(file.commit()?))
    }
}

/// Opens a file that a user gave as an input. It must be a regular file, and not a pointer of Git LFS.
pub(crate) fn open_input(path: &Path) -> Result<File> {
    let mut file = open_regular(path).map_err(|e| {
        let is_no_file = e.kind() == milwright_spec::ErrorKind::NotAFile;
        let error = Error::from(e);
        let message = error.message().strip_prefix(&format!("{}: ", path.display())).map(str::to_owned);
        let error = match message {
            Some(message) => error.with_message(message).at(path),
            None => error,
        };
        if is_no_file { error.of_kind(ErrorKind::InvalidInput) } else { error }
    })?;
    let io = |e| Error::io("read", path, e);
    let mut start = Vec::new();
    (&mut file).take(1024).read_to_end(&mut start).map_err(io)?;
    if let Some(e) = lfs_pointer(&start) {
        return Err(Error::from(e).at(path));
    }
    file.rewind().map_err(io)?;
    Ok(file)
}

/// Serializes a path as text, and replaces what is not Unicode.
#[expect(clippy::ref_option, reason = "serde calls it like that")]
pub(crate) fn path_in_words<S: serde::Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.collect_str(&path.display()),
        None => serializer.serialize_none(),
    }
}

/// Serializes several paths as [`path_in_words`] does.
pub(crate) fn paths_in_words<S: serde::Serializer>(
    paths: &[PathBuf],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
