//! T5: text to hidden states.

use std::sync::Arc;

use burn::tensor::{self, Int, Tensor, TensorData};
use tonoscope_backends::{DeviceInfo, Opened};
use tonoscope_core::{
    hooks::{HookPoint, Hooks},
    models::t5::{self, T5Tokenizer, TokenIds},
};

use crate::{
    Cache, Error, IntoCapture, MusicGen, Result,
    asked::Asked,
    cache::About,
    load::{Builder, Found, Origin, Pretrained, Search},
    text::shortened,
};

/// The T5 text encoder of a MusicGen checkpoint on a device, without the rest of the model. Cheap to clone.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let encoder = T5Encoder::from_pretrained("musicgen-nano")?;
/// let (states, cache) = encoder.encode_with_cache("a slow piano melody", ["encoder.*.resid_post"])?;
/// assert_eq!(states.len(), encoder.tokens("a slow piano melody")?.len()); // one vector per token
/// assert_eq!(cache.entries.len(), 2);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct T5Encoder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    model: t5::T5Encoder,
    tokenizer: T5Tokenizer,
    device: tensor::Device,
    info: DeviceInfo,
    origin: Origin,
}

impl Pretrained for T5Encoder {
    type Parts = <MusicGen as Pretrained>::Parts;

    fn find(search: &mut Search<'_>) -> Result<Found<Self>> {
        let Found { parts, origin } = MusicGen::find(search)?;
        Ok(Found { parts, origin })
    }

    fn place(found: Found<Self>, opened: &Opened) -> Result<Self> {
        let Found { parts, origin } = found;
        let tokenizer = parts.tokenizer;
        let model = parts.files.load_text_encoder(opened.placement.clone())?;
        let (device, info) = (opened.placement.device.clone(), opened.info.clone());
        Ok(Self { shared: Arc::new(Shared { model, tokenizer, device, info, origin }) })
    }
}

impl T5Encoder {
    /// The text encoder of the MusicGen `name`: see [`MusicGen::from_pretrained`].
    ///
    /// # Errors
    /// [`Error`] if there is none, or it is of another kind.
    pub fn from_pretrained(name: &str) -> Result<Self> {
        Self::builder(name).load()
    }

    /// A text encoder that is to be loaded, with a device, a type or a weight format of one's choice.
    pub fn builder(name: impl Into<String>) -> Builder<Self> {
        Builder::new(name)
    }

    /// Hidden states of a text, one vector per token.
    ///
    /// # Errors
    /// [`Error::Prompt`] if the encoder does not take the text, [`Error::Execution`] if the device fails.
    pub fn encode(&self, text: &str) -> Result<Vec<Vec<f32>>> {
        pollster::block_on(self.encode_async(text))
    }

    /// [`Self::encode`], without blocking.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub async fn encode_async(&self, text: &str) -> Result<Vec<Vec<f32>>> {
        const NOTHING: [&str; 0] = [];
        Ok(self.encode_with_cache_async(text, NOTHING).await?.0)
    }

    /// Hidden states of a text, and what was recorded at hook points such as `encoder.*.resid_post`.
    ///
    /// # Errors
    /// As [`Self::encode`]; [`Error::Hook`] if there is no such point.
    pub fn encode_with_cache<C: IntoCapture>(
        &self,
        text: &str,
        points: impl IntoIterator<Item = C>,
    ) -> Result<(Vec<Vec<f32>>, Cache)> {
        pollster::block_on(self.encode_with_cache_async(text, points))
    }

    /// [`Self::encode_with_cache`], without blocking.
    ///
    /// # Errors
    /// As [`Self::encode_with_cache`].
    pub async fn encode_with_cache_async<C: IntoCapture>(
        &self,
        text: &str,
        points: impl IntoIterator<Item = C>,
    ) -> Result<(Vec<Vec<f32>>, Cache)> {
        let Shared { model, tokenizer, device, origin, .. } = &*self.shared;
        let ids = self.tokens(text)?;
        if ids.is_empty() {
            return Err(Error::request("a text without words", "pass a text to encode"));
        }
        let mut asked = Asked::default();
        points.into_iter().for_each(|point| asked.capture(point));
        let spec = asked.spec().clone();
        let mut hooks: Hooks<'_> = asked.hooks(&self.points(), device)?;
        let tokens = tokenizer.tokens(&ids);
        let ids = TensorData::new(ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(), [1, tokens.len()]);
        let ids = Tensor::<2, Int>::from_data(ids, device);
        let states = model.forward(&mut hooks, ids.clone(), ids.ones_like());
        let width = states.dims()[2];
        let values = crate::values_async(&states).await?;
        let about =
            About { origin: origin.clone(), spec, prompts: vec![text.to_owned()], tokens: vec![tokens], seed: None };
        Ok((values.chunks(width).map(<[f32]>::to_vec).collect(), Cache::new(hooks.finish()?, about)))
    }

    /// Ids of the tokens of a text, the end token included.
    ///
    /// # Errors
    /// [`Error::Prompt`] if the encoder does not take the text.
    pub fn tokens(&self, text: &str) -> Result<TokenIds> {
        let ids = self.shared.tokenizer.encode(text);
        ids.map_err(|source| Error::Prompt { prompt: shortened(text), source })
    }

    /// Every hook point, in the order of the computation.
    pub fn points(&self) -> Vec<HookPoint> {
        self.shared.model.points()
    }

    /// Where it computes.
    pub fn device(&self) -> &DeviceInfo {
        &self.shared.info
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// The model behind this handle.
    pub fn core(&self) -> &t5::T5Encoder {
        &self.shared.model
    }
}
