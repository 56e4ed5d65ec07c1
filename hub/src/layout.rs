//! The folders of the Hub cache, as `huggingface_hub` lays them out:
//! `models--org--name/{blobs/<etag>, snapshots/<commit>/<file>, refs/<revision>}` and `.locks/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{HubError, HubId};

/// Where one repository lies in the cache.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// `models--org--name`
    pub(super) root: PathBuf,
    /// `.locks/models--org--name`
    pub(super) locks: PathBuf,
}

impl Layout {
    pub(super) fn new(cache: &Path, id: &HubId) -> Self {
        let name = format!("models--{}", id.as_str().replace('/', "--"));
        Self { root: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.snapshots().join(commit)
    }

    pub(super) fn refs(&self) -> PathBuf {
        self.root.join("refs")
    }

    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// The commit that `revision` was when it was fetched last.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) && self.snapshot(revision).is_dir() {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.refs().join(revision)).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Notes that `revision` is `commit`.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.refs().join(revision);
        create_parent(&path)?;
        // Beside `refs`, so that nobody takes the half-written file for a branch.
        let temporary = tempfile::Builder::new().prefix(".ref-").make_in(&self.root, |path| fs::File::create_new(path));
        let temporary = temporary.map_err(HubError::io("write", &path))?;
        fs::write(temporary.path(), commit).map_err(HubError::write(temporary.path(), 40))?;
        temporary.persist(&path).map(|_| ()).map_err(|failed| HubError::io("write", &path)(failed.error))
    }

    /// Makes `snapshots/<commit>/<file>` point to `blobs/<etag>`.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let snapshot = self.snapshot(commit);
        let pointer = snapshot.join(file);
        create_parent(&pointer)?;
        // Made beside and put in place: another process that reads never finds it missing. `file` has no folders, so the
        // way up is always the same.
        let (relative, blob) = (Path::new("../../blobs").join(etag), self.blobs().join(etag));
        tempfile::Builder::new()
            .prefix(".tonoscope-")
            .make_in(&snapshot, |path| make_link(&relative, &blob, path))
            .and_then(|made| made.into_temp_path().persist(&pointer).map_err(|failed| failed.error))
            .map_err(HubError::io("link", &pointer))
    }
}

#[cfg(unix)]
fn make_link(relative: &Path, _blob: &Path, pointer: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(relative, pointer)
}

/// Windows lets only some users make symbolic links.
#[cfg(not(unix))]
fn make_link(_relative: &Path, blob: &Path, pointer: &Path) -> std::io::Result<()> {
    fs::hard_link(blob, pointer).or_else(|_| fs::copy(blob, pointer).map(|_| ()))
}

/// A whole git commit, as the Hub writes it.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Makes the folder that `path` lies in.
pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(|source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                HubError::DiskFull { path: path.to_owned(), missing: 0 }
            }
            _ => HubError::io("create", parent)(source),
        }),
        None => Ok(()),
    }
}

/// The lock of one blob.
#[derive(Debug)]
pub(super) enum Lock {
    /// Held until dropped; the system frees it if the process dies.
    Held(#[expect(dead_code, reason = "kept open: closing the file frees the lock")] File),
    /// The file system knows no locks, as some clusters' do not.
    Unknown,
    /// Another process has it.
    Taken,
}

impl Lock {
    /// Takes the lock at `path` if it is free.
    pub(super) fn try_take(path: &Path) -> Result<Self, HubError> {
        create_parent(path)?;
        let file = File::options().create(true).append(true).open(path).map_err(HubError::io("open", path))?;
        Ok(match file.try_lock() {
            Ok(()) => Self::Held(file),
            Err(fs::TryLockError::WouldBlock) => Self::Taken,
            Err(fs::TryLockError::Error(_)) => Self::Unknown,
        })
    }
}
