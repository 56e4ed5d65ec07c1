//! MusicGen: text to music, token by token.

mod generate;
mod output;

use std::sync::Arc;

use tonoscope_backends::{DeviceInfo, Opened};
use tonoscope_core::{
    hooks::HookPoint,
    models::{
        musicgen::{self, GenerationConfig, Layout, MusicgenFiles, Prompt},
        t5::T5Tokenizer,
    },
};
use tonoscope_hub::MUSICGEN;

pub use generate::{Generate, Stage};
pub use output::Music;

use crate::{
    Audio, Error, Result,
    load::{Builder, Found, Origin, Place, Pretrained, Search},
    text::shortened,
};

/// A MusicGen on a device. Cheap to clone.
///
/// ```
/// use tonoscope::prelude::*;
///
/// let model = MusicGen::from_pretrained("musicgen-nano")?;
/// let music = model.generate("a slow piano melody").seconds(0.5).seed(42).run()?;
/// assert_eq!((music.sample_rate(), music.codes().len()), (32_000, 4));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MusicGen {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    model: musicgen::MusicGen,
    tokenizer: T5Tokenizer,
    generation: GenerationConfig,
    origin: Origin,
    device: DeviceInfo,
}

/// What is known of a MusicGen before its weights are read.
pub struct MusicParts {
    /// Configurations, and where the weights lie.
    pub files: MusicgenFiles,
    /// Text to ids.
    pub tokenizer: T5Tokenizer,
}

impl Pretrained for MusicGen {
    type Parts = MusicParts;

    fn find(search: &mut Search<'_>) -> Result<Found<Self>> {
        let model = search.model()?;
        let checkpoint = search.store.open(&model, &MUSICGEN, search.progress)?;
        let beside = checkpoint.folder.join("t5-base");
        let t5 = search.text_encoder.map(ToOwned::to_owned).or_else(|| beside.is_dir().then_some(beside));
        let files = MusicgenFiles::open(&checkpoint.folder, t5.as_deref())?;
        let tokenizer = files.tokenizer()?;
        let origin = Origin {
            name: search.name.to_owned(),
            revision: checkpoint.commit.clone(),
            layout: match files.layout {
                Layout::Transformers => "transformers",
                Layout::Audiocraft => "audiocraft",
            },
            places: vec![Place::Checkpoint(checkpoint)],
        };
        Ok(Found { parts: MusicParts { files, tokenizer }, origin })
    }

    fn place(found: Found<Self>, opened: &Opened) -> Result<Self> {
        let Found { parts: MusicParts { files, tokenizer }, origin } = found;
        let generation = files.generation.clone();
        let model = files.load(opened.placement.clone())?;
        let device = opened.info.clone();
        Ok(Self { shared: Arc::new(Shared { model, tokenizer, generation, origin, device }) })
    }
}

impl MusicGen {
    /// The model `name` on the best device: built in, such as `musicgen-nano`; on the Hub, `org/name[@revision]` or a short
    /// name such as `musicgen-small`; or a folder, as transformers or audiocraft writes it.
    ///
    /// # Errors
    /// [`Error`] if there is none, or it is of another kind.
    pub fn from_pretrained(name: &str) -> Result<Self> {
        Self::builder(name).load()
    }

    /// A model that is to be loaded, with a device, a type or a weight format of one's choice.
    pub fn builder(name: impl Into<String>) -> Builder<Self> {
        Builder::new(name)
    }

