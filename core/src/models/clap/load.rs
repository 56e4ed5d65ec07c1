//! A CLAP's folder, as transformers writes it.

use std::path::{Path, PathBuf};

use super::{Clap, ClapConfig, FeatureConfig};
use crate::{
    checkpoint::{LoadError, Placement, PyTorchFile, Source, Weights, open_folder, read_json},
    models::t5::{T5Tokenizer, TokenError},
};

/// A folder that holds a CLAP: configurations read, weights not yet.
pub struct ClapFiles {
    /// Shape of the model.
    pub config: ClapConfig,
    /// Shape of its front end.
    pub features: FeatureConfig,
    source: Box<dyn Source>,
    tokenizer: PathBuf,
}

impl ClapFiles {
    /// Looks into `folder`: `config.json`, `preprocessor_config.json`, and `model.safetensors` (or its shards) or
    /// `pytorch_model.bin`.
    ///
    /// # Errors
    /// [`LoadError`] if it holds no CLAP, or a damaged one.
    pub fn open(folder: &Path) -> Result<Self, LoadError> {
        #[derive(serde::Deserialize)]
        struct ModelType {
            model_type: Option<String>,
        }
        let path = folder.join("config.json");
        let ModelType { model_type } = read_json(&path)?;
        if model_type.as_deref() != Some("clap") {
            let found = model_type.unwrap_or_else(|| "nothing".to_owned());
            return Err(LoadError::Config { path, reason: format!("`model_type` is `{found}`, expected `clap`") });
        }
        let config: ClapConfig = read_json(&path)?;
        if let Some(reason) = config.contradiction() {
            return Err(LoadError::Config { path, reason });
        }
        let path = folder.join("preprocessor_config.json");
        let features: FeatureConfig = read_json(&path)?;
        if let Some(reason) = features.contradiction() {
            return Err(LoadError::Config { path, reason });
        }
        let pickled = folder.join("pytorch_model.bin");
        let has = |name: &str| folder.join(name).exists();
        let source: Box<dyn Source> =
            if pickled.exists() && !has("model.safetensors") && !has("model.safetensors.index.json") {
                Box::new(PyTorchFile::open(&pickled, None)?)
            } else {
                open_folder(folder)?
            };
        Ok(Self { config, features, source, tokenizer: folder.join("tokenizer.json") })
    }

    /// The tokenizer beside the weights.
    ///
    /// # Errors
    /// [`TokenError::File`] if there is none or it does not parse.
    pub fn tokenizer(&self) -> Result<T5Tokenizer, TokenError> {
        let bytes = std::fs::read(&self.tokenizer)
            .map_err(|error| TokenError::File(format!("cannot read `{}`: {error}", self.tokenizer.display())))?;
        let config = &self.config.text_config;
        T5Tokenizer::from_bytes(&bytes, config.most_tokens(), config.vocab_size)
    }

    /// Places the weights.
    ///
    /// # Errors
    /// [`LoadError`] names the first tensor that is missing, left over, or of another shape.
    pub fn load(self, placement: Placement) -> Result<Clap, LoadError> {
        let weights = Weights::new(self.source, placement);
        let clap = Clap::load(&self.config, &self.features, &weights)?;
        weights.finish()?;
        Ok(clap)
    }
}
