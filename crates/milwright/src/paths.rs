//! Files that users name: opened as inputs, staged as outputs, and told in words.

use std::fs::File;
use std::io::{BufWriter, IntoInnerError, Read, Seek};
use std::path::{Path, PathBuf};

use milwright_formats::{StagedFile, lfs_pointer, open_regular};

use crate::{Error, ErrorKind, Result};

/// Opens a file that a user gave as an input. It must be a regular file, and not a pointer of Git LFS.
pub(crate) fn open_input(path: &Path) -> Result<File> {
    let mut file = open_regular(path).map_err(|e| {
        let is_no_file = e.kind() == milwright_formats::ErrorKind::NotAFile;
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

/// Writes a file under a temporary name. [`StagedFile::commit`] renames it to its own.
pub(crate) fn stage(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<StagedFile>) -> std::io::Result<()>,
) -> Result<StagedFile> {
    let io = |e| Error::io("write", path, e);
    let mut out = BufWriter::new(StagedFile::create(path)?);
    write(&mut out).map_err(io)?;
    let mut file = out.into_inner().map_err(IntoInnerError::into_error).map_err(io)?;
    file.sync()?;
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
