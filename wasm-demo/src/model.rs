//! A MusicGen out of files that the page holds, in transformers' layout.

use serde::{Deserialize, de::DeserializeOwned};
use sha2::Digest as _;
use tonoscope_core::{
    checkpoint::{LoadError, Overlay, Placement, RawTensor, SafetensorsFile, Source, Weights, parse_json},
    models::{
        musicgen::{GenerationConfig, MusicGen, MusicgenConfig},
        t5::T5Tokenizer,
    },
};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

use crate::{
    bridge,
    failure::{failed, not_loaded},
};

/// A file of weights on the page's side.
#[derive(Debug, Deserialize)]
pub(crate) struct Shard {
    /// For errors.
    name: String,
    /// Its number on the page's side.
    file: u32,
    bytes: u64,
}

impl Shard {
    /// Reads its header now, every tensor when it is used.
    pub(crate) fn open(self) -> Result<SafetensorsFile, LoadError> {
        let Self { name, file, bytes } = self;
        SafetensorsFile::from_reader(&name, bytes, move |range| bridge::read_file(file, range))
    }
}

/// A model, its tokenizer, and how it likes to generate.
pub(crate) struct Loaded {
    pub(crate) model: MusicGen,
    pub(crate) tokenizer: T5Tokenizer,
    pub(crate) generation: GenerationConfig,
}

/// Places the weights tensor by tensor: no more than one of them is in this memory at a time, beside the model.
pub(crate) fn load(
    shards: Vec<Shard>,
    config: &[u8],
    generation: Option<&[u8]>,
    tokenizer: &[u8],
    placement: &Placement,
) -> Result<Loaded, JsError> {
    check_type(config).map_err(|error| not_loaded(&error))?;
    let config: MusicgenConfig = json("config.json", config).map_err(|error| not_loaded(&error))?;
    let generation = match generation {
        Some(bytes) => json("generation_config.json", bytes).map_err(|error| not_loaded(&error))?,
        None => GenerationConfig::default(),
    };
    let text = &config.text_encoder;
    let tokenizer = T5Tokenizer::from_bytes(tokenizer, text.n_positions, text.vocab_size).map_err(failed)?;
    let model = place(shards, &config, placement).map_err(|error| not_loaded(&error))?;
    Ok(Loaded { model, tokenizer, generation })
}

fn place(shards: Vec<Shard>, config: &MusicgenConfig, placement: &Placement) -> Result<MusicGen, LoadError> {
    let total = shards.iter().map(|shard| shard.bytes).sum();
    let mut sources: Vec<Box<dyn Source>> = vec![];
    for shard in shards {
        sources.push(Box::new(shard.open()?));
    }
    let source = Watched { inner: Overlay(sources), total, read: std::sync::atomic::AtomicU64::new(0) };
    let weights = Weights::new(Box::new(source), placement.clone());
    let model = MusicGen::load(config, &weights)?;
    weights.finish()?;
    Ok(model)
}

/// Tells the page how much has been read.
struct Watched {
    inner: Overlay,
    total: u64,
    read: std::sync::atomic::AtomicU64,
}

impl Source for Watched {
    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.inner.shape(name)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError> {
        let raw = self.inner.read(name)?;
        let bytes = raw.bytes.len() as u64;
        let read = bytes + self.read.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        // Loading is stopped by ending the worker: a library that reads files has no other way out.
        let _ = bridge::step(read as usize, self.total as usize);
        Ok(raw)
    }
}

fn check_type(config: &[u8]) -> Result<(), LoadError> {
    #[derive(Deserialize)]
    struct ModelType {
        model_type: Option<String>,
    }
    let found: ModelType = json("config.json", config)?;
    let found = found.model_type.unwrap_or_else(|| "nothing".to_owned());
    if found == "musicgen" {
        return Ok(());
    }
    let reason = format!("`model_type` is `{found}`, expected `musicgen`");
    Err(LoadError::Config { path: "config.json".into(), reason })
}

fn json<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, LoadError> {
    parse_json(name.as_ref(), bytes)
}

/// SHA-256 of what comes in pieces; the browser's own takes whole files only.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Digest(sha2::Sha256);

#[wasm_bindgen]
impl Digest {
    /// Of nothing yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest in hexadecimal.
    pub fn hex(self) -> String {
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
        self.0.finalize().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}
