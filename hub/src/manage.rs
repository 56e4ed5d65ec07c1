//! What is in the cache, and taking it out again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::layout::{Layout, Lock, is_commit};
use super::wanted::{Inventory, Wanted, model_type};
use super::{HubError, HubId, ModelRef, Store};

/// A repository in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// `org/name`
    pub id: HubId,
    /// Its folder in the cache.
    pub folder: PathBuf,
    /// Bytes on disk, files shared by snapshots counted once.
    pub bytes: u64,
    /// Of these, bytes of unfinished downloads.
    pub partial: u64,
    /// The revisions that are there, in order of their commits.
    pub snapshots: Vec<Snapshot>,
}

/// One revision of a [`CachedModel`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit.
    pub commit: String,
    /// Branches and tags that were this commit when they were fetched last.
    pub revisions: Vec<String>,
    /// Its folder in the cache.
    pub folder: PathBuf,
    /// Bytes of its files, shared ones included.
    pub bytes: u64,
    /// `model_type` of its `config.json`: what it is.
    pub model_type: Option<String>,
    /// What it has and lacks; `None` where its list of shards is unusable.
    pub inventory: Option<Inventory>,
}

impl Snapshot {
    /// Whether it is a checkpoint that can be loaded, by its names.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.inventory.as_ref().is_some_and(Inventory::is_complete)
    }
}

/// What [`Store::remove`] took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Files, links not counted.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
}

impl Store {
    /// All models in the cache, of whatever kind, in order of their names. No cache is an empty one.
    ///
    /// # Errors
    /// [`HubError::Io`] where the cache cannot be read.
    pub fn list(&self, wanted: &Wanted) -> Result<Vec<CachedModel>, HubError> {
        let cache = &self.config.cache;
        if !cache.exists() {
            return Ok(Vec::new());
        }
        let mut models = Vec::new();
        for name in names_in(cache)? {
            let id = name.strip_prefix("models--").and_then(|rest| rest.split_once("--"));
            let Some(Ok(id)) = id.map(|(org, name)| HubId::parse(&format!("{org}/{name}"))) else { continue };
            let layout = Layout::new(cache, &id);
            let mut total = Tally::default();
            total.add_tree(&layout.root)?;
            models.push(CachedModel {
                snapshots: snapshots(&layout, wanted)?,
                folder: layout.root,
                bytes: total.bytes,
                partial: total.partial,
                id,
            });
        }
        models.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(models)
    }

    /// Takes a model out of the cache: all of it, or with a revision that snapshot and the files that no
    /// other needs. Links are removed, never followed.
    ///
    /// # Errors
    /// [`HubError::NotInCache`]; [`HubError::Refused`] for whatever is not inside the cache;
    /// [`HubError::InUse`] while another process downloads it.
    pub fn remove(&self, model: &ModelRef) -> Result<Removed, HubError> {
        let (id, revision) = match model {
            ModelRef::Folder(folder) => {
                let reason = "only models in the cache are removed";
                return Err(HubError::Refused { path: folder.clone(), reason });
            }
            ModelRef::Hub { id, revision } => (id, revision),
        };
        let layout = Layout::new(&self.config.cache, id);
        if layout.root.symlink_metadata().is_err() {
            return Err(self.not_in_cache(model));
        }
        check_inside(&layout.root, &self.config.cache)?;
        let _locks = take_all_locks(&layout, model)?;
        let Some(revision) = revision else { return remove_all(&layout) };
        let commit = layout.commit_of(revision).ok_or_else(|| self.not_in_cache(model))?;
        let snapshot = layout.snapshot(&commit);
        if snapshot.symlink_metadata().is_err() {
            return Err(self.not_in_cache(model));
        }
        let others: Vec<_> = commits(&layout)?
            .into_iter()
            .filter(|other| *other != commit)
            .map(|other| layout.snapshot(&other))
            .collect();
        if others.is_empty() {
            return remove_all(&layout);
        }
        for inside in [&layout.snapshots(), &snapshot, &layout.blobs()] {
            check_inside(inside, &layout.root)?;
        }
        let mut needed = BTreeSet::new();
        for other in &others {
            needed.extend(blob_names(other)?);
        }
        let dropped: Vec<_> = blob_names(&snapshot)?.into_iter().filter(|name| !needed.contains(name)).collect();
        let mut removed = Tally::default();
        removed.add_tree(&snapshot)?;
        fs::remove_dir_all(&snapshot).map_err(HubError::io("remove", &snapshot))?;
        for name in dropped {
            let blob = layout.blobs().join(name);
            removed.add_tree(&blob)?;
            remove_file_if_there(&blob)?;
        }
        for name in revisions(&layout, &commit)? {
            let path = layout.refs().join(name);
            removed.add_tree(&path)?;
            remove_file_if_there(&path)?;
        }
        Ok(removed.into())
    }
}

