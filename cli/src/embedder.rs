//! What embeds sound and text: from a name to a CLAP, and from any sound to a vector.

use std::{
    num::NonZeroUsize,
    panic::resume_unwind,
    path::Path,
    sync::OnceLock,
    thread::{self, available_parallelism},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tonoscope_backends::{DeviceName, Opened};
use tonoscope_core::{
    audio::Waveform,
    models::{
        clap::{CHECKED_TEXTS, Clap, ClapError, ClapFiles, Tower, Truncation},
        t5::{T5Tokenizer, TokenError, TokenIds},
    },
};
use tonoscope_hub::{CLAP, Checkpoint, HubConfig, Store};

use crate::{
    failure::Misuse,
    progress::{self, Transfer},
    readable::ReadableArgs,
    session::{announce, checksums, tell_wrapping},
};

/// Clips that go through the network together, unless told otherwise.
const BATCH: NonZeroUsize = NonZeroUsize::new(8).expect("not 0");
/// Texts that go through the network together.
const TEXTS_AT_ONCE: usize = 32;
/// Seconds beyond what the model hears that are resampled with it, so that cutting changes none of its samples.
const MARGIN: usize = 2;

/// Which CLAP, and how it is used.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EmbedderArgs {
    /// CLAP model: a name such as `larger_clap_general`, the published one, a Hub id `org/name[@revision]`, a folder, or a
    /// `.pt` file of `laion_clap`
    #[arg(long, value_name = "MODEL", default_value = "clap-nano")]
    pub(crate) clap: String,
    /// Clips that go through CLAP together
    #[arg(long, value_name = "N", default_value_t = BATCH)]
    pub(crate) embed_batch: NonZeroUsize,
    /// Take a CLAP that tells a tone from noise, or a dog from a piano, as little as an untrained one
    #[arg(long)]
    pub(crate) accept_degenerate: bool,
}

/// A CLAP that was found, its configurations read.
pub(crate) struct FoundEmbedder {
    files: ClapFiles,
    checkpoint: Checkpoint,
    args: EmbedderArgs,
}

/// A CLAP that is ready.
pub(crate) struct Embedder {
    clap: Clap,
    /// Looked for when the first text comes: sound needs none.
    tokenizer: Result<T5Tokenizer, TokenError>,
    key: Value,
    args: EmbedderArgs,
    /// How many share a batch. A GPU takes it in one piece.
    threads: usize,
    /// Towers that have shown that they tell something apart.
    checked: [OnceLock<()>; 2],
}

impl EmbedderArgs {
    /// The CLAP `model`, as it is used without further wishes.
    pub(crate) fn of(model: &str) -> Self {
        Self { clap: model.to_owned(), embed_batch: BATCH, accept_degenerate: false }
    }

    /// Finds the files, fetching them if they are on the Hub and not here yet.
    pub(crate) fn find(&self) -> Result<FoundEmbedder> {
        let store = Store::new(HubConfig::from_env()?);
        announce(&self.clap);
        let (files, checkpoint) = if let Some(file) = ClapFiles::laion_checkpoint(Path::new(&self.clap)) {
            (ClapFiles::open(&file)?, lone(&file))
        } else {
            let model = store.parse(&self.clap)?;
            let checkpoint = store.open(&model, &CLAP, &mut Transfer::new())?;
            (ClapFiles::open(&checkpoint.folder)?, checkpoint)
        };
        tell_wrapping(files.wrapping());
        Ok(FoundEmbedder { files, checkpoint, args: self.clone() })
    }

    /// Finds it and places its weights on a device.
    pub(crate) fn load(&self, opened: &Opened) -> Result<Embedder> {
        self.find()?.load(opened)
    }
}

/// A file of weights without anything beside it that belongs to it.
fn lone(file: &Path) -> Checkpoint {
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let files = file.file_name().map(|name| name.to_string_lossy().into_owned()).into_iter().collect();
    Checkpoint { folder, id: None, commit: None, files, without: vec![] }
}

impl FoundEmbedder {
    /// Places the weights on a device.
    pub(crate) fn load(self, opened: &Opened) -> Result<Embedder> {
        let spinner = progress::spinner(&format!("loading {}", self.args.clap));
        let key = json!({
            "model": self.args.clap,
            "revision": self.checkpoint.commit,
            "checksums": checksums(&self.checkpoint)?,
            "features": self.files.features,
        });
        let tokenizer = self.files.tokenizer();
        let clap = self.files.load(opened.placement.clone())?;
        spinner.finish_and_clear();
        // Burn's CPU backend does much of the work between two products on one thread.
        let on_cpu = opened.info.name == DeviceName::Cpu;
        let threads = if on_cpu { available_parallelism().map_or(1, usize::from) } else { 1 };
        Ok(Embedder { clap, tokenizer, key, args: self.args, threads, checked: [OnceLock::new(), OnceLock::new()] })
    }
}

impl Embedder {
    /// What decides the vectors, beside the device: name, revision, checksums and front end.
    pub(crate) fn key(&self) -> Value {
        self.key.clone()
    }

    /// Length of a vector.
    pub(crate) fn width(&self) -> usize {
        self.clap.width()
    }

