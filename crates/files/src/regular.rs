//! Opening regular files only: no pipe that waits for a writer, no device that never ends.

use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::path::Path;

use crate::{Error, ErrorKind, Result};

/// Opens a regular file for reading. Follows links: the targets of links in a package are checked before.
///
/// Refuses pipes, sockets, devices and folders, and never waits for one, even if it takes the file's place during the
/// call.
///
/// # Errors
///
/// If there is no such file, if it is not a regular file (kind [`NotAFile`](ErrorKind::NotAFile)), or if the system
/// cannot open it.
pub fn open_regular(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let failed = |error| Error::io("open it", error).at(path);
    // Checked before opening, because opening a device may have an effect.
    check(fs::metadata(path).map_err(failed)?.file_type(), path)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // In case a pipe has taken the file's place meanwhile. No effect on regular files.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path).map_err(failed)?;
    check(file.metadata().map_err(failed)?.file_type(), path)?;
    Ok(file)
}

/// Opens a regular file, with any options, and refuses links, too: for the files of a folder that we alone write. What
/// is not a regular file is an error of the kind [`InvalidData`](io::ErrorKind::InvalidData).
///
/// # Errors
///
/// If the system cannot open it, or if it is a link, a folder, a pipe or a device.
pub fn open_without_links(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let check = |found: FileType| match found.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file")),
    };
    match path.symlink_metadata() {
        Ok(found) => check(found.file_type())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = options.open(path)?;
    check(file.metadata()?.file_type())?;
    Ok(file)
}

fn check(found: FileType, path: &Path) -> Result<()> {
    if cfg!(windows) && is_device_name(path) {
        return Err(not_a_file("a device").at(path));
    }
    if found.is_file() { Ok(()) } else { Err(not_a_file(describe(found)).at(path)) }
}

fn not_a_file(what: &str) -> Error {
    Error::new(ErrorKind::NotAFile, format!("not a regular file, but {what}"))
        .with_hint("copy what it holds into a plain file, and give that")
}

/// Refuses a destination that exists but is neither a file nor a folder.
///
/// # Errors
///
/// If a pipe, a device or a link to nothing has this name.
pub fn check_destination(path: &Path) -> Result<()> {
    let found = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            return Err(Error::invalid("a symbolic link that points to nothing is in the way")
                .with_hint("remove the link, or choose another name")
                .at(path));
        }
        Err(_) => return Ok(()),
    };
    if found.is_file() || found.is_dir() {
        return Ok(());
    }
    Err(Error::invalid(format!("{} of this name is in the way", describe(found)))
        .with_hint("choose another name")
        .at(path))
}

/// Names the type of a directory entry.
fn describe(found: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if found.is_fifo() {
            return "a named pipe";
        }
        if found.is_char_device() || found.is_block_device() {
            return "a device";
        }
        if found.is_socket() {
            return "a socket";
        }
    }
    if found.is_dir() { "a folder" } else { "something else" }
}

/// Whether Windows treats a name as a device, in any folder and with any extension: `NUL`, `com1.npy`.
pub fn is_device_name(path: impl AsRef<Path>) -> bool {
    let Some(name) = path.as_ref().file_name().and_then(|name| name.to_str()) else { return false };
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str()) {
        return true;
    }
    let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    numbered.is_some_and(|number| {
        let mut digits = number.chars();
        matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_windows() {
        for name in ["NUL", "nul.npy", "con", "a/COM1", "lpt9.tar.gz", "Aux .npy", "com²"] {
            assert!(is_device_name(name), "{name}");
        }
        for name in ["NULL", "com", "com10", "console.npy", "x.con", "lptx", ""] {
            assert!(!is_device_name(name), "{name}");
        }
    }

    #[test]
    fn folders_are_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let error = open_regular(folder.path()).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::NotAFile, Some(folder.path())));
        assert!(error.to_string().contains("a folder"), "{error}");
        assert_eq!(open_regular(folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_waited_for() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        symlink("/dev/zero", path("zero")).unwrap();
        symlink("pipe", path("link")).unwrap();
        fs::write(path("file"), "x").unwrap();
        symlink("file", path("good")).unwrap();
        for (name, what) in
            [("pipe", "a named pipe"), ("link", "a named pipe"), ("socket", "a socket"), ("zero", "a device")]
        {
            let error = open_regular(path(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotAFile);
            assert!(error.to_string().ends_with(&format!("not a regular file, but {what}")), "{error}");
            assert!(check_destination(&path(name)).unwrap_err().to_string().contains(what), "{name}");
        }
        assert!(open_regular(path("good")).is_ok());
        for name in ["file", "good", "none"] {
            assert!(check_destination(&path(name)).is_ok(), "{name}");
        }
        symlink("nowhere", path("dangling")).unwrap();
        assert!(check_destination(&path("dangling")).unwrap_err().to_string().contains("nothing"));
    }
}
