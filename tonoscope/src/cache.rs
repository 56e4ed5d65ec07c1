//! What a run has recorded, and the file that keeps it.

use std::{ops::Deref, path::Path};

use tonoscope_core::{
    captures,
    hooks::{self, Spec},
};

use crate::{Result, audio::write_whole, load::Origin};

/// What a run has recorded: [`hooks::Cache`], and what the run was.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let model = MusicGen::from_pretrained("musicgen-nano")?;
/// let run = model.generate("a slow piano melody").seconds(0.2).capture("decoder.5.resid_post");
/// let (_, cache) = run.run_with_cache()?;
/// let stream = cache.get("decoder.5.resid_post")?;
/// assert_eq!(stream.named_dims(), [("branch", 2), ("prompt", 1), ("step", 13), ("feature", model.width())]);
/// assert!(cache.get("decoder.4.resid_post").is_err(), "it was not recorded");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cache {
    cache: hooks::Cache,
    about: About,
}

/// What a file of captures says of the run.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) origin: Origin,
    pub(crate) spec: Spec,
    pub(crate) prompts: Vec<String>,
    /// Of each prompt.
    pub(crate) tokens: Vec<Vec<String>>,
    /// `None`: nothing was random.
    pub(crate) seed: Option<u64>,
}

impl Cache {
    pub(crate) fn new(cache: hooks::Cache, about: About) -> Self {
        Self { cache, about }
    }

    /// Writes everything to a safetensors file, each tensor under the name of its hook point. Its metadata say what the
    /// axes mean, and what the run was: model, revision, seed, prompts and their tokens.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be written, [`Error::Execution`](crate::Error::Execution) if the device
    /// fails.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        pollster::block_on(self.save_async(path))
    }

    /// [`Self::save`], without blocking while the device computes.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub async fn save_async(&self, path: impl AsRef<Path>) -> Result<()> {
        write_whole(path.as_ref(), &self.to_bytes().await?)
    }

    /// The content of such a file.
    ///
    /// # Errors
    /// [`Error::Execution`](crate::Error::Execution) if the device fails.
    pub async fn to_bytes(&self) -> Result<Vec<u8>> {
        let About { origin, spec, prompts, tokens, seed } = &self.about;
        let origin = captures::Origin {
            spec,
            prompts,
            tokens,
            model: &origin.name,
            revision: origin.revision.as_deref(),
            seed: *seed,
        };
        Ok(captures::to_file(&captures::read(&self.cache).await?, &origin)?)
    }
}

impl Deref for Cache {
    type Target = hooks::Cache;

    fn deref(&self) -> &hooks::Cache {
        &self.cache
    }
}
