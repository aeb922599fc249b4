//! The data of tensors that are in files of their own.
//!
//! A model names such a file relative to its own folder. Only plain files inside that folder are opened: no absolute
//! path, no `..`, no symbolic link on the way, so that a model from a stranger cannot read what is not part of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;

use super::proto::{StringStringEntryProto, TensorProto};
use crate::{Error, ErrorKind, Result, lfs_pointer};
use milwright_files::{FileMap, map_file};

/// The most files with data of one model.
pub const MAX_EXTERNAL_FILES: usize = 100_000;

/// The files with data that a model refers to.
#[derive(Debug)]
pub(super) struct External {
    /// The model's folder; `None` for a model in memory.
    folder: Option<PathBuf>,
    /// The files that were mapped, by the names in the model.
    files: Mutex<BTreeMap<String, Bytes>>,
    maps: Mutex<Vec<FileMap>>,
}

/// Where the data of a tensor is.
struct Place<'a> {
    location: &'a str,
    offset: u64,
    length: Option<u64>,
}

impl External {
    pub fn in_folder(folder: PathBuf) -> External {
        External { folder: Some(folder), files: Mutex::default(), maps: Mutex::default() }
    }

    pub fn none() -> External {
        External { folder: None, files: Mutex::default(), maps: Mutex::default() }
    }

    pub fn read(&self, tensor: &TensorProto, length: u64) -> Result<Bytes> {
        let place = place(&tensor.external_data)?;
        if let Some(stated) = place.length.filter(|&n| n != length) {
            return Err(Error::malformed(format!(
                "the data in `{}` has {stated} bytes, but the element type and the shape need {length}",
                place.location
            )));
        }
        let file = self.file(place.location)?;
        let end = place.offset.checked_add(length).filter(|&end| end <= file.len() as u64);
        let Some(end) = end else {
            return Err(Error::malformed(format!(
                "`{}` has {} bytes, but the data is said to be {length} bytes at {}",
                place.location,
                file.len(),
                place.offset
            ))
            .with_hint("check that the file was copied or downloaded completely"));
        };
        // Both fit in memory: they are within the mapped file.
        Ok(file.slice(place.offset as usize..end as usize))
    }

    pub fn files(&self) -> Vec<(String, Bytes)> {
        let files = self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        files.iter().map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
    }

    pub fn release_memory(&self) {
        let maps = self.maps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        maps.iter().for_each(FileMap::release);
    }

    fn file(&self, location: &str) -> Result<Bytes> {
        let mut files = self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(file) = files.get(location) {
            return Ok(file.clone());
        }
        let Some(folder) = &self.folder else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "the data of a tensor is in the file `{location}`, but the model is read from memory"
                ),
            )
            .with_hint("open the model from its file"));
        };
        if files.len() >= MAX_EXTERNAL_FILES {
            return Err(Error::limit(format!("more than {MAX_EXTERNAL_FILES} files with data")));
        }
        let path = inside(folder, location)?;
        let map = map_file(&path, u64::MAX).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::new(
                ErrorKind::NotFound,
                format!("the file `{location}` with the model's data is missing"),
            )
            .at(&path)
            .with_hint("copy it beside the model: a model with external data consists of several files"),
            _ => error,
        })?;
        let bytes = map.as_ref().map(FileMap::bytes).unwrap_or_default();
        if let Some(error) = lfs_pointer(&bytes) {
            return Err(error.at(&path));
        }
        self.maps.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(map);
        files.insert(location.to_owned(), bytes.clone());
        Ok(bytes)
    }
}

fn place(entries: &[StringStringEntryProto]) -> Result<Place<'_>> {
    let mut place = Place { location: "", offset: 0, length: None };
    let number = |key: &str, text: &str| {
        text.trim().parse::<u64>().map_err(|_| {
            Error::malformed(format!("the {key} of external data is `{}`, not a number", text.escape_debug()))
        })
    };
    for entry in entries {
        let value = entry.value();
        match entry.key() {
            "location" => place.location = value,
            "offset" => place.offset = number("offset", value)?,
            "length" => place.length = Some(number("length", value)?),
            // `checksum` and keys of other tools: nobody checks them.
            _ => {}
        }
    }
    if place.location.is_empty() {
        return Err(Error::malformed("the external data of a tensor has no location"));
    }
    Ok(place)
}

