//! Memory that two processes share.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::MmapRaw;
use rustix::process::{Resource, getrlimit};

use crate::limits::{ALIGN, MAX_MEMORY};

/// An anonymous file, mapped into memory. It only grows. The other process may write to it at any time, so there is
/// never a reference into it: bytes are copied in and out.
pub(crate) struct Memory {
    file: File,
    map: Option<MmapRaw>,
}

/// The memory grows by multiples of this.
const STEP: u64 = 64 << 10;

impl Memory {
    /// Creates empty memory.
    pub fn new() -> io::Result<Memory> {
        Ok(Memory { file: anonymous_file()?, map: None })
    }

    /// The memory that the other process created and shares through `fd`.
    pub fn from_fd(fd: OwnedFd) -> Memory {
        Memory { file: File::from(fd), map: None }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Makes room for `len` bytes, which must not exceed [`MAX_MEMORY`].
    pub fn reserve(&mut self, len: u64) -> io::Result<()> {
        if len <= self.mapped() {
            return Ok(());
        }
        let len = len.min(MAX_MEMORY).next_multiple_of(STEP);
        if self.file.metadata()?.len() < len {
            // Growing a file beyond this limit is not only an error: the system also sends a signal, which ends the
            // process.
            if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < len) {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            allocate(&self.file, len)?;
        }
        self.remap()
    }

    /// Copies `bytes` to the offset `at`, where [`reserve`](Memory::reserve) has made room.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let Some(map) = self.map.as_ref().filter(|_| !bytes.is_empty()) else {
            assert!(bytes.is_empty(), "room was reserved");
            return;
        };
        let at = usize::try_from(at).expect("it is mapped");
        assert!(at.checked_add(bytes.len()).is_some_and(|end| end <= map.len()), "room was reserved");
        // SAFETY: `bytes` is valid for reads. The target is `map` from `at` on; the assertion above keeps its end
        // within the mapping, which is writable (`map_raw` maps so) and lives as long as `map` does. The two do not
        // overlap, because no reference to mapped memory ever exists. If the other process writes at the same time,
        // against the protocol, the bytes are undetermined but still valid `u8`s. The file does not shrink under the
        // map: on Linux it is sealed, elsewhere it has no name, and the worker is this library, which never shrinks it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), map.as_mut_ptr().add(at), bytes.len()) }
    }

    /// Copies `len` bytes out into a vector, whose memory is reused. Returns `None` if the shared memory has fewer
    /// bytes.
    pub fn read(&mut self, at: u64, len: u64, mut bytes: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        bytes.clear();
        let Some(end) = at.checked_add(len).filter(|&end| end <= MAX_MEMORY) else { return Ok(None) };
        if len == 0 {
            return Ok(Some(bytes));
        }
        if end > self.mapped() {
            // The other process has grown the file, or claims so.
            if self.file.metadata()?.len() < end {
                return Ok(None);
            }
            self.remap()?;
        }
        let (Some(map), Ok(at), Ok(len)) = (&self.map, usize::try_from(at), usize::try_from(len)) else {
            return Ok(None);
        };
        if at.checked_add(len).is_none_or(|end| end > map.len()) {
            return Ok(None);
        }
        bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the source is `map` from `at` on; the check above keeps its end within the mapping. The target is the
        // vector's own memory, which has room for `len` bytes. All of them are written before `set_len`, and any byte
        // is a valid `u8`. For what the other process may do meanwhile, see `write`.
        unsafe {
            std::ptr::copy_nonoverlapping(map.as_ptr().add(at), bytes.as_mut_ptr(), len);
            bytes.set_len(len);
        }
        Ok(Some(bytes))
    }

    fn mapped(&self) -> u64 {
        self.map.as_ref().map_or(0, |map| map.len() as u64)
    }

    fn remap(&mut self) -> io::Result<()> {
        self.map = None;
        self.map = Some(MmapRaw::map_raw(&self.file)?);
        Ok(())
    }
}

/// Computes the offset of each blob and the end of the last one. Returns `None` beyond [`MAX_MEMORY`].
pub(crate) fn layout(lens: impl IntoIterator<Item = u64>) -> Option<(Vec<(u64, u64)>, u64)> {
    let mut end = 0u64;
    let mut places = Vec::new();
    for len in lens {
        let at = end.checked_next_multiple_of(ALIGN)?;
        end = at.checked_add(len).filter(|&end| end <= MAX_MEMORY)?;
        places.push((at, len));
    }
    Some((places, end))
}

/// Creates an anonymous file, sealed so that nobody can shrink it: access to memory beyond a file's end would end this
/// process, too.
#[cfg(target_os = "linux")]
fn anonymous_file() -> io::Result<File> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let fd = memfd_create("milwright-worker", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(File::from(fd))
}

#[cfg(not(target_os = "linux"))]
fn anonymous_file() -> io::Result<File> {
    tempfile::tempfile()
}

/// Makes the file `len` bytes long and allocates all of them now: a page that cannot be allocated later would end the
/// process.
#[cfg(target_os = "linux")]
fn allocate(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    // Any signal interrupts it, such as a profiler's.
    Ok(rustix::io::retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, len))?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, len: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let zeros = [0; STEP as usize];
    let mut at = file.metadata()?.len();
    while at < len {
        let part = usize::try_from(len - at).map_or(zeros.len(), |rest| rest.min(zeros.len()));
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_maps_of_the_same_memory() {
        let mut ours = Memory::new().unwrap();
        let mut theirs = Memory::from_fd(ours.fd().try_clone_to_owned().unwrap());
        let mut buffer = vec![9; 10];
        for len in [0, 1, 1000, 64 << 10, (64 << 10) + 1, 1 << 20] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            ours.reserve(64 + len as u64).unwrap();
            ours.write(64, &bytes);
            assert_eq!(
                theirs.read(64, len as u64, std::mem::take(&mut buffer)).unwrap(),
                Some(bytes),
                "{len}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_not_read() {
        let mut memory = Memory::new().unwrap();
        assert_eq!(memory.read(0, 1, Vec::new()).unwrap(), None);
        memory.reserve(10).unwrap();
        assert_eq!(memory.read(0, STEP, Vec::new()).unwrap(), Some(vec![0; STEP as usize]));
        for (at, len) in [(0, STEP + 1), (STEP, 1), (u64::MAX, 1), (1, u64::MAX), (0, MAX_MEMORY + 1)] {
            assert_eq!(memory.read(at, len, Vec::new()).unwrap(), None, "{at} {len}");
        }
        assert_eq!(memory.read(u64::MAX, 0, Vec::new()).unwrap(), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nobody_shrinks_it() {
        let mut memory = Memory::new().unwrap();
        memory.reserve(1 << 20).unwrap();
        let theirs = File::from(memory.fd().try_clone_to_owned().unwrap());
        theirs.set_len(0).unwrap_err();
        assert_eq!(memory.read(0, 1, Vec::new()).unwrap(), Some(vec![0]));
    }

    #[test]
    fn places_are_aligned_and_bounded() {
        let (places, end) = layout([1, 0, 64, 65]).unwrap();
        assert_eq!(places, [(0, 1), (64, 0), (64, 64), (128, 65)]);
        assert_eq!(end, 193);
        assert!(layout([u64::MAX]).is_none());
        assert!(layout([MAX_MEMORY, 1]).is_none());
    }
}
