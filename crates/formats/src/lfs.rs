//! Git LFS pointers: small files that a clone has in place of large ones if Git LFS did not fetch them.

use crate::Error;

const START: &[u8] = b"version https://git-lfs";
/// The longest pointer: Git LFS itself reads no more.
const MAX_BYTES: usize = 1024;

/// Returns an error if a file's content is a Git LFS pointer. The first kilobyte is enough.
pub fn lfs_pointer(content: &[u8]) -> Option<Error> {
    if !content.starts_with(START) {
        return None;
    }
    let text = String::from_utf8_lossy(&content[..content.len().min(MAX_BYTES)]);
    let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse::<u64>().ok());
    let size = size.map(|size| format!(" ({size} bytes)")).unwrap_or_default();
    Some(
        Error::malformed(format!("a Git LFS pointer, not the file itself{size}"))
            .with_hint("fetch the file: `git lfs pull` in the repository that it lies in"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8448\n";
        let error = lfs_pointer(pointer).unwrap();
        assert_eq!(error.to_string(), "a Git LFS pointer, not the file itself (8448 bytes)");
        assert!(lfs_pointer(b"version https://git-lfs.github.com/spec/v1\nsize x").is_some());
        assert!(lfs_pointer(b"version 1").is_none());
    }
}
