//! From a model to a folder with its files.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::checksum::Etag;
use super::layout::Layout;
use super::progress::Progress;
use super::wanted::{Inventory, Wanted};
use super::{BuiltIn, HubConfig, HubError, HubId, ModelRef, hex};

/// A checkpoint whose files are all there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The folder that holds them.
    pub folder: PathBuf,
    /// The repository it came from; `None` for a folder of the user's.
    pub id: Option<HubId>,
    /// The commit of that repository.
    pub commit: Option<String>,
    /// Names of its files.
    pub files: Vec<String>,
    /// Optional files that it does without. A missing `tokenizer.json` deserves a warning.
    pub without: Vec<&'static str>,
}

impl Checkpoint {
    /// The checksum that the Hub gave for `file`: sha256 of a weight file, git's blob sha1 of a small one.
    /// It was compared when the file came, and is not computed again. Of a model inside the program the sha256; `None` for
    /// all other folders.
    #[must_use]
    pub fn checksum(&self, file: &str) -> Option<String> {
        if let Some(content) = BuiltIn::content(&self.folder.join(file)) {
            return Some(hex(&Sha256::digest(content)));
        }
        self.id.as_ref()?;
        let blob = std::fs::read_link(self.folder.join(file)).ok()?;
        Etag::parse(blob.file_name()?.to_str()?).map(|etag| etag.as_str().to_owned())
    }
}

/// The cache, and the Hub behind it.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) config: HubConfig,
}

impl Store {
    /// A store as `config` says. Touches nothing.
    #[must_use]
    pub fn new(config: HubConfig) -> Self {
        Self { config }
    }

    /// How it was set up.
    #[must_use]
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    /// [`ModelRef::parse`] with this store's home folder. A model inside the program becomes
    /// [`BuiltIn::folder`].
    ///
    /// # Errors
    /// [`HubError::Name`].
    pub fn parse(&self, text: &str) -> Result<ModelRef, HubError> {
        if let Some(model) = BuiltIn::named(text) {
            return Ok(ModelRef::Folder(model.folder()));
        }
        Ok(ModelRef::parse(text, self.config.home.as_deref())?)
    }

    /// Finds the files without any request.
    ///
    /// # Errors
    /// [`HubError::NotInCache`] or [`HubError::Incomplete`].
    pub fn locate(&self, model: &ModelRef, wanted: &Wanted) -> Result<Checkpoint, HubError> {
        match model {
            ModelRef::Folder(folder) => match BuiltIn::at(folder) {
                Some(model) => model.checkpoint(wanted),
                None => checkpoint(folder, None, None, wanted, model),
            },
            ModelRef::Hub { id, revision } => {
                let layout = Layout::new(&self.config.cache, id);
                let revision = revision.as_deref().unwrap_or("main");
                let commit = layout.commit_of(revision).ok_or_else(|| self.not_in_cache(model))?;
                checkpoint(&layout.snapshot(&commit), Some(id), Some(commit), wanted, model)
            }
        }
    }

    /// The files as they are in the cache, if they are whole there, else from the Hub. What is there is not
    /// compared with the Hub, so a run needs no network once the model is fetched.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn open(&self, model: &ModelRef, wanted: &Wanted, progress: &mut dyn Progress) -> Result<Checkpoint, HubError> {
        match self.locate(model, wanted) {
            Err(HubError::NotInCache { .. } | HubError::Incomplete { .. }) if matches!(model, ModelRef::Hub { .. }) => {
                self.fetch(model, wanted, progress)
            }
            result => result,
        }
    }

    /// Asks the Hub what the revision is now, fetches what is missing, and returns the folder.
    /// A folder of the user's is only looked at. In offline mode it is [`locate`](Self::locate).
    ///
    /// # Errors
    /// Any [`HubError`]; what arrived before stays, to be resumed.
    pub fn fetch(
        &self,
        model: &ModelRef,
        wanted: &Wanted,
        progress: &mut dyn Progress,
    ) -> Result<Checkpoint, HubError> {
        self.fetch_whole(model, wanted, progress).map_err(|error| error.without(self.config.token.as_ref()))
    }

    fn fetch_whole(
        &self,
        model: &ModelRef,
        wanted: &Wanted,
        progress: &mut dyn Progress,
    ) -> Result<Checkpoint, HubError> {
        let ModelRef::Hub { id, revision } = model else { return self.locate(model, wanted) };
        if self.config.offline {
            return self.locate(model, wanted).map_err(|error| {
                let missing = match error {
                    HubError::Incomplete { missing, .. } => missing,
                    HubError::NotInCache { .. } => Vec::new(),
                    other => return other,
                };
                HubError::Offline { model: model.to_string(), cache: self.config.cache.clone(), missing }
            });
        }
        self.fetch_from_hub(model, id, revision.as_deref().unwrap_or("main"), wanted, progress)
    }

    #[cfg(feature = "network")]
    fn fetch_from_hub(
        &self,
        model: &ModelRef,
        id: &HubId,
        revision: &str,
        wanted: &Wanted,
        progress: &mut dyn Progress,
    ) -> Result<Checkpoint, HubError> {
        let (folder, commit) = super::fetch::fetch(&self.config, model, id, revision, wanted, progress)?;
        checkpoint(&folder, Some(id), Some(commit), wanted, model)
    }

    /// This build sends no request: what the cache does not hold cannot be had.
    #[cfg(not(feature = "network"))]
    fn fetch_from_hub(
        &self,
        model: &ModelRef,
        _: &HubId,
        _: &str,
        wanted: &Wanted,
        _: &mut dyn Progress,
    ) -> Result<Checkpoint, HubError> {
        self.locate(model, wanted).map_err(|error| match error {
            HubError::NotInCache { .. } | HubError::Incomplete { .. } => {
                HubError::NoNetwork { model: model.to_string() }
            }
            other => other,
        })
    }

    pub(super) fn not_in_cache(&self, model: &ModelRef) -> HubError {
        HubError::NotInCache { model: model.to_string(), cache: self.config.cache.clone() }
    }
}

fn checkpoint(
    folder: &Path,
    id: Option<&HubId>,
    commit: Option<String>,
    wanted: &Wanted,
    model: &ModelRef,
) -> Result<Checkpoint, HubError> {
    let Inventory { present, missing, without } = wanted.inspect(folder)?;
    if !missing.is_empty() {
        return Err(HubError::Incomplete { place: model.to_string(), missing, consists_of: wanted.consists_of });
    }
    if present.iter().any(|name| name == wanted.config) {
        wanted.check_config(&folder.join(wanted.config), &model.to_string())?;
    }
    Ok(Checkpoint { folder: folder.to_owned(), id: id.cloned(), commit, files: present, without })
}