    /// One piece of music for `prompt`; an empty one is no prompt at all.
    pub fn generate(&self, prompt: impl Into<String>) -> Generate<'_, Music> {
        Generate::new(self, vec![prompt.into()])
    }

    /// One piece of music for each of `prompts`. The same text twice becomes two different pieces.
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// let model = MusicGen::from_pretrained("musicgen-nano")?;
    /// let pieces = model.generate_all(["slow piano", "fast drums"]).seconds(0.2).run()?;
    /// assert_eq!(pieces.len(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn generate_all<T: AsRef<str>>(&self, prompts: impl IntoIterator<Item = T>) -> Generate<'_, Vec<Music>> {
        Generate::new(self, prompts.into_iter().map(|prompt| prompt.as_ref().to_owned()).collect())
    }

    /// Codes of a recording, `[codebook][frame]`, after it was brought to the model's rate and channels.
    ///
    /// # Errors
    /// [`Error::Sound`] if that cannot be done, or the device fails.
    pub fn encode(&self, recording: &Audio) -> Result<Vec<Vec<u32>>> {
        pollster::block_on(self.encode_async(recording))
    }

    /// [`Self::encode`], without blocking.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub async fn encode_async(&self, recording: &Audio) -> Result<Vec<Vec<u32>>> {
        Ok(self.shared.model.encode_recording(recording.waveform().clone()).await?)
    }

    /// Sound of codes, `[codebook][frame]`.
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// let model = MusicGen::from_pretrained("musicgen-nano")?;
    /// let music = model.generate("a slow piano melody").seconds(0.2).run()?;
    /// assert_eq!(model.decode(music.codes())?, *music.audio());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Request`] if they are not of this model, [`Error::Sound`] if the device fails.
    pub fn decode(&self, codes: &[Vec<u32>]) -> Result<Audio> {
        pollster::block_on(self.decode_async(codes))
    }

    /// [`Self::decode`], without blocking.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub async fn decode_async(&self, codes: &[Vec<u32>]) -> Result<Audio> {
        self.check_codes(codes)?;
        Ok(self.shared.model.sound(codes).await?.into())
    }

    /// Every hook point, those of the text encoder first, in the order of the computation.
    ///
    /// ```
    /// use tonoscope::prelude::*;
    ///
    /// let model = MusicGen::from_pretrained("musicgen-nano")?;
    /// assert!(model.points().iter().any(|point| point.to_string() == "decoder.3.resid_post"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn points(&self) -> Vec<HookPoint> {
        self.shared.model.points()
    }

    /// Layers of the decoder.
    pub fn layers(&self) -> usize {
        self.shared.model.config().decoder.num_hidden_layers
    }

    /// Heads of each layer of the decoder.
    pub fn heads(&self) -> usize {
        self.shared.model.config().decoder.num_attention_heads
    }

    /// Width of the decoder's residual stream.
    pub fn width(&self) -> usize {
        self.shared.model.config().decoder.hidden_size
    }

    /// Frames of codes per second.
    pub fn frame_rate(&self) -> usize {
        self.shared.model.frame_rate()
    }

    /// Where it computes.
    pub fn device(&self) -> &DeviceInfo {
        &self.shared.device
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// The model behind this handle, for what has no verb here: the lens, interventions, single decoder steps.
    pub fn core(&self) -> &musicgen::MusicGen {
        &self.shared.model
    }

    /// Text to ids.
    pub fn tokenizer(&self) -> &T5Tokenizer {
        &self.shared.tokenizer
    }

    /// How the checkpoint likes to generate.
    pub fn generation(&self) -> &GenerationConfig {
        &self.shared.generation
    }

    /// Ids of `text` and the key of its `sample`-th piece: what the functions of [`core`](crate::core) take.
    ///
    /// # Errors
    /// [`Error::Prompt`] if the text encoder does not take it.
    pub fn prompt(&self, text: &str, sample: u64) -> Result<Prompt> {
        Prompt::of_text(&self.shared.tokenizer, text, sample)
            .map_err(|source| Error::Prompt { prompt: shortened(text), source })
    }

    pub(crate) fn check_codes(&self, codes: &[Vec<u32>]) -> Result<()> {
        let config = &self.shared.model.config().decoder;
        let (codebooks, frames) = (codes.len(), codes.first().map_or(0, Vec::len));
        let even = codes.iter().all(|row| row.len() == frames);
        let known = codes.iter().flatten().all(|&code| (code as usize) < config.vocab_size);
        if codebooks == config.num_codebooks && frames > 0 && even && known {
            return Ok(());
        }
        let what = format!(
            "these codes are not of this model, which has {} codebooks of {} codes",
            config.num_codebooks, config.vocab_size
        );
        Err(Error::request(what, "pass `[codebook][frame]`, all codebooks of one length"))
    }
}