fn remove_all(layout: &Layout) -> Result<Removed, HubError> {
    let mut removed = Tally::default();
    removed.add_tree(&layout.root)?;
    fs::remove_dir_all(&layout.root).map_err(HubError::io("remove", &layout.root))?;
    // The lock files are empty; one that stays does no harm.
    if layout.locks.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        let _ = fs::remove_dir_all(&layout.locks);
    }
    Ok(removed.into())
}

fn remove_file_if_there(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(HubError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Refuses a link, and whatever does not lie directly or indirectly in `parent`.
fn check_inside(path: &Path, parent: &Path) -> Result<(), HubError> {
    let refused = |reason| HubError::Refused { path: path.to_owned(), reason };
    let found = path.symlink_metadata().map_err(HubError::io("look at", path))?;
    if !found.is_dir() {
        return Err(refused("it is a link or a file, expected a folder of the cache"));
    }
    let real = path.canonicalize().map_err(HubError::io("look at", path))?;
    let parent = parent.canonicalize().map_err(HubError::io("look at", parent))?;
    if real == parent || !real.starts_with(&parent) {
        return Err(refused("it lies outside the cache"));
    }
    Ok(())
}

fn take_all_locks(layout: &Layout, model: &ModelRef) -> Result<Vec<Lock>, HubError> {
    if !layout.locks.is_dir() {
        return Ok(Vec::new());
    }
    let mut locks = Vec::new();
    for name in names_in(&layout.locks)? {
        let path = layout.locks.join(name);
        if !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            continue;
        }
        match Lock::try_take(&path)? {
            Lock::Taken => return Err(HubError::InUse { model: model.to_string() }),
            lock => locks.push(lock),
        }
    }
    Ok(locks)
}

fn snapshots(layout: &Layout, wanted: &Wanted) -> Result<Vec<Snapshot>, HubError> {
    let mut found = Vec::new();
    for commit in commits(layout)? {
        let folder = layout.snapshot(&commit);
        let bytes =
            files_of(&folder)?.iter().filter_map(|name| folder.join(name).metadata().ok()).map(|file| file.len()).sum();
        found.push(Snapshot {
            revisions: revisions(layout, &commit)?,
            bytes,
            model_type: model_type(&folder.join(wanted.config)).ok().flatten(),
            inventory: wanted.inspect(&folder).ok(),
            folder,
            commit,
        });
    }
    Ok(found)
}

/// The commits that are there.
pub(super) fn commits(layout: &Layout) -> Result<Vec<String>, HubError> {
    let folder = layout.snapshots();
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = names_in(&folder)?;
    names.retain(|name| is_commit(name));
    Ok(names)
}

/// Branches and tags that are `commit`.
fn revisions(layout: &Layout, commit: &str) -> Result<Vec<String>, HubError> {
    let refs = layout.refs();
    let mut names = files_of(&refs)?;
    names.retain(|name| layout.commit_of(name).as_deref() == Some(commit));
    Ok(names)
}

/// The blobs that the files of `snapshot` point to.
fn blob_names(snapshot: &Path) -> Result<BTreeSet<String>, HubError> {
    let targets = files_of(snapshot)?.into_iter().filter_map(|name| fs::read_link(snapshot.join(name)).ok());
    Ok(targets
        .filter(|target| target.parent().is_some_and(|parent| parent.ends_with("blobs")))
        .filter_map(|target| target.file_name()?.to_str().map(str::to_owned))
        .collect())
}

/// Files and links below `folder`, as `sub/name`, in order. Links to folders are not entered.
pub(super) fn files_of(folder: &Path) -> Result<Vec<String>, HubError> {
    fn collect(folder: &Path, prefix: &str, files: &mut Vec<String>) -> Result<(), HubError> {
        for name in names_in(folder)? {
            let path = folder.join(&name);
            let full = format!("{prefix}{name}");
            if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                collect(&path, &format!("{full}/"), files)?;
            } else {
                files.push(full);
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    if folder.is_dir() {
        collect(folder, "", &mut files)?;
    }
    Ok(files)
}

/// The names in `folder` that are text, in order.
fn names_in(folder: &Path) -> Result<Vec<String>, HubError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(HubError::io("read the folder", folder))? {
        let entry = entry.map_err(HubError::io("read the folder", folder))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Files counted without following links.
#[derive(Debug, Default)]
struct Tally {
    files: usize,
    bytes: u64,
    partial: u64,
}

impl Tally {
    fn add_tree(&mut self, path: &Path) -> Result<(), HubError> {
        let Ok(found) = path.symlink_metadata() else { return Ok(()) };
        if found.is_dir() {
            for name in names_in(path)? {
                self.add_tree(&path.join(name))?;
            }
        } else if found.is_file() {
            self.files += 1;
            self.bytes += found.len();
            if path.extension().is_some_and(|extension| extension == "incomplete") {
                self.partial += found.len();
            }
        }
        Ok(())
    }
}

impl From<Tally> for Removed {
    fn from(tally: Tally) -> Self {
        Self { files: tally.files, bytes: tally.bytes }
    }
}
