//! From the name of a model to a model on a device.

mod builder;
mod origin;

use std::ops::Deref;

use tonoscope_backends::Opened;
use tonoscope_hub::{BuiltIn, ModelRef, Progress, Store};

pub use builder::Builder;
pub use origin::{Origin, Place, Provenance, sha256};

use crate::Result;

/// A kind of model that [`Builder`] finds by name and places on a device.
pub trait Pretrained: Sized {
    /// What is known before the weights are read: configurations, tokenizer.
    type Parts;

    /// Finds the checkpoint `name`, fetching it if it is on the Hub and not here yet.
    ///
    /// # Errors
    /// [`Error`](crate::Error) if there is none, or it is of another kind.
    fn find(search: &mut Search<'_>) -> Result<Found<Self>>;

    /// Reads the weights.
    ///
    /// # Errors
    /// [`Error::Load`](crate::Error::Load) if they do not fit the model.
    fn place(found: Found<Self>, opened: &Opened) -> Result<Self>;
}

/// What a search for a checkpoint goes by.
pub struct Search<'a> {
    /// Built-in name, Hub id or folder.
    pub name: &'a str,
    /// Folder of the T5 text encoder, for layouts that keep it elsewhere.
    pub text_encoder: Option<&'a std::path::Path>,
    /// The cache of models, and the Hub behind it.
    pub store: Store,
    /// Told what is downloaded; may stop it.
    pub progress: &'a mut dyn Progress,
}

impl Search<'_> {
    /// What the name stands for. The loaders find the files of a built-in model in memory.
    ///
    /// # Errors
    /// [`Error::Hub`](crate::Error::Hub) if it is no name.
    pub(crate) fn model(&self) -> Result<ModelRef> {
        if let Some(model) = BuiltIn::named(self.name) {
            tonoscope_core::checkpoint::mount(&model.folder(), model.files());
        }
        Ok(self.store.parse(self.name)?)
    }
}

/// A checkpoint that was found: configurations read, weights not yet.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let found = MusicGen::builder("musicgen-nano").find()?;
/// assert_eq!(found.files.config.decoder.num_hidden_layers, 6);
/// # Ok::<(), Error>(())
/// ```
pub struct Found<M: Pretrained> {
    /// What is known of the model; a [`Found`] stands for it.
    pub parts: M::Parts,
    /// Where it came from.
    pub origin: Origin,
}

impl<M: Pretrained> Found<M> {
    /// Reads the weights onto a device.
    ///
    /// # Errors
    /// [`Error::Load`](crate::Error::Load) if they do not fit the model.
    pub fn load(self, opened: &Opened) -> Result<M> {
        M::place(self, opened)
    }
}

impl<M: Pretrained> Deref for Found<M> {
    type Target = M::Parts;

    fn deref(&self) -> &M::Parts {
        &self.parts
    }
}
