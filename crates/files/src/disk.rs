//! All calls that change the disk, in one place, so that tests can make each of them fail or end the process there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

#[cfg(feature = "faults")]
use faults::step;

/// Called before every change of the disk.
#[cfg(not(feature = "faults"))]
fn step() -> io::Result<()> {
    Ok(())
}

/// Whether a test makes changes fail. It never cuts the power, and writes thousands of times: nothing is flushed then.
fn is_rehearsal() -> bool {
    #[cfg(feature = "faults")]
    return faults::is_active();
    #[cfg(not(feature = "faults"))]
    false
}

/// Creates a folder whose parent exists.
pub fn create_folder(path: &Path) -> io::Result<()> {
    step()?;
    fs::create_dir(path)
}

/// A newly created file.
#[derive(Debug)]
pub struct NewFile(File);

impl NewFile {
    /// Creates a file, which must not exist yet.
    pub fn create(path: &Path) -> io::Result<Self> {
        step()?;
        File::create_new(path).map(Self)
    }

    /// Makes the content durable (`fsync`).
    pub fn sync(&self) -> io::Result<()> {
        step()?;
        if is_rehearsal() { Ok(()) } else { self.0.sync_all() }
    }

    /// Locks the file while this process has it open, which marks it as in use. Returns `false` if somebody else has
    /// locked it since it was created. Where the file system has no locks, the file counts as locked.
    pub fn lock(&self) -> bool {
        !matches!(self.0.try_lock(), Err(TryLockError::WouldBlock))
    }
}

impl Write for NewFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        step()?;
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

/// Writes a new file and makes it durable.
pub fn write_synced(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(data)?;
    file.sync()
}

/// Makes the names in a folder durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    step()?;
    // Windows cannot open folders as files, and orders their changes itself.
    if cfg!(unix) && !is_rehearsal() { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Renames a file or folder; replaces a file (not a folder) at the new name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    fs::rename(from, to)
}

/// Renames a file or folder to a name that is free. Returns `false`, and changes nothing, if it is not: also if another
/// process takes the name during the call. An empty folder does not count where this renames a folder.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    step()?;
    if from.is_dir() {
        // Some versions of Windows rename a folder to the name of a file.
        if to.symlink_metadata().is_ok_and(|there| !there.is_dir()) {
            return Ok(false);
        }
        // Other systems do not, and none renames a folder to the name of one that is not empty.
        return match fs::rename(from, to) {
            // Windows does not rename to the name of an empty folder, which may be removed.
            Err(_) if cfg!(windows) && fs::remove_dir(to).is_ok() => fs::rename(from, to).map(|()| true),
            Err(_) if to.symlink_metadata().is_ok() => Ok(false),
            result => result.map(|()| true),
        };
    }
    if let Some(renamed) = rename_without_replacing(from, to)? {
        return Ok(renamed);
    }
    // A second name for a file is never one that is taken. The first goes with the folder that it is in.
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // Where the file system has no such links, another process may take the name after this check.
        Err(_) if to.symlink_metadata().is_ok() => Ok(false),
        Err(_) => fs::rename(from, to).map(|()| true),
    }
}

/// [`rename_new`] in one call; `None` if the system or the file system has none.
fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<Option<bool>> {
    #[cfg(feature = "faults")]
    if !faults::can_exchange() {
        return Ok(None);
    }
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Some(true)),
            Err(Errno::EXIST) => Ok(Some(false)),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    {
        let _ = (from, to);
        Ok(None)
    }
}

/// Exchanges two names in one step. Returns `false` if the system or the file system cannot.
pub fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    step()?;
    #[cfg(feature = "faults")]
    if !faults::can_exchange() {
        return Ok(false);
    }
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    {
        let _ = (one, other);
        Ok(false)
    }
}

/// Makes the content of a file durable that another program wrote.
pub fn sync_file(path: &Path) -> io::Result<()> {
    step()?;
    // Windows flushes only what may be written.
    OpenOptions::new().read(true).write(cfg!(windows)).open(path)?.sync_all()
}

/// Removes a folder and its content.
pub fn remove_all(path: &Path) -> io::Result<()> {
    step()?;
    match fs::remove_dir_all(path) {
        // The first attempt failed on read-only files, such as those of a package copied from a read-only disk.
        Err(error) if cfg!(windows) && error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path);
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

/// Removes the read-only attribute from the files in a folder, where possible. Does not follow links.
fn make_writable(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(ty) if ty.is_dir() => make_writable(&entry.path()),
            Ok(ty) if ty.is_file() => {
                let Ok(mut permissions) = entry.metadata().map(|m| m.permissions()) else { continue };
                if permissions.readonly() {
                    #[expect(
                        clippy::permissions_set_readonly_false,
                        reason = "Windows has no other way, and calls it there only"
                    )]
                    permissions.set_readonly(false);
                    let _ = fs::set_permissions(entry.path(), permissions);
                }
            }
            _ => {}
        }
    }
}

/// Failures for tests, one schedule per thread.
#[cfg(feature = "faults")]
pub mod faults {
    use std::cell::Cell;
    use std::io;

    /// What happens at the n-th change of the disk.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Fault {
        /// It fails as on a full disk; later changes work.
        Full,
        /// The process ends: neither this change nor a later one happens.
        Killed,
    }

    /// Whether the system has a call for [`exchange`](super::exchange).
    pub const EXCHANGES: bool =
        cfg!(any(target_os = "linux", target_os = "android", target_vendor = "apple"));

    thread_local! {
        static PLAN: Cell<Option<(Fault, usize)>> = const { Cell::new(None) };
        static CAN_EXCHANGE: Cell<bool> = const { Cell::new(true) };
    }

    /// Runs `work` with a fault at change number `at`. Also returns whether it reached that change.
    pub fn with<T>(fault: Fault, at: usize, exchange: bool, work: impl FnOnce() -> T) -> (T, bool) {
        PLAN.set(Some((fault, at)));
        CAN_EXCHANGE.set(exchange);
        let result = work();
        let reached = PLAN.take().is_none_or(|(_, left)| left == 0);
        CAN_EXCHANGE.set(true);
        (result, reached)
    }

    pub(super) fn is_active() -> bool {
        PLAN.get().is_some()
    }

    pub(super) fn can_exchange() -> bool {
        EXCHANGES && CAN_EXCHANGE.get()
    }

    pub(super) fn step() -> io::Result<()> {
        match PLAN.get() {
            None => Ok(()),
            Some((Fault::Full, 0)) => {
                PLAN.set(None);
                Err(io::ErrorKind::StorageFull.into())
            }
            Some((Fault::Killed, 0)) => Err(io::Error::other("killed")),
            Some((fault, left)) => {
                PLAN.set(Some((fault, left - 1)));
                Ok(())
            }
        }
    }
}
