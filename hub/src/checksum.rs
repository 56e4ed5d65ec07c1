//! The Hub names a file's content by its checksum: sha256 for large files, git's blob sha1 for small ones.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::HubError;
use super::progress::{Event, Progress};

/// A checksum that names a blob: 40 or 64 lower-case hexadecimal digits, so also a safe file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Etag(String);

impl Etag {
    /// Reads `text`, with or without the quotes and the `W/` that HTTP puts around it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"').to_ascii_lowercase();
        let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        (is_hex && matches!(text.len(), 40 | 64)).then_some(Self(text))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// A hasher of the right kind for a file of `size` bytes.
    pub(super) fn hasher(&self, size: u64) -> Hasher {
        if self.0.len() == 64 {
            Hasher::Sha256(Sha256::new())
        } else {
            Hasher::GitSha1(Sha1::new_with_prefix(format!("blob {size}\0")))
        }
    }

    /// Compares with what `hasher` saw of `file`.
    pub(super) fn check(&self, file: &str, hasher: Hasher) -> Result<(), HubError> {
        let (algorithm, found) = match hasher {
            Hasher::Sha256(state) => ("sha256", hex(&state.finalize())),
            Hasher::GitSha1(state) => ("git sha1", hex(&state.finalize())),
        };
        if found == self.0 {
            return Ok(());
        }
        Err(HubError::Checksum { file: file.to_owned(), algorithm, expected: self.0.clone(), found })
    }
}

/// A checksum in the making.
#[derive(Clone)]
pub(super) enum Hasher {
    Sha256(Sha256),
    GitSha1(Sha1),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::GitSha1(state) => state.update(bytes),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads `open` (found at `path`, called `name`) to its end into `hasher`; returns the bytes read.
pub(super) fn hash_rest(
    open: &mut File,
    path: &Path,
    name: &str,
    size: u64,
    hasher: &mut Hasher,
    progress: &mut dyn Progress,
) -> Result<u64, HubError> {
    let mut buffer = vec![0; 1 << 18];
    let mut done = 0;
    loop {
        if progress.cancelled() {
            return Err(HubError::Cancelled);
        }
        match open.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                done += n as u64;
                progress.report(Event::Hashed { file: name, done, size });
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(HubError::io("read", path)(error)),
        }
    }
}
