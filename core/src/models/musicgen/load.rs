//! MusicGen folders: transformers' layout, and audiocraft's.

use std::path::{Path, PathBuf};

use super::{GenerationConfig, MusicGen, MusicgenConfig, audiocraft};
pub(super) use crate::checkpoint::read_json;
use crate::{
    checkpoint::{LoadError, Placement, Source, Weights, adapted, exists, open_folder, unwrapped},
    models::{
        encodec::Encodec,
        t5::{T5Encoder, T5Tokenizer, TokenError},
    },
};

/// How a folder names its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `config.json`, `model.safetensors` or shards, `tokenizer.json`.
    Transformers,
    /// `state_dict.bin`, `compression_state_dict.bin`; the text encoder lies elsewhere.
    Audiocraft,
}

/// Folders of what a MusicGen needs and does not hold itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// A T5 in transformers' layout, for audiocraft's layout.
    pub t5: Option<&'a Path>,
    /// The codec that [`MusicgenFiles::published_codec`] names.
    pub codec: Option<&'a Path>,
    /// A `LoRA` adapter as PEFT saves it, merged into the weights.
    pub adapter: Option<&'a Path>,
}

/// A folder that holds a MusicGen: configurations read, weights not yet.
pub struct MusicgenFiles {
    /// How its tensors are named.
    pub layout: Layout,
    /// Shape of the model.
    pub config: MusicgenConfig,
    /// How it likes to generate.
    pub generation: GenerationConfig,
    source: Box<dyn Source>,
    tokenizer: PathBuf,
}

impl MusicgenFiles {
    /// Looks into `folder`; `t5`, a folder of a T5 in transformers' layout, serves audiocraft's layout.
    ///
    /// # Errors
    /// [`LoadError`] if it holds no MusicGen, or a damaged one.
    pub fn open(folder: &Path, t5: Option<&Path>) -> Result<Self, LoadError> {
        Self::open_with(folder, Beside { t5, ..Beside::default() })
    }

    /// The published codec that a folder in audiocraft's layout names instead of holding one, such as
    /// `facebook/encodec_32khz`; `None` if it holds one.
    ///
    /// # Errors
    /// [`LoadError`] if a file cannot be read.
    pub fn published_codec(folder: &Path) -> Result<Option<String>, LoadError> {
        if is_audiocraft(folder) { audiocraft::published_codec(folder) } else { Ok(None) }
    }

    /// Looks into `folder` and into what lies `beside` it.
    ///
    /// # Errors
    /// As [`Self::open`]; [`LoadError`] if an adapter does not fit.
    pub fn open_with(folder: &Path, beside: Beside<'_>) -> Result<Self, LoadError> {
        let mut files = Self::open_base(folder, beside)?;
        if let Some(adapter) = beside.adapter {
            files.source = adapted(files.source, adapter)?;
        }
        Ok(files)
    }

    fn open_base(folder: &Path, beside: Beside<'_>) -> Result<Self, LoadError> {
        if is_audiocraft(folder) {
            let t5 = beside.t5.ok_or_else(|| LoadError::Config {
                path: folder.join(audiocraft::LANGUAGE_MODEL),
                reason: "audiocraft keeps the text encoder elsewhere; put a `t5-base` folder beside it".to_owned(),
            })?;
            let (config, source) = audiocraft::open(folder, t5, beside.codec)?;
            return Ok(Self {
                layout: Layout::Audiocraft,
                config,
                generation: GenerationConfig::default(),
                source,
                tokenizer: t5.join("tokenizer.json"),
            });
        }
        let path = folder.join("config.json");
        let model_type: ModelType = read_json(&path)?;
        if model_type.model_type.as_deref() != Some("musicgen") {
            let found = model_type.model_type.unwrap_or_else(|| "nothing".to_owned());
            return Err(LoadError::Config { path, reason: format!("`model_type` is `{found}`, expected `musicgen`") });
        }
        let config: MusicgenConfig = read_json(&path)?;
        config.check().map_err(|reason| LoadError::Config { path, reason })?;
        let generation = folder.join("generation_config.json");
        Ok(Self {
            layout: Layout::Transformers,
            config,
            generation: if exists(&generation) { read_json(&generation)? } else { GenerationConfig::default() },
            source: unwrapped(open_folder(folder)?, &["decoder.model.decoder.layer_norm.weight"]),
            tokenizer: folder.join("tokenizer.json"),
        })
    }

    /// What was taken off the names of the weights; `None` for a plain checkpoint.
    pub fn wrapping(&self) -> Option<String> {
        self.source.wrapping()
    }

    /// The tokenizer beside the weights.
    ///
    /// # Errors
    /// [`TokenError::File`] if there is none or it does not parse.
    pub fn tokenizer(&self) -> Result<T5Tokenizer, TokenError> {
        let config = &self.config.text_encoder;
        T5Tokenizer::from_file(&self.tokenizer, config.n_positions, config.vocab_size)
    }

    /// Places the weights.
    ///
    /// # Errors
    /// [`LoadError`] names the first tensor that is missing, left over, or of another shape.
    pub fn load(self, placement: Placement) -> Result<MusicGen, LoadError> {
        let weights = Weights::new(self.source, placement);
        let model = MusicGen::load(&self.config, &weights)?;
        weights.finish()?;
        Ok(model)
    }

    /// Places the weights of the audio codec alone.
    ///
    /// # Errors
    /// [`LoadError`] names the first tensor that is missing or of another shape.
    pub fn load_audio_encoder(self, placement: Placement) -> Result<Encodec, LoadError> {
        Encodec::load(&self.config.audio_encoder, &Weights::new(self.source, placement).sub("audio_encoder"))
    }

    /// Places the weights of the text encoder alone.
    ///
    /// # Errors
    /// [`LoadError`] names the first tensor that is missing or of another shape.
    pub fn load_text_encoder(self, placement: Placement) -> Result<T5Encoder, LoadError> {
        T5Encoder::load(&self.config.text_encoder, &Weights::new(self.source, placement).sub("text_encoder"))
    }
}

fn is_audiocraft(folder: &Path) -> bool {
    folder.join(audiocraft::LANGUAGE_MODEL).exists() && !folder.join("config.json").exists()
}

#[derive(serde::Deserialize)]
struct ModelType {
    model_type: Option<String>,
}
