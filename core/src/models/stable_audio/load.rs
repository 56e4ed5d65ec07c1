//! Stable Audio folders: diffusers' layout, and stable-audio-tools'.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{StableAudio, StableAudioConfig, tools};
pub(super) use crate::checkpoint::read_json;
use crate::{
    checkpoint::{
        LoadError, Overlay, Placement, Remapped, Source, Taken, Weights, adapted, open_folder, open_named_folder,
        unwrapped,
    },
    models::{
        oobleck::Oobleck,
        t5::{T5Config, T5Tokenizer, TokenError},
    },
};

/// How a folder names its files and tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `model_index.json` and a folder per part.
    Diffusers,
    /// `model_config.json` and `model.safetensors` or `model.ckpt`; the text encoder lies elsewhere.
    StableAudioTools,
}

/// A folder that holds a Stable Audio: configurations read, weights not yet.
pub struct StableAudioFiles {
    /// How its files are named.
    pub layout: Layout,
    /// Shape of the model.
    pub config: StableAudioConfig,
    source: Box<dyn Source>,
    tokenizer: PathBuf,
}

/// The length of `tokenizer_config.json`; a number that is none stands in many.
#[derive(Deserialize)]
struct TokenizerConfig {
    #[serde(default = "endless")]
    model_max_length: f64,
}

/// What transformers takes where a tokenizer states no length.
fn endless() -> f64 {
    1e30
}

impl StableAudioFiles {
    /// Looks into `folder`; `t5`, a folder of a T5 in transformers' layout, serves stable-audio-tools' layout, unless
    /// `text_encoder` and `tokenizer` lie in `folder` too, as they do on the Hub.
    ///
    /// # Errors
    /// [`LoadError`] if it holds no Stable Audio, a damaged one, or one of another kind.
    pub fn open(folder: &Path, t5: Option<&Path>) -> Result<Self, LoadError> {
        let tools = folder.join(tools::CONFIG);
        let has_parts = folder.join("transformer").join("config.json").exists();
        if !has_parts && tools.exists() {
            return Self::open_tools(folder, t5);
        }
        let read = |part: &str| folder.join(part).join("config.json");
        let text_encoder: T5Config = read_json(&read("text_encoder"))?;
        let config = StableAudioConfig {
            text_tokens: text_tokens(&folder.join("tokenizer"), &text_encoder)?,
            text_encoder,
            projection_model: read_json(&read("projection_model"))?,
            transformer: read_json(&read("transformer"))?,
            vae: read_json(&read("vae"))?,
            scheduler: read_json(&folder.join("scheduler").join("scheduler_config.json"))?,
        };
        checked(&config, &folder.join("model_index.json"))?;
        let mut parts: Vec<Box<dyn Source>> = vec![];
        for part in ["transformer", "vae", "projection_model"] {
            let name = "diffusion_pytorch_model";
            let source = open_named_folder(&folder.join(part), name, name)?;
            parts.push(Box::new(within(part, source)));
        }
        parts.push(Box::new(text_names(text_weights(&folder.join("text_encoder"))?)));
        Ok(Self {
            layout: Layout::Diffusers,
            config,
            source: Box::new(Overlay(parts)),
            tokenizer: folder.join("tokenizer").join("tokenizer.json"),
        })
    }

    fn open_tools(folder: &Path, t5: Option<&Path>) -> Result<Self, LoadError> {
        let beside = folder.join("text_encoder");
        let (text, tokenizer) = match t5 {
            Some(t5) => (t5.to_owned(), t5.join("tokenizer.json")),
            None if beside.join("config.json").exists() => (beside, folder.join("tokenizer").join("tokenizer.json")),
            None => {
                return Err(LoadError::Config {
                    path: folder.join(tools::CONFIG),
                    reason: "stable-audio-tools keeps the text encoder elsewhere; put a `t5-base` folder beside it"
                        .to_owned(),
                });
            }
        };
        let (config, source) = tools::open(folder, read_json(&text.join("config.json"))?)?;
        checked(&config, &folder.join(tools::CONFIG))?;
        let text = text_names(text_weights(&text)?);
        Ok(Self {
            layout: Layout::StableAudioTools,
            config,
            source: Box::new(Overlay(vec![source, Box::new(text)])),
            tokenizer,
        })
    }

    /// The tokenizer beside the weights, for texts of [`StableAudioConfig::text_tokens`] at most.
    ///
    /// # Errors
    /// [`TokenError::File`] if there is none or it does not parse.
    pub fn tokenizer(&self) -> Result<T5Tokenizer, TokenError> {
        T5Tokenizer::from_file(&self.tokenizer, self.config.text_tokens, self.config.text_encoder.vocab_size)
    }

    /// What was taken off the names of the weights; `None` for a plain checkpoint.
    pub fn wrapping(&self) -> Option<String> {
        self.source.wrapping()
    }

    /// The same files with the `LoRA` adapter in a folder of PEFT merged into the weights.
    ///
    /// # Errors
    /// [`LoadError`] if the adapter does not fit.
    pub fn with_adapter(mut self, folder: &Path) -> Result<Self, LoadError> {
        self.source = adapted(self.source, folder)?;
        Ok(self)
    }

    /// Places the weights.
    ///
    /// # Errors
    /// [`LoadError`] names the first tensor that is missing, left over, or of another shape.
    pub fn load(self, placement: Placement) -> Result<StableAudio, LoadError> {
        let weights = Weights::new(self.source, placement);
        let model = StableAudio::load(&self.config, &weights)?;
        weights.finish()?;
        Ok(model)
    }

    /// Places the weights of the autoencoder alone.
    ///
    /// # Errors
    /// [`LoadError`] names the first tensor that is missing or of another shape.
    pub fn load_vae(self, placement: Placement) -> Result<Oobleck, LoadError> {
        Oobleck::load(&self.config.vae, &Weights::new(self.source, placement).sub("vae"))
    }
}

fn checked(config: &StableAudioConfig, path: &Path) -> Result<(), LoadError> {
    config.check().map_err(|reason| LoadError::Config { path: path.to_owned(), reason })
}

/// Tokens that texts are padded to, as the tokenizer's own configuration says.
fn text_tokens(folder: &Path, text_encoder: &T5Config) -> Result<usize, LoadError> {
    let config: TokenizerConfig = read_json(&folder.join("tokenizer_config.json"))?;
    Ok((config.model_max_length as usize).min(text_encoder.n_positions))
}

/// The tensors of `source` under `prefix`.
pub(super) fn within(prefix: &str, source: Box<dyn Source>) -> Remapped<Box<dyn Source>> {
    Remapped::renaming(source, |name, _| vec![(format!("{prefix}.{name}"), Taken::all(name))])
}

fn text_weights(folder: &Path) -> Result<Box<dyn Source>, LoadError> {
    Ok(unwrapped(open_folder(folder)?, &["encoder.final_layer_norm.weight"]))
}

/// A file may hold the whole of T5; its decoder is not needed.
fn text_names(source: Box<dyn Source>) -> Remapped<Box<dyn Source>> {
    Remapped::renaming(source, |name, _| {
        let needed = name.starts_with("shared.") || name.starts_with("encoder.");
        if needed { vec![(format!("text_encoder.{name}"), Taken::all(name))] } else { vec![] }
    })
}
