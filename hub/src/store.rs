//! From a model to a folder with its files.

use std::path::{Path, PathBuf};

use super::checksum::Etag;
use super::download::{Job, with_retries};
use super::http::{Answer, Client, Remote};
use super::layout::{Layout, is_commit};
use super::progress::{Event, Progress};
use super::wanted::{Inventory, ShardIndex, Wanted, Weights};
use super::{BuiltIn, HubConfig, HubError, HubId, ModelRef};

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
    /// It was compared when the file came, and is not computed again. `None` outside the cache.
    #[must_use]
    pub fn checksum(&self, file: &str) -> Option<String> {
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

    /// [`ModelRef::parse`] with this store's home folder. A model inside the program becomes a folder in the cache.
    ///
    /// # Errors
    /// [`HubError::Name`]; [`HubError::Io`] or [`HubError::DiskFull`] where the cache cannot be written.
    pub fn parse(&self, text: &str) -> Result<ModelRef, HubError> {
        if let Some(model) = BuiltIn::named(text) {
            return Ok(ModelRef::Folder(model.folder(&self.config.cache)?));
        }
        Ok(ModelRef::parse(text, self.config.home.as_deref())?)
    }

    /// Finds the files without any request.
    ///
    /// # Errors
    /// [`HubError::NotInCache`] or [`HubError::Incomplete`].
    pub fn locate(&self, model: &ModelRef, wanted: &Wanted) -> Result<Checkpoint, HubError> {
        match model {
            ModelRef::Folder(folder) => checkpoint(folder, None, None, wanted, model),
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
        let revision = revision.as_deref().unwrap_or("main");
        let (config, layout) = (&self.config, Layout::new(&self.config.cache, id));
        let mut fetch = Fetch { config, client: Client::new(config)?, layout, id, revision, commit: None };
        let files = fetch.plan(model, wanted, progress)?;
        let commit = fetch.commit()?.to_owned();
        fetch.run(&files, progress)?;
        fetch.layout.write_ref(revision, &commit)?;
        checkpoint(&fetch.layout.snapshot(&commit), Some(id), Some(commit), wanted, model)
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

/// One run of [`Store::fetch`].
struct Fetch<'a> {
    config: &'a HubConfig,
    client: Client,
    layout: Layout,
    id: &'a HubId,
    revision: &'a str,
    /// Known after the first answer; from then on only this commit is asked for.
    commit: Option<String>,
}

impl Fetch<'_> {
    /// Finds out what the repository has. The small files that decide what else is needed are fetched.
    fn plan(
        &mut self,
        model: &ModelRef,
        wanted: &Wanted,
        progress: &mut dyn Progress,
    ) -> Result<Vec<(String, Remote)>, HubError> {
        let mut files = Vec::new();
        let config = self.ask(wanted.config, progress)?;
        if let Some(remote) = &config {
            self.download(wanted.config, remote, progress)?;
            let path = self.layout.snapshot(self.commit()?).join(wanted.config);
            wanted.check_config(&path, &model.to_string())?;
            files.push((wanted.config.to_owned(), remote.clone()));
        }
        let Some(weights) = self.find_weights(wanted, config.is_some(), progress)? else {
            let (place, missing) = (model.to_string(), weight_names(wanted));
            return Err(HubError::Incomplete { place, missing, consists_of: wanted.consists_of });
        };
        files.extend(weights);
        for name in wanted.optional {
            if let Some(remote) = self.ask(name, progress)? {
                files.push(((*name).to_owned(), remote));
            }
        }
        Ok(files)
    }

    /// The first way of keeping weights that the repository has.
    fn find_weights(
        &mut self,
        wanted: &Wanted,
        has_config: bool,
        progress: &mut dyn Progress,
    ) -> Result<Option<Vec<(String, Remote)>>, HubError> {
        for weights in wanted.weights {
            match *weights {
                Weights::Sharded { .. } if !has_config => {}
                Weights::Sharded { single, index } => {
                    if let Some(remote) = self.ask(single, progress)? {
                        return Ok(Some(vec![(single.to_owned(), remote)]));
                    }
                    if let Some(remote) = self.ask(index, progress)? {
                        return self.find_shards(index, remote, progress).map(Some);
                    }
                }
                Weights::Files(names) => {
                    let found: Option<Vec<_>> = names
                        .iter()
                        .map(|name| Ok(self.ask(name, progress)?.map(|remote| ((*name).to_owned(), remote))))
                        .collect::<Result<_, HubError>>()?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(None)
    }

    fn find_shards(
        &mut self,
        index: &str,
        remote: Remote,
        progress: &mut dyn Progress,
    ) -> Result<Vec<(String, Remote)>, HubError> {
        self.download(index, &remote, progress)?;
        let list = ShardIndex::read(&self.layout.snapshot(self.commit()?).join(index))?;
        let mut files = vec![(index.to_owned(), remote)];
        for name in list.files() {
            let remote = self
                .ask(&name, progress)?
                .ok_or_else(|| HubError::NoFile { id: self.id.to_string(), file: name.clone() })?;
            files.push((name, remote));
        }
        Ok(files)
    }

    /// Size and checksum of `file`, if the repository has it.
    fn ask(&mut self, file: &str, progress: &mut dyn Progress) -> Result<Option<Remote>, HubError> {
        let revision = self.commit.as_deref().unwrap_or(self.revision);
        let (client, named) = (&self.client, is_commit(revision));
        let Answer { commit, file: remote } =
            with_retries(self.config, file, progress, || client.head(self.id, revision, file, named))?;
        if self.commit.is_none() {
            // Mirrors that do not say the commit are usable where the user names it.
            self.commit = if named { Some(revision.to_owned()) } else { commit };
            self.commit()?;
        }
        Ok(remote)
    }

    fn commit(&self) -> Result<&str, HubError> {
        self.commit.as_deref().ok_or_else(|| HubError::Header {
            url: self.config.endpoint.clone(),
            header: "x-repo-commit",
            found: "nothing".into(),
        })
    }

    fn run(&self, files: &[(String, Remote)], progress: &mut dyn Progress) -> Result<(), HubError> {
        let mut bytes = 0_u64;
        let mut present = 0_u64;
        for (file, remote) in files {
            bytes = bytes.saturating_add(remote.size);
            if self.job(file, remote)?.is_present() {
                present = present.saturating_add(remote.size);
            }
        }
        progress.report(Event::Planned { files: files.len(), bytes, present });
        files.iter().try_for_each(|(file, remote)| self.download(file, remote, progress))
    }

    fn download(&self, file: &str, remote: &Remote, progress: &mut dyn Progress) -> Result<(), HubError> {
        self.job(file, remote)?.run(progress)
    }

    fn job<'a>(&'a self, file: &'a str, remote: &'a Remote) -> Result<Job<'a>, HubError> {
        Ok(Job {
            config: self.config,
            client: &self.client,
            layout: &self.layout,
            id: self.id,
            commit: self.commit()?,
            file,
            remote,
        })
    }
}

/// What could have been there, for the error.
fn weight_names(wanted: &Wanted) -> Vec<String> {
    wanted
        .weights
        .iter()
        .flat_map(|weights| match weights {
            Weights::Sharded { single, .. } => vec![(*single).to_owned()],
            Weights::Files(names) => names.iter().map(|name| (*name).to_owned()).collect(),
        })
        .collect()
}
