//! How a model is loaded.

use std::{
    marker::PhantomData,
    path::{Path, PathBuf},
};

use tonoscope_backends::{Dtype, WeightFormat};
use tonoscope_hub::{Event, HubConfig, Progress, Store};

use super::{Found, Pretrained, Search};
use crate::{Device, Error, Result};

/// A model that is to be loaded: by name, onto a device.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let model = MusicGen::builder("musicgen-nano").device("cpu")?.weights(WeightFormat::Int8).load()?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Builder<M> {
    name: String,
    device: Device,
    text_encoder: Option<PathBuf>,
    cache: Option<PathBuf>,
    offline: bool,
    kind: PhantomData<fn() -> M>,
}

impl<M: Pretrained> Builder<M> {
    /// The model `name`: built in, such as `musicgen-nano`; on the Hub, `org/name[@revision]`; or a folder.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            device: Device::default(),
            text_encoder: None,
            cache: None,
            offline: false,
            kind: PhantomData,
        }
    }

    /// Where it computes: a name such as `cpu` or `cuda:1`, or a [`Device`]. Type and weight format are those of the
    /// device, so call this before [`Self::dtype`] and [`Self::weights`].
    ///
    /// # Errors
    /// [`Error::Device`] if there is no device of this name in this build.
    pub fn device<D: TryInto<Device>>(mut self, device: D) -> Result<Self>
    where
        Error: From<D::Error>,
    {
        self.device = device.try_into()?;
        Ok(self)
    }

    /// The type of activations.
    #[must_use]
    pub fn dtype(mut self, dtype: Dtype) -> Self {
        self.device = self.device.dtype(dtype);
        self
    }

    /// How the CPU keeps the weights of linear layers.
    #[must_use]
    pub fn weights(mut self, weights: WeightFormat) -> Self {
        self.device = self.device.weights(weights);
        self
    }

    /// Folder of the T5 text encoder, for layouts that keep it elsewhere (audiocraft, stable-audio-tools).
    #[must_use]
    pub fn text_encoder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.text_encoder = Some(folder.into());
        self
    }

    /// Folder of the Hub's cache, instead of the one that the environment names.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Sends no request, whatever the cache lacks.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Finds the checkpoint and reads its configuration.
    ///
    /// # Errors
    /// [`Error`] if there is none, or it is of another kind.
    pub fn find(&self) -> Result<Found<M>> {
        self.find_with(&mut |_: Event<'_>| {})
    }

    /// As [`Self::find`]; `progress` is told what is downloaded, and may stop it.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn find_with(&self, progress: &mut dyn Progress) -> Result<Found<M>> {
        let mut config = HubConfig::from_env()?;
        if let Some(cache) = &self.cache {
            config.cache.clone_from(cache);
        }
        config.offline |= self.offline;
        let text_encoder = self.text_encoder.as_deref().map(Path::as_ref);
        M::find(&mut Search { name: &self.name, text_encoder, store: Store::new(config), progress })
    }

    /// Finds the model and places it on its device. This reads files and may download: it blocks.
    ///
    /// # Errors
    /// [`Error`] if there is none, it is of another kind, or the device cannot be opened.
    pub fn load(&self) -> Result<M> {
        self.load_with(&mut |_: Event<'_>| {})
    }

    /// As [`Self::load`]; `progress` is told what is downloaded, and may stop it.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(&self, progress: &mut dyn Progress) -> Result<M> {
        let found = self.find_with(progress)?;
        found.load(&self.device.open()?)
    }
}