/// The path of a file inside a folder, checked part by part.
fn inside(folder: &Path, location: &str) -> Result<PathBuf> {
    let refuse = |why: &str| {
        Err(Error::new(ErrorKind::Malformed, format!("the location `{}` {why}", location.escape_debug()))
            .with_hint("only plain files inside the model's folder are read: move the data there"))
    };
    let relative = Path::new(location);
    // Windows takes `\` for a separator, other systems for a part of a name: no model for all systems has one.
    if location.contains(['\\', '\0']) {
        return refuse("has a character that no portable file name has");
    }
    let mut path = folder.to_owned();
    let mut names = 0;
    for component in relative.components() {
        match component {
            Component::CurDir => continue,
            Component::Normal(name) => path.push(name),
            _ => return refuse("leaves the model's folder"),
        }
        names += 1;
        if fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_symlink()) {
            return refuse("is, or leads through, a symbolic link");
        }
    }
    if names == 0 {
        return refuse("names no file");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(entries: &[(&str, &str)]) -> TensorProto {
        let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
            key: Some(key.into()),
            value: Some(value.into()),
        };
        TensorProto { external_data: entries.iter().map(entry).collect(), ..TensorProto::default() }
    }

    #[test]
    fn data_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/w.bin"), [0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let external = External::in_folder(folder.path().to_owned());
        let read = |entries: &[(&str, &str)], length| external.read(&tensor(entries), length);
        let at = [("location", "sub/w.bin"), ("offset", "4"), ("length", "4"), ("checksum", "?")];
        assert_eq!(read(&at, 4).unwrap(), [4, 5, 6, 7][..]);
        assert_eq!(read(&[("location", "./sub/w.bin")], 8).unwrap().len(), 8);
        assert_eq!(external.files().len(), 2);
        assert!(read(&at, 3).unwrap_err().to_string().contains("need 3"));
        for offset in ["1", "8", "18446744073709551615"] {
            let error = read(&[("location", "sub/w.bin"), ("offset", offset)], 8).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        }
        assert!(read(&[("location", "sub/w.bin"), ("offset", "-1")], 8).is_err());
        assert!(read(&[], 8).unwrap_err().to_string().contains("no location"));
        assert_eq!(read(&[("location", "other")], 8).unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// A pointer has more bytes than many a tensor: without a check, its text would be taken for numbers.
    #[test]
    fn pointers_are_no_data() {
        let folder = tempfile::tempdir().unwrap();
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8448\n";
        fs::write(folder.path().join("w.bin"), pointer).unwrap();
        let external = External::in_folder(folder.path().to_owned());
        for entries in [&[("location", "w.bin")][..], &[("location", "w.bin"), ("offset", "8")]] {
            let error = external.read(&tensor(entries), 16).unwrap_err();
            assert!(error.to_string().contains("a Git LFS pointer"), "{error}");
            assert!(error.path().is_some_and(|path| path.ends_with("w.bin")) && error.hint().is_some());
        }
    }

    #[test]
    fn only_inside_the_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("model");
        fs::create_dir(&folder).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        let external = External::in_folder(folder.clone());
        let absolute = outer.path().join("secret").display().to_string();
        for location in ["../secret", "a/../../secret", &absolute, "..", ".", "/", "a\\..\\secret", "a\0b"] {
            let error = external.read(&tensor(&[("location", location)]), 6).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Malformed), "{location}: {error}");
            assert!(error.hint().is_some());
        }
        assert_eq!(external.read(&tensor(&[("location", "")]), 6).unwrap_err().kind(), ErrorKind::Malformed);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
            std::os::unix::fs::symlink("..", folder.join("up")).unwrap();
            for location in ["link", "up/secret"] {
                let error = external.read(&tensor(&[("location", location)]), 6).unwrap_err();
                assert!(error.to_string().contains("symbolic link"), "{error}");
            }
        }
    }
}
