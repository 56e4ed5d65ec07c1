//! From a repository of the Hub into the cache.

use std::path::PathBuf;

use super::download::{Job, with_retries};
use super::http::{Answer, Client, Remote};
use super::layout::{Layout, is_commit};
use super::progress::{Event, Progress};
use super::wanted::{ShardIndex, Wanted, Weights};
use super::{HubConfig, HubError, HubId, ModelRef};

/// Fetches what is missing of `id` at `revision`: the folder in the cache, and the commit.
///
/// # Errors
/// Any [`HubError`]; what arrived before stays, to be resumed.
pub(super) fn fetch(
    config: &HubConfig,
    model: &ModelRef,
    id: &HubId,
    revision: &str,
    wanted: &Wanted,
    progress: &mut dyn Progress,
) -> Result<(PathBuf, String), HubError> {
    let layout = Layout::new(&config.cache, id);
    let mut fetch = Fetch { config, client: Client::new(config)?, layout, id, revision, commit: None };
    let files = fetch.plan(model, wanted, progress)?;
    let commit = fetch.commit()?.to_owned();
    fetch.run(&files, progress)?;
    fetch.layout.write_ref(revision, &commit)?;
    Ok((fetch.layout.snapshot(&commit), commit))
}

/// One run of [`fetch`].
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
