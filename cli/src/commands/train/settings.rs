//! What a file of settings says.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tonoscope_core::{
    models::{
        clap::FeatureConfig, encodec::EncodecConfig, musicgen::DecoderConfig, oobleck::OobleckConfig,
        passt::PasstConfig, stable_audio::DitConfig,
    },
    training::{AutoencoderWeights, CodecWeights, Optimiser},
};

use crate::failure::Misuse;

/// One training.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Name of the model.
    pub(super) name: String,
    /// Where the music comes from.
    pub(super) music: Music,
    /// Share of the corpus's phrases that are a melody alone.
    #[serde(default)]
    pub(super) solos: f64,
    /// Folder of a model of the same shape that this one begins as, from that of the settings; its words are kept.
    #[serde(default)]
    pub(super) start: Option<PathBuf>,
    /// Share of `start` in the weights of the finished model.
    #[serde(default)]
    pub(super) keep: f64,
    /// Everything random follows from it.
    pub(super) seed: u64,
    /// Steps in all.
    pub(super) steps: usize,
    /// Clips that a step sees.
    pub(super) batch: usize,
    /// Length of a clip.
    pub(super) seconds: f64,
    /// Held-out clips.
    pub(super) held_out: usize,
    /// Steps from one look at held-out clips to the next.
    pub(super) validate_every: usize,
    /// Steps from one saved state to the next.
    pub(super) save_every: usize,
    pub(super) optimiser: Optimiser,
    pub(super) model: Model,
}

/// Where the music comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Music {
    /// Notes of a few harmonics, without any file.
    Harmonics,
    /// Melody, chords and bass by the soundfont inside the program.
    Soundfont,
}

/// What is trained.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Model {
    /// An EnCodec.
    Codec { loss: CodecWeights, config: EncodecConfig },
    /// An Oobleck.
    Autoencoder { loss: AutoencoderWeights, config: OobleckConfig },
    /// A Stable Audio with its text encoder, over an autoencoder that is there.
    Diffusion {
        /// Folder of the autoencoder, from that of the settings.
        autoencoder: PathBuf,
        /// Clips that are turned into latents once, and drawn from.
        clips: usize,
        /// Share of clips that are shown without their text.
        without_text: f64,
        /// Tokens that a text is filled up to.
        text_tokens: usize,
        /// As in `config.json`, without `vocab_size`, which the captions decide.
        text_encoder: toml::Table,
        transformer: DitConfig,
    },
    /// A PaSST over the instruments and genres of the corpus.
    Tagger {
        /// Folder of a codec, from that of the settings, which every second clip passes through.
        codec: Option<PathBuf>,
        config: PasstConfig,
    },
    /// A CLAP of phrases and single notes.
    Contrast {
        /// Folder of an autoencoder, from that of the settings, which every second phrase passes through.
        autoencoder: Option<PathBuf>,
        /// Phrases that are turned into spectrograms once, and drawn from.
        clips: usize,
        /// General MIDI programs whose notes are learnt from, and those whose are not.
        programs: Vec<u16>,
        held_out_programs: Vec<u16>,
        /// Notes of each.
        notes_per_program: u16,
        /// As in `preprocessor_config.json`.
        features: FeatureConfig,
        /// As in `config.json`; without `vocab_size`, which the captions decide.
        config: toml::Table,
    },
    /// A MusicGen with its text encoder, over a codec that is there.
    Musicgen {
        /// Folder of the codec, from that of the settings.
        codec: PathBuf,
        /// Clips that are turned into codes once, and drawn from.
        clips: usize,
        /// Share of clips that are shown without their text.
        without_text: f64,
        /// As in `config.json`, without `vocab_size`, which the captions decide.
        text_encoder: toml::Table,
        decoder: DecoderConfig,
    },
}

/// Seconds of music that are heard together, and of all clips that are turned into what a model learns from.
const MOST_AT_ONCE: f64 = 3_600.0;
const MOST_CLIPS: f64 = 1e6;
/// Tokens of a text.
const MOST_TOKENS: usize = 4096;

impl Model {
    /// Clips that are encoded before the training.
    fn clips(&self) -> Option<usize> {
        match self {
            Self::Codec { .. } | Self::Autoencoder { .. } | Self::Tagger { .. } => None,
            Self::Diffusion { clips, .. } | Self::Contrast { clips, .. } | Self::Musicgen { clips, .. } => Some(*clips),
        }
    }

    fn text_tokens(&self) -> Option<usize> {
        if let Self::Diffusion { text_tokens, .. } = self { Some(*text_tokens) } else { None }
    }

    /// Folder of the model that this one is trained over, from that of the settings.
    pub(super) fn folder(&self) -> Option<&PathBuf> {
        match self {
            Self::Codec { .. } | Self::Autoencoder { .. } => None,
            Self::Diffusion { autoencoder, .. } => Some(autoencoder),
            Self::Tagger { codec, .. } | Self::Contrast { autoencoder: codec, .. } => codec.as_ref(),
            Self::Musicgen { codec, .. } => Some(codec),
        }
    }
}

impl Settings {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<(Self, String)> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let wrong = |what: String| {
            Misuse::new(format!("`{}`: {what}", path.display())).hint("see `data/training/` for files that work")
        };
        let mut settings: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let positive = [
            ("steps", settings.steps),
            ("batch", settings.batch),
            ("held_out", settings.held_out),
            ("validate_every", settings.validate_every),
            ("save_every", settings.save_every),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(wrong(format!("`{name}` is 0, expected a positive number")).into());
        }
        if !(0.1..=60.0).contains(&settings.seconds) {
            return Err(wrong(format!("`seconds` is {}, expected 0.1 to 60", settings.seconds)).into());
        }
        // What stands in memory at once.
        let clips = [("batch", settings.batch, MOST_AT_ONCE), ("held_out", settings.held_out, MOST_AT_ONCE)];
        let clips = clips.into_iter().chain(settings.model.clips().map(|clips| ("clips", clips, MOST_CLIPS)));
        for (name, count, most) in clips {
            let seconds = count as f64 * settings.seconds;
            if seconds > most {
                return Err(
                    wrong(format!("`{name}` is {count}, which are {seconds} s of music, at most {most} s")).into()
                );
            }
        }
        if let Some(tokens) = settings.model.text_tokens().filter(|tokens| !(1..=MOST_TOKENS).contains(tokens)) {
            return Err(wrong(format!("`text_tokens` is {tokens}, expected 1 to {MOST_TOKENS}")).into());
        }
        if !(0.0..=1.0).contains(&settings.solos) || (settings.solos > 0.0 && settings.music == Music::Harmonics) {
            let what = "expected 0 to 1, and above 0 only of `soundfont`";
            return Err(wrong(format!("`solos` is {}, {what}", settings.solos)).into());
        }
        if !(0.0..1.0).contains(&settings.keep) || (settings.keep > 0.0 && settings.start.is_none()) {
            let what = "expected 0 to less than 1, and above 0 only with `start`";
            return Err(wrong(format!("`keep` is {}, {what}", settings.keep)).into());
        }
        settings.start = settings.start.map(|start| path.parent().unwrap_or(Path::new(".")).join(start));
        Ok((settings, text))
    }
}
