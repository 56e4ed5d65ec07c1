//! MusicGen folders: transformers' layout, and audiocraft's.

use std::path::{Path, PathBuf};

use super::{GenerationConfig, MusicGen, MusicgenConfig, audiocraft};
pub(super) use crate::checkpoint::read_json;
use crate::{
    checkpoint::{LoadError, Placement, Source, Weights, open_folder},
    models::t5::{T5Tokenizer, TokenError},
};

/// How a folder names its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `config.json`, `model.safetensors` or shards, `tokenizer.json`.
    Transformers,
    /// `state_dict.bin`, `compression_state_dict.bin`; the text encoder lies elsewhere.
    Audiocraft,
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
        if folder.join("state_dict.bin").exists() && !folder.join("config.json").exists() {
            let t5 = t5.ok_or_else(|| LoadError::Config {
                path: folder.join("state_dict.bin"),
                reason: "audiocraft keeps the text encoder elsewhere; put a `t5-base` folder beside it".to_owned(),
            })?;
            let (config, source) = audiocraft::open(folder, t5)?;
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
        config.decoder.check().map_err(|reason| LoadError::Config { path, reason })?;
        let generation = folder.join("generation_config.json");
        Ok(Self {
            layout: Layout::Transformers,
            config,
            generation: if generation.exists() { read_json(&generation)? } else { GenerationConfig::default() },
            source: open_folder(folder)?,
            tokenizer: folder.join("tokenizer.json"),
        })
    }

    /// The tokenizer beside the weights.
    ///
    /// # Errors
    /// [`TokenError::File`] if there is none or it does not parse.
    pub fn tokenizer(&self) -> Result<T5Tokenizer, TokenError> {
        let bytes = std::fs::read(&self.tokenizer)
            .map_err(|error| TokenError::File(format!("cannot read `{}`: {error}", self.tokenizer.display())))?;
        let config = &self.config.text_encoder;
        T5Tokenizer::from_bytes(&bytes, config.n_positions, config.vocab_size)
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
}

#[derive(serde::Deserialize)]
struct ModelType {
    model_type: Option<String>,
}
