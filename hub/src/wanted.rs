//! Which files make a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::HubError;

/// Largest `config.json` or index that is read.
const MAX_JSON: u64 = 64 << 20;
/// More shards than any checkpoint has.
const MAX_SHARDS: usize = 1000;

/// One way in which a checkpoint keeps its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// `single`, or `index` and the shards that it lists; needs the config.
    Sharded {
        /// All weights in one file.
        single: &'static str,
        /// Which shard holds which tensor.
        index: &'static str,
    },
    /// Exactly these files, which carry their configuration with them.
    Files(&'static [&'static str]),
}

/// The files that a model is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The model's configuration.
    pub config: &'static str,
    /// Accepted values of `model_type` in it.
    pub model_types: &'static [&'static str],
    /// Taken where they exist.
    pub optional: &'static [&'static str],
    /// The first that is there is taken.
    pub weights: &'static [Weights],
    /// What a whole checkpoint consists of, for hints.
    pub consists_of: &'static str,
}

/// One file of safetensors, or its shards.
const SAFETENSORS: Weights = Weights::Sharded { single: "model.safetensors", index: "model.safetensors.index.json" };
/// One pickle, or its shards.
const PICKLE: Weights = Weights::Sharded { single: "pytorch_model.bin", index: "pytorch_model.bin.index.json" };

/// MusicGen, as transformers or else audiocraft keeps it.
pub const MUSICGEN: Wanted = Wanted {
    config: "config.json",
    model_types: &["musicgen"],
    optional: &["generation_config.json", "tokenizer.json"],
    weights: &[SAFETENSORS, PICKLE, Weights::Files(&["state_dict.bin", "compression_state_dict.bin"])],
    consists_of: "a MusicGen is `config.json` and `model.safetensors` or `pytorch_model.bin` (or an index and its shards), or \
                  audiocraft's `state_dict.bin` and `compression_state_dict.bin`",
};

/// Stable Audio, as stable-audio-tools keeps it; its text encoder lies elsewhere.
pub const STABLE_AUDIO: Wanted = Wanted {
    config: "model_config.json",
    model_types: &["diffusion_cond"],
    optional: &[],
    weights: &[SAFETENSORS, Weights::Files(&["model_config.json", "model.ckpt"]), PICKLE],
    consists_of: "a Stable Audio is `model_config.json` and `model.safetensors`, `model.ckpt` or `pytorch_model.bin`",
};

/// A T5 text encoder.
pub const T5: Wanted = Wanted {
    config: "config.json",
    model_types: &["t5"],
    optional: &["tokenizer.json"],
    weights: &[SAFETENSORS, PICKLE],
    consists_of: "a T5 is `config.json` and `model.safetensors` or `pytorch_model.bin` (or an index and its shards)",
};

/// An EnCodec, as transformers keeps it.
pub const ENCODEC: Wanted = Wanted {
    config: "config.json",
    model_types: &["encodec"],
    optional: &[],
    weights: &[SAFETENSORS, PICKLE],
    consists_of: "an EnCodec is `config.json` and `model.safetensors` or `pytorch_model.bin`",
};

/// CLAP, as transformers keeps it.
pub const CLAP: Wanted = Wanted {
    config: "config.json",
    model_types: &["clap"],
    optional: &["preprocessor_config.json", "tokenizer.json"],
    weights: &[SAFETENSORS, PICKLE],
    consists_of: "a CLAP is `config.json` and `model.safetensors` or `pytorch_model.bin` (or an index and its shards)",
};

/// Every kind of model.
pub const KINDS: &[&Wanted] = &[&MUSICGEN, &STABLE_AUDIO, &T5, &CLAP, &ENCODEC];

/// What a folder has of the [`Wanted`] files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// Weight files and configuration that are there.
    pub present: Vec<String>,
    /// What is missing for a whole checkpoint; empty if it is whole.
    pub missing: Vec<String>,
    /// Optional files that are not there.
    pub without: Vec<&'static str>,
}

