//! CLAP: sound and text as vectors of one space.

use std::{
    num::NonZeroUsize,
    panic::resume_unwind,
    sync::{Arc, OnceLock},
    thread::{self, available_parallelism},
};

use tonoscope_backends::{DeviceInfo, DeviceName, Opened};
use tonoscope_core::models::{
    clap::{self, CHECKED_TEXTS, ClapError, ClapFiles, FeatureConfig, Tower, Truncation},
    t5::{T5Tokenizer, TokenError, TokenIds},
};
use tonoscope_hub::CLAP;

use crate::{
    Audio, Error, Result,
    load::{Builder, Found, Origin, Place, Pretrained, Search},
    text::shortened,
};

/// Clips that go through the network together, unless told otherwise.
const BATCH: NonZeroUsize = NonZeroUsize::new(8).expect("not 0");
/// Texts that go through the network together.
const TEXTS_AT_ONCE: usize = 32;
/// Seconds beyond what the model hears that are resampled with it, so that cutting changes none of its samples.
const MARGIN: usize = 2;

/// Told that a model tells nothing apart.
type Warn = Arc<dyn Fn(&ClapError) + Send + Sync>;

/// A CLAP on a device. Cheap to clone.
///
/// ```
/// use tonoscope::{cosine, prelude::*};
///
/// let clap = Clap::from_pretrained("clap-nano")?;
/// let tone = (0..48_000).map(|sample| (sample as f32 * 0.05).sin() * 0.5).collect();
/// let sounds = clap.embed_audio(&[Audio::new(vec![tone], 48_000)?])?;
/// let texts = clap.embed_text(&["a slow piano melody", "fast drums"])?;
/// let nearness: Vec<f64> = texts.iter().map(|text| cosine(&sounds[0], text)).collect();
/// assert_eq!(nearness.len(), 2);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Clap {
    shared: Arc<Shared>,
    batch: NonZeroUsize,
    degenerate: Option<Warn>,
}

struct Shared {
    clap: clap::Clap,
    /// Looked for when the first text comes: sound needs none.
    tokenizer: Result<T5Tokenizer, TokenError>,
    features: FeatureConfig,
    origin: Origin,
    device: DeviceInfo,
    /// How many share a batch. A GPU takes it in one piece.
    threads: usize,
    /// Towers that have shown that they tell something apart.
    checked: [OnceLock<()>; 2],
}

/// What is known of a CLAP before its weights are read.
pub struct ClapParts {
    /// Configurations, and where the weights lie.
    pub files: ClapFiles,
}

impl Pretrained for Clap {
    type Parts = ClapParts;

    fn find(search: &mut Search<'_>) -> Result<Found<Self>> {
        let model = search.model()?;
        let checkpoint = search.store.open(&model, &CLAP, search.progress)?;
        let files = ClapFiles::open(&checkpoint.folder)?;
        let origin = Origin {
            name: search.name.to_owned(),
            revision: checkpoint.commit.clone(),
            layout: "transformers",
            places: vec![Place::Checkpoint(checkpoint)],
        };
        Ok(Found { parts: ClapParts { files }, origin })
    }

    fn place(found: Found<Self>, opened: &Opened) -> Result<Self> {
        let Found { parts: ClapParts { files }, origin } = found;
        let (tokenizer, features) = (files.tokenizer(), files.features.clone());
        let clap = files.load(opened.placement.clone())?;
        // Burn's CPU backend does much of the work between two products on one thread.
        let on_cpu = opened.info.name == DeviceName::Cpu;
        let threads = if on_cpu { available_parallelism().map_or(1, usize::from) } else { 1 };
        let checked = [OnceLock::new(), OnceLock::new()];
        let device = opened.info.clone();
        let shared = Shared { clap, tokenizer, features, origin, device, threads, checked };
        Ok(Self { shared: Arc::new(shared), batch: BATCH, degenerate: None })
    }
}

impl Clap {
    /// The model `name` on the best device: built in, such as `clap-nano`; on the Hub, `org/name[@revision]` or a short name
    /// such as `larger_clap_general`; or a folder, as transformers writes it.
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

    /// Clips that go through the network together; 8 unless told otherwise.
    #[must_use]
    pub fn batch_size(mut self, clips: NonZeroUsize) -> Self {
        self.batch = clips;
        self
    }

    /// Uses the model although it tells a tone from noise, or a dog from a piano, as little as an untrained one; `warn` is
    /// told so.
    #[must_use]
    pub fn accept_degenerate(mut self, warn: impl Fn(&ClapError) + Send + Sync + 'static) -> Self {
        self.degenerate = Some(Arc::new(warn));
        self
    }

    /// One vector of length 1 per sound: of the mean of its channels, at the model's rate through torchaudio's filter (as
    /// in the published experiments), and of its first 10 s unless the model fuses longer ones.
    ///
    /// # Errors
    /// If the model tells no sounds apart, or the device fails.
    pub fn embed_audio<A: AsRef<Audio> + Sync>(&self, sounds: &[A]) -> Result<Vec<Vec<f32>>> {
        pollster::block_on(self.check(Tower::Audio))?;
        let mut vectors = Vec::with_capacity(sounds.len());
        for batch in sounds.chunks(self.batch.get()) {
            let share = batch.len().div_ceil(self.shared.threads).max(1);
            let parts: Vec<Result<Vec<Vec<f32>>>> = thread::scope(|scope| {
                let embed = |part| scope.spawn(move || pollster::block_on(self.embed_together(part)));
                let workers: Vec<_> = batch.chunks(share).map(embed).collect();
                workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
            });
            for part in parts {
                vectors.extend(part?);
            }
        }
        Ok(vectors)
    }

