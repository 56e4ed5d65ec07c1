//! Git LFS pointers: what `git clone` leaves in place of a large file when Git LFS is not installed.

use std::path::Path;

use super::LoadError;

/// How every pointer begins.
///
/// Source: the Git LFS specification, docs/spec.md, "The Pointer".
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// A pointer has fewer bytes than this.
#[cfg(not(target_arch = "wasm32"))]
const LONGEST: u64 = 1024;

/// Refuses the content of a file if it is a pointer.
///
/// # Errors
/// [`LoadError::Lfs`].
pub(crate) fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.starts_with(POINTER) {
        return Err(LoadError::Lfs { path: path.to_owned(), bytes: bytes.len() });
    }
    Ok(())
}

/// Refuses the file at `path` if it is a pointer. A file that cannot be read passes.
///
/// # Errors
/// [`LoadError::Lfs`].
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn refuse_pointer_file(path: &Path) -> Result<(), LoadError> {
    let is_short = std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() < LONGEST);
    let content = if is_short { std::fs::read(path).unwrap_or_default() } else { vec![] };
    refuse_pointer(path, &content)
}