impl Inventory {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

impl Wanted {
    /// Looks which of the files `folder` has. Links are followed: a cache consists of them.
    ///
    /// # Errors
    /// [`HubError::BadIndex`] where the list of shards is unusable.
    pub fn inspect(&self, folder: &Path) -> Result<Inventory, HubError> {
        let has = |name: &str| folder.join(name).is_file();
        let mut best: Option<Inventory> = None;
        for weights in self.weights {
            let files = match weights {
                Weights::Sharded { single, index } => {
                    let mut files = vec![self.config.to_owned()];
                    if !has(single) && has(index) {
                        files.push((*index).to_owned());
                        files.extend(ShardIndex::read(&folder.join(index))?.files());
                    } else {
                        files.push((*single).to_owned());
                    }
                    files
                }
                Weights::Files(names) => names.iter().map(|name| (*name).to_owned()).collect(),
            };
            let (present, missing): (Vec<_>, Vec<_>) = files.into_iter().partition(|name| has(name));
            let found = Inventory { present, missing, without: Vec::new() };
            // The config alone says nothing about which weights are meant: the first way then stands.
            let has_weights = |of: &Inventory| of.present.iter().any(|name| name != self.config);
            let is_better =
                best.as_ref().is_none_or(|best| found.is_complete() || (!has_weights(best) && has_weights(&found)));
            if is_better {
                best = Some(found);
            }
            if best.as_ref().is_some_and(Inventory::is_complete) {
                break;
            }
        }
        let mut best = best.unwrap_or_default();
        for name in self.optional {
            if has(name) {
                best.present.push((*name).to_owned());
            } else {
                best.without.push(name);
            }
        }
        Ok(best)
    }

    /// Refuses a configuration of another architecture before gigabytes are fetched. A configuration
    /// without `model_type` passes; the loader judges it.
    ///
    /// # Errors
    /// [`HubError::ModelType`], or [`HubError::BadIndex`] where the file is no JSON.
    pub fn check_config(&self, path: &Path, place: &str) -> Result<(), HubError> {
        match model_type(path)? {
            Some(found) if !self.model_types.contains(&found.as_str()) => {
                Err(HubError::ModelType { place: place.to_owned(), found, expected: self.model_types.join("` or `") })
            }
            _ => Ok(()),
        }
    }
}

/// `model_type` of a `config.json`.
pub(super) fn model_type(path: &Path) -> Result<Option<String>, HubError> {
    #[derive(Deserialize)]
    struct Config {
        model_type: Option<String>,
    }
    read_json::<Config>(path).map(|config| config.model_type.map(|text| printable(&text)))
}

/// A sharded checkpoint's list: tensor → file.
#[derive(Debug, Deserialize)]
pub(super) struct ShardIndex {
    /// Tensor name → shard.
    pub(super) weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Reads the list, and refuses one whose files lie elsewhere.
    pub(super) fn read(path: &Path) -> Result<Self, HubError> {
        let index: Self = read_json(path)?;
        let bad = |reason| HubError::BadIndex { path: path.to_owned(), reason };
        let files: BTreeSet<_> = index.weight_map.values().collect();
        if files.is_empty() || files.len() > MAX_SHARDS {
            return Err(bad(format!("expected 1 to {MAX_SHARDS} files, found {}", files.len())));
        }
        let is_pickled = path.to_string_lossy().ends_with(".bin.index.json");
        let ending = if is_pickled { ".bin" } else { ".safetensors" };
        if let Some(name) = files.into_iter().find(|name| !is_plain_name(name, ending)) {
            return Err(bad(format!("expected the name of a `{ending}` file, found `{}`", printable(name))));
        }
        Ok(index)
    }

    /// The shards, each once, in order.
    pub(super) fn files(&self) -> Vec<String> {
        self.weight_map.values().collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }
}

/// A file beside the index: no path, not hidden, nothing that a file system or a URL reads in its own way.
fn is_plain_name(name: &str, ending: &str) -> bool {
    name.len() <= 200
        && name.ends_with(ending)
        && !name.starts_with(['.', '-'])
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, HubError> {
    let size = path.metadata().map_err(HubError::io("read", path))?.len();
    let bad = |reason: String| HubError::BadIndex { path: path.to_owned(), reason };
    if size > MAX_JSON {
        return Err(bad(format!("expected at most {MAX_JSON} bytes, found {size}")));
    }
    let bytes = std::fs::read(path).map_err(HubError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}

/// Foreign text for an error: short, and without characters that a terminal obeys.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
