//! A CLAP's folder, as transformers writes it.

use std::path::{Path, PathBuf};

use super::{Clap, ClapConfig, FeatureConfig, laion};
use crate::{
    checkpoint::{LoadError, Placement, Source, Weights, open_file, open_folder, read_json, unwrapped},
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
    /// Looks into `folder`: `config.json`, `preprocessor_config.json`, and `model.safetensors` or `pytorch_model.bin` (or
    /// their shards). A checkpoint of `laion_clap`, or a folder with one `.pt` file, needs no configuration.
    ///
    /// # Errors
    /// [`LoadError`] if it holds no CLAP, or a damaged one.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let laion = laion::file(path);
        let folder = if path.is_file() { path.parent().unwrap_or(Path::new("")) } else { path };
        let weights = match &laion {
            Some(file) => open_file(file)?,
            None => Self::configured(folder).and_then(|_| open_folder(folder))?,
        };
        let source = unwrapped(weights, &["logit_scale_a"]);
        let named = laion::is_named_so(source.as_ref());
        let (config, features) = if laion.is_some() && !folder.join("config.json").exists() {
            if !named {
                let reason = "it is no checkpoint of laion_clap, and there is no `config.json` beside it".to_owned();
                return Err(LoadError::Config { path: path.to_owned(), reason });
            }
            let (config, features) = laion::described(source.as_ref())?;
            match config.contradiction().or_else(|| features.contradiction()) {
                Some(reason) => return Err(LoadError::Config { path: path.to_owned(), reason }),
                None => (config, features),
            }
        } else {
            Self::configured(folder)?
        };
        let source: Box<dyn Source> = if named { Box::new(laion::renamed(source)) } else { source };
        Ok(Self { config, features, source, tokenizer: folder.join("tokenizer.json") })
    }

    /// The checkpoint of `laion_clap` that `path` is or holds alone; `None` of a folder in transformers' layout.
    pub fn laion_checkpoint(path: &Path) -> Option<PathBuf> {
        laion::file(path)
    }

    /// The configurations in `folder`.
    fn configured(folder: &Path) -> Result<(ClapConfig, FeatureConfig), LoadError> {
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
        match features.contradiction() {
            Some(reason) => Err(LoadError::Config { path, reason }),
            None => Ok((config, features)),
        }
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
        let config = &self.config.text_config;
        T5Tokenizer::from_file(&self.tokenizer, config.most_tokens(), config.vocab_size)
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