    /// Clips that go through the network together.
    pub(crate) fn batch(&self) -> usize {
        self.args.embed_batch.get()
    }

    /// What a cosine is multiplied with before a softmax over texts.
    pub(crate) fn logit_scale(&self) -> f64 {
        self.clap.logit_scale()
    }

    /// One vector of length 1 per sound: of the mean of its channels, at the model's rate through torchaudio's filter (as
    /// in the published experiments), and of its first 10 s unless the model fuses longer ones.
    ///
    /// # Errors
    /// If the model tells no sounds apart, or the device fails.
    pub(crate) fn embed(&self, sounds: Vec<Waveform>) -> Result<Vec<Vec<f32>>> {
        self.check(Tower::Audio)?;
        let mut vectors = Vec::with_capacity(sounds.len());
        let mut sounds = sounds.into_iter().peekable();
        while sounds.peek().is_some() {
            vectors.extend(self.embed_batch(sounds.by_ref().take(self.batch()).collect())?);
        }
        Ok(vectors)
    }

    /// One vector of length 1 per text.
    ///
    /// # Errors
    /// If a text is empty or too long, the model has no tokenizer or tells no texts apart, or the device fails.
    pub(crate) fn embed_texts(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let ids = self.tokenise(texts)?;
        self.check(Tower::Text)?;
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in ids.chunks(TEXTS_AT_ONCE) {
            vectors.extend(pollster::block_on(self.clap.embed_text(batch))?);
        }
        Ok(vectors)
    }

    /// Warns of words in `texts` that the model cannot read, or refuses them.
    ///
    /// # Errors
    /// As [`Self::embed_texts`], and [`Misuse`] where `readable` refuses a text.
    pub(crate) fn check_readable(&self, readable: ReadableArgs, texts: &[String]) -> Result<()> {
        let ids = self.tokenise(texts)?;
        if let Ok(tokenizer) = &self.tokenizer {
            readable.check(tokenizer, texts.iter().map(String::as_str).zip(ids.iter().map(Vec::as_slice)))?;
        }
        Ok(())
    }

    fn tokenise<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<TokenIds>> {
        let tokenizer = self.tokenizer.as_ref().map_err(|error| TokenError::File(error.to_string()))?;
        let ids = |text: &T| {
            let text = text.as_ref();
            if text.trim().is_empty() {
                return Err(Misuse::new("a text without words").into());
            }
            tokenizer.encode(text).with_context(|| format!("`{text}`"))
        };
        texts.iter().map(ids).collect()
    }

    /// A batch, divided among threads.
    fn embed_batch(&self, batch: Vec<Waveform>) -> Result<Vec<Vec<f32>>> {
        let share = batch.len().div_ceil(self.threads).max(1);
        let mut batch = batch.into_iter().peekable();
        let mut shares: Vec<Vec<Waveform>> = vec![];
        while batch.peek().is_some() {
            shares.push(batch.by_ref().take(share).collect());
        }
        let part = |part: Vec<Waveform>| -> Result<Vec<Vec<f32>>> {
            let clips = part.into_iter().map(|wave| self.as_heard(wave)).collect::<Result<Vec<_>>>()?;
            let clips: Vec<&[f32]> = clips.iter().map(Vec::as_slice).collect();
            Ok(pollster::block_on(self.clap.embed_audio(&clips))?)
        };
        let parts: Vec<Result<Vec<Vec<f32>>>> = thread::scope(|scope| {
            let workers: Vec<_> = shares.into_iter().map(|clips| scope.spawn(move || part(clips))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// The mean of all channels at the model's rate. What the model does not hear is cut off first.
    fn as_heard(&self, wave: Waveform) -> Result<Vec<f32>> {
        let config = self.clap.front_end().config();
        let rate = u32::try_from(config.sampling_rate).context("the sample rate of CLAP")?;
        let whole = config.truncation == Truncation::Fusion;
        let most = (config.max_length_s + MARGIN).saturating_mul(wave.sample_rate() as usize);
        let wave = if whole || wave.samples() <= most {
            wave
        } else {
            let cut = wave.channels().iter().map(|channel| channel[..most].to_vec()).collect();
            Waveform::new(cut, wave.sample_rate())?
        };
        let mut heard = wave.to_mono().resample_sinc(rate)?.channels()[0].clone();
        if !whole {
            heard.truncate(config.samples());
        }
        Ok(heard)
    }

    /// Lets a tower show that it tells something apart, once.
    fn check(&self, tower: Tower) -> Result<()> {
        let done = &self.checked[usize::from(tower == Tower::Text)];
        if done.get().is_some() {
            return Ok(());
        }
        let result = match tower {
            Tower::Audio => pollster::block_on(self.clap.check_audio()),
            Tower::Text => pollster::block_on(self.clap.check_text(&self.tokenise(&CHECKED_TEXTS)?)),
        };
        match result {
            Err(error @ ClapError::Degenerate { .. }) if self.args.accept_degenerate => {
                progress::note(&error.to_string());
            }
            result => result?,
        }
        // Another thread may have come first, and found the same.
        let _ = done.set(());
        Ok(())
    }
}

/// Cosine of the angle between two vectors of length 1.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
