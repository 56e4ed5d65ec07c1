//! Whether the files of a checkpoint are what they should be: by checksum in the cache, by form elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::Metadata;

use super::checksum::{Etag, hash_rest};
use super::layout::Layout;
use super::manage::{commits, files_of};
use super::progress::Progress;
use super::wanted::{ShardIndex, Wanted, Weights, printable};
use super::{BuiltIn, Checkpoint, HubError, ModelRef, Store};

/// Largest header that the safetensors format allows.
const MAX_HEADER: u64 = 100_000_000;

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCheck {
    /// Its name in the checkpoint; in the cache with `<commit>/` in front.
    pub file: String,
    /// Its size, 0 where it is missing.
    pub size: u64,
    /// The verdict.
    pub outcome: Outcome,
}

/// The verdict on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its checksum is the one that the Hub gave.
    Intact,
    /// There is no checksum to compare with; its form, and for safetensors its length, are right.
    WellFormed,
    /// Nothing is known about it.
    Unchecked {
        /// Why not.
        reason: &'static str,
    },
    /// It is not what it should be.
    Corrupt {
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint needs it, and it is not there.
    Missing,
}

impl Outcome {
    /// Whether nothing speaks against the file.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !matches!(self, Self::Corrupt { .. } | Self::Missing)
    }
}

/// Whether nothing speaks against any of the files.
#[must_use]
pub fn all_sound(checks: &[FileCheck]) -> bool {
    checks.iter().all(|check| check.outcome.is_sound())
}

impl Store {
    /// Reads every file of `model` and judges it. In the cache that is the given revision, or all that are
    /// there. Sends no request, changes nothing.
    ///
    /// # Errors
    /// [`HubError::NotInCache`], [`HubError::Cancelled`], or [`HubError::Io`] where reading fails. A damaged
    /// file is a result, not an error.
    pub fn verify(
        &self,
        model: &ModelRef,
        wanted: &Wanted,
        progress: &mut dyn Progress,
    ) -> Result<Vec<FileCheck>, HubError> {
        let (id, revision) = match model {
            ModelRef::Folder(folder) => match BuiltIn::at(folder) {
                Some(model) => return Ok(verify_built_in(&model.checkpoint(wanted)?)),
                None => return Ok(verify_folder(folder, wanted)),
            },
            ModelRef::Hub { id, revision } => (id, revision),
        };
        let layout = Layout::new(&self.config.cache, id);
        let commits = match revision {
            Some(revision) => layout.commit_of(revision).into_iter().collect(),
            None => commits(&layout)?,
        };
        if commits.is_empty() {
            return Err(self.not_in_cache(model));
        }
        let mut hashed = BTreeMap::new();
        let mut checks = Vec::new();
        for commit in commits {
            let folder = layout.snapshot(&commit);
            for name in files_of(&folder)? {
                let check = verify_cached(&layout, &folder, &name, &mut hashed, progress)?;
                checks.push(FileCheck { file: format!("{commit}/{name}"), ..check });
            }
            match wanted.inspect(&folder) {
                Ok(inventory) => {
                    for name in inventory.missing {
                        let file = format!("{commit}/{name}");
                        // A link that leads nowhere was reported already.
                        if !checks.iter().any(|check| check.file == file) {
                            checks.push(FileCheck { file, size: 0, outcome: Outcome::Missing });
                        }
                    }
                }
                Err(error) => checks.push(FileCheck {
                    file: format!("{commit}/"),
                    size: 0,
                    outcome: Outcome::Corrupt { reason: error.to_string() },
                }),
            }
        }
        Ok(checks)
    }
}

/// A file inside the program is as whole as the program.
fn verify_built_in(checkpoint: &Checkpoint) -> Vec<FileCheck> {
    let size =
        |file: &String| BuiltIn::content(&checkpoint.folder.join(file)).map_or(0, |content| content.len() as u64);
    let check = |file: &String| FileCheck { file: file.clone(), size: size(file), outcome: Outcome::Intact };
    checkpoint.files.iter().map(check).collect()
}

/// A file of a snapshot: the name of the blob behind it is its checksum.
fn verify_cached(
    layout: &Layout,
    folder: &Path,
    name: &str,
    hashed: &mut BTreeMap<String, Outcome>,
    progress: &mut dyn Progress,
) -> Result<FileCheck, HubError> {
    let pointer = folder.join(name);
    let check = |size, outcome| FileCheck { file: name.to_owned(), size, outcome };
    let Ok(real) = pointer.canonicalize() else { return Ok(check(0, Outcome::Missing)) };
    let size = real.metadata().map_err(HubError::io("look at", &real))?.len();
    let is_link = pointer.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let is_blob = layout.blobs().canonicalize().is_ok_and(|blobs| real.parent() == Some(&blobs));
    let etag = real.file_name().and_then(|blob| Etag::parse(blob.to_str()?));
    let outcome = match etag {
        _ if !real.is_file() => Outcome::Corrupt { reason: "it is no file".into() },
        _ if is_link && !is_blob => Outcome::Unchecked { reason: "it lies outside the cache" },
        Some(etag) if is_blob => {
            if !hashed.contains_key(etag.as_str()) {
                let outcome = verify_blob(&real, name, size, &etag, progress)?;
                hashed.insert(etag.as_str().to_owned(), outcome);
            }
            hashed[etag.as_str()].clone()
        }
        _ => verify_form(&pointer),
    };
    Ok(check(size, outcome))
}