    /// [`Self::embed_audio`], without blocking, on one thread.
    ///
    /// # Errors
    /// As [`Self::embed_audio`].
    pub async fn embed_audio_async<A: AsRef<Audio>>(&self, sounds: &[A]) -> Result<Vec<Vec<f32>>> {
        self.check(Tower::Audio).await?;
        let mut vectors = Vec::with_capacity(sounds.len());
        for batch in sounds.chunks(self.batch.get()) {
            vectors.extend(self.embed_together(batch).await?);
        }
        Ok(vectors)
    }

    /// One vector of length 1 per text.
    ///
    /// # Errors
    /// If a text is empty or too long, the model has no tokenizer or tells no texts apart, or the device fails.
    pub fn embed_text<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Vec<f32>>> {
        pollster::block_on(self.embed_text_async(texts))
    }

    /// [`Self::embed_text`], without blocking.
    ///
    /// # Errors
    /// As [`Self::embed_text`].
    pub async fn embed_text_async<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Vec<f32>>> {
        let ids = self.tokenise(texts)?;
        self.check(Tower::Text).await?;
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in ids.chunks(TEXTS_AT_ONCE) {
            vectors.extend(self.shared.clap.embed_text(batch).await?);
        }
        Ok(vectors)
    }

    /// Ids of texts.
    ///
    /// # Errors
    /// If a text is empty or too long, or the model has no tokenizer.
    pub fn tokenise<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<TokenIds>> {
        let tokenizer = self.tokenizer()?;
        let ids = |text: &T| {
            let text = text.as_ref();
            if text.trim().is_empty() {
                return Err(Error::request("a text without words", "CLAP embeds what a text says"));
            }
            tokenizer.encode(text).map_err(|source| Error::Prompt { prompt: shortened(text), source })
        };
        texts.iter().map(ids).collect()
    }

    /// Text to ids.
    ///
    /// # Errors
    /// If the model has no tokenizer.
    pub fn tokenizer(&self) -> Result<&T5Tokenizer> {
        let tokenizer = self.shared.tokenizer.as_ref();
        tokenizer.map_err(|error| Error::Tokenizer(TokenError::File(error.to_string())))
    }

    /// Length of a vector.
    pub fn width(&self) -> usize {
        self.shared.clap.width()
    }

    /// Clips that go through the network together.
    pub fn clips_at_once(&self) -> usize {
        self.batch.get()
    }

    /// What a cosine is multiplied with before a softmax over texts.
    pub fn logit_scale(&self) -> f64 {
        self.shared.clap.logit_scale()
    }

    /// Shape of the front end.
    pub fn features(&self) -> &FeatureConfig {
        &self.shared.features
    }

    /// Where it computes.
    pub fn device(&self) -> &DeviceInfo {
        &self.shared.device
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// The model behind this handle.
    pub fn core(&self) -> &clap::Clap {
        &self.shared.clap
    }

    async fn embed_together<A: AsRef<Audio>>(&self, batch: &[A]) -> Result<Vec<Vec<f32>>> {
        let clips = batch.iter().map(|sound| self.as_heard(sound.as_ref())).collect::<Result<Vec<_>>>()?;
        let clips: Vec<&[f32]> = clips.iter().map(Vec::as_slice).collect();
        Ok(self.shared.clap.embed_audio(&clips).await?)
    }

    /// The mean of all channels at the model's rate. What the model does not hear is cut off first.
    fn as_heard(&self, sound: &Audio) -> Result<Vec<f32>> {
        let config = self.shared.clap.front_end().config();
        let rate = u32::try_from(config.sampling_rate)
            .map_err(|_| Error::request("a CLAP with an absurd sample rate", "take another checkpoint"))?;
        let whole = config.truncation == Truncation::Fusion;
        let most = (config.max_length_s + MARGIN).saturating_mul(sound.sample_rate() as usize);
        let sound = if whole || sound.samples().len() <= most {
            sound.clone()
        } else {
            let cut = sound.channels().iter().map(|channel| channel[..most].to_vec()).collect();
            Audio::new(cut, sound.sample_rate())?
        };
        let mut heard = sound.into_waveform().to_mono().resample_sinc(rate)?.channels()[0].clone();
        if !whole {
            heard.truncate(config.samples());
        }
        Ok(heard)
    }

    /// Lets a tower show that it tells something apart, once.
    async fn check(&self, tower: Tower) -> Result<()> {
        let done = &self.shared.checked[usize::from(tower == Tower::Text)];
        if done.get().is_some() {
            return Ok(());
        }
        let result = match tower {
            Tower::Audio => self.shared.clap.check_audio().await,
            Tower::Text => self.shared.clap.check_text(&self.tokenise(&CHECKED_TEXTS)?).await,
        };
        match (result, &self.degenerate) {
            (Err(error @ ClapError::Degenerate { .. }), Some(warn)) => warn(&error),
            (result, _) => result?,
        }
        // Another thread may have come first, and found the same.
        let _ = done.set(());
        Ok(())
    }
}

/// Cosine of the angle between two vectors of length 1.
///
/// ```
/// assert_eq!(tonoscope::cosine(&[1.0, 0.0], &[0.6, 0.8]), f64::from(0.6f32));
/// ```
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