fn verify_blob(
    path: &Path,
    name: &str,
    size: u64,
    etag: &Etag,
    progress: &mut dyn Progress,
) -> Result<Outcome, HubError> {
    let mut file = File::open(path).map_err(HubError::io("open", path))?;
    let mut hasher = etag.hasher(size);
    hash_rest(&mut file, path, name, size, &mut hasher, progress)?;
    Ok(match etag.check(name, hasher) {
        Ok(()) => Outcome::Intact,
        Err(error) => Outcome::Corrupt { reason: error.to_string() },
    })
}

/// A folder of the user's: nobody says what is in it, but a checkpoint has a form.
fn verify_folder(folder: &Path, wanted: &Wanted) -> Vec<FileCheck> {
    let inventory = match wanted.inspect(folder) {
        Ok(inventory) => inventory,
        Err(error) => {
            let outcome = Outcome::Corrupt { reason: error.to_string() };
            return vec![FileCheck { file: folder.display().to_string(), size: 0, outcome }];
        }
    };
    let mut checks: Vec<_> = inventory
        .present
        .into_iter()
        .map(|file| {
            let path = folder.join(&file);
            let is_index = wanted
                .weights
                .iter()
                .any(|weights| matches!(weights, Weights::Sharded { index, .. } if *index == file));
            let outcome = if is_index { verify_index(&path, folder) } else { verify_form(&path) };
            FileCheck { size: path.metadata().map_or(0, |found| found.len()), file, outcome }
        })
        .collect();
    checks.extend(inventory.missing.into_iter().map(|file| FileCheck { file, size: 0, outcome: Outcome::Missing }));
    checks
}

fn verify_form(path: &Path) -> Outcome {
    let result = match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => read_header(path).map(|_| ()),
        Some("json") => std::fs::read(path).map_err(|error| error.to_string()).and_then(|bytes| {
            serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map(|_| ()).map_err(|error| error.to_string())
        }),
        _ => return Outcome::Unchecked { reason: "no checksum is known and its form cannot be checked" },
    };
    match result {
        Ok(()) => Outcome::WellFormed,
        Err(reason) => Outcome::Corrupt { reason },
    }
}

/// Every tensor of the list must be in its shard, and nothing else.
fn verify_index(path: &Path, folder: &Path) -> Outcome {
    let index = match ShardIndex::read(path) {
        Ok(index) => index,
        Err(error) => return Outcome::Corrupt { reason: error.to_string() },
    };
    for shard in index.files() {
        // A shard that is missing, damaged or a pickle has its own verdict.
        let Ok(header) = read_header(&folder.join(&shard)) else { continue };
        let there: BTreeSet<String> = header.tensors().into_keys().collect();
        let listed = index.weight_map.iter().filter(|(_, file)| **file == shard).map(|(tensor, _)| tensor.clone());
        let listed: BTreeSet<String> = listed.collect();
        if let Some(tensor) = listed.symmetric_difference(&there).next() {
            let (has, lacks) = if listed.contains(tensor) { ("the list", &*shard) } else { (&*shard, "the list") };
            let reason = format!("tensor `{}` is in `{has}` and not in `{lacks}`", printable(tensor));
            return Outcome::Corrupt { reason };
        }
    }
    Outcome::WellFormed
}

/// Reads the header of a safetensors file, and compares what it says with the length of the file.
fn read_header(path: &Path) -> Result<Metadata, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).map_err(|_| format!("expected a header, found {length} bytes"))?;
    let header_length = u64::from_le_bytes(prefix);
    if header_length > MAX_HEADER || header_length > length - 8 {
        return Err(format!(
            "expected a header of at most {} bytes, found {header_length}",
            MAX_HEADER.min(length - 8)
        ));
    }
    let mut header = Vec::new();
    file.take(header_length).read_to_end(&mut header).map_err(|error| error.to_string())?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| format!("the header is not safetensors: {error}"))?;
    let expected = (8 + header_length).saturating_add(metadata.data_len() as u64);
    if expected != length {
        return Err(format!("expected {expected} bytes, found {length}"));
    }
    Ok(metadata)
}
