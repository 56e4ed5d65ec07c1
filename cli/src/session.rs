//! What several commands need: a device, and a model on it.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tonoscope_backends::{DeviceInfo, DeviceName, Dtype, Opened, Request, WeightFormat};
use tonoscope_core::models::{
    musicgen::{Layout, MusicGen, MusicgenFiles},
    t5::T5Tokenizer,
};
use tonoscope_hub::{BuiltIn, Checkpoint, HubConfig, MUSICGEN, Store, hex};

use crate::progress::{self, Transfer};

/// Where to compute.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Device: `auto`, `cpu`, `webgpu`, `vulkan`, `metal`, `cuda`, or one of several such as `cuda:1`
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceName,
    /// Type of all activations: `f32`, `f16` or `bf16`
    #[arg(long, default_value = "f32")]
    pub(crate) dtype: Dtype,
    /// How the matrices are kept on the CPU: `f32`, `f16`, `int8` or `int4`
    #[arg(long, default_value = "f32")]
    pub(crate) weights: WeightFormat,
}

impl DeviceArgs {
    pub(crate) fn open(&self) -> Result<Opened> {
        let request = Request { name: self.device, dtype: self.dtype, weights: self.weights };
        let opened = tonoscope_backends::open(&request)?;
        if let Some(note) = &opened.note {
            progress::note(note);
        }
        Ok(opened)
    }
}

/// Which model.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ModelArgs {
    /// Model: `musicgen-nano` inside the program, a name such as `musicgen-small`, a Hub id `org/name[@revision]`, or a folder
    #[arg(long, default_value = "musicgen-nano")]
    pub(crate) model: String,
    /// Folder of the T5 text encoder, for models in audiocraft's layout [default: `t5-base` inside the model's folder]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) text_encoder: Option<PathBuf>,
}

/// Where a model came from, for `run.json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Provenance {
    /// As it was asked for.
    pub(crate) model: String,
    /// Commit of the Hub's repository.
    pub(crate) revision: Option<String>,
    /// Layout of the files.
    pub(crate) layout: &'static str,
    /// File of weights → sha256.
    pub(crate) checksums: Vec<(String, String)>,
}

/// A checkpoint that was found, its configuration read.
pub(crate) struct FoundModel {
    pub(crate) files: MusicgenFiles,
    pub(crate) tokenizer: T5Tokenizer,
    checkpoint: Checkpoint,
    asked: String,
}

impl ModelArgs {
    /// Finds the files, fetching them if they are on the Hub and not here yet.
    pub(crate) fn find(&self) -> Result<FoundModel> {
        let store = Store::new(HubConfig::from_env()?);
        announce(&self.model);
        let model = store.parse(&self.model)?;
        let checkpoint = store.open(&model, &MUSICGEN, &mut Transfer::new())?;
        let beside = checkpoint.folder.join("t5-base");
        let t5 = self.text_encoder.clone().or_else(|| beside.is_dir().then_some(beside));
        let files = MusicgenFiles::open(&checkpoint.folder, t5.as_deref())?;
        let tokenizer = files.tokenizer()?;
        Ok(FoundModel { files, tokenizer, checkpoint, asked: self.model.clone() })
    }
}

/// Says what it is, if `name` is a model inside the program: nobody shall take its numbers for a published model's.
pub(crate) fn announce(name: &str) {
    if let Some(model) = BuiltIn::named(name) {
        progress::note(&model.note());
    }
}

impl FoundModel {
    /// Places the weights on the device.
    pub(crate) fn load(self, opened: &Opened) -> Result<LoadedModel> {
        let spinner = progress::spinner(format!("loading {}", self.asked));
        let layout = self.files.layout;
        let model = self.files.load(opened.placement.clone())?;
        spinner.finish_and_clear();
        Ok(LoadedModel { model, checkpoint: self.checkpoint, asked: self.asked, layout })
    }
}

/// A model that is ready, and where it came from.
pub(crate) struct LoadedModel {
    pub(crate) model: MusicGen,
    checkpoint: Checkpoint,
    asked: String,
    layout: Layout,
}

impl LoadedModel {
    /// Name, revision and checksums. Files outside the Hub's cache are read for it.
    pub(crate) fn provenance(&self) -> Result<Provenance> {
        Ok(Provenance {
            model: self.asked.clone(),
            revision: self.checkpoint.commit.clone(),
            layout: match self.layout {
                Layout::Transformers => "transformers",
                Layout::Audiocraft => "audiocraft",
            },
            checksums: checksums(&self.checkpoint)?,
        })
    }
}

/// File of weights → sha256. Files outside the Hub's cache are read for it.
pub(crate) fn checksums(checkpoint: &Checkpoint) -> Result<Vec<(String, String)>> {
    let is_weights = |file: &&String| {
        let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("safetensors" | "bin"))
    };
    let of_file = |file: &String| -> Result<(String, String)> {
        let sum = match checkpoint.checksum(file) {
            Some(sum) => sum,
            None => sha256(&checkpoint.folder.join(file))?,
        };
        Ok((file.clone(), sum))
    };
    checkpoint.files.iter().filter(is_weights).map(of_file).collect()
}

/// Checksum of a file.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut block = vec![0; 1 << 20];
        loop {
            match file.read(&mut block)? {
                0 => break,
                len => hasher.update(&block[..len]),
            }
        }
        Ok(hex(&hasher.finalize()))
    };
    read().with_context(|| format!("cannot read `{}`", path.display()))
}

/// The device, for `run.json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UsedDevice {
    #[serde(flatten)]
    pub(crate) info: DeviceInfo,
    pub(crate) dtype: String,
    pub(crate) weights: String,
}

impl UsedDevice {
    pub(crate) fn new(args: &DeviceArgs, opened: &Opened) -> Self {
        Self { info: opened.info.clone(), dtype: args.dtype.to_string(), weights: args.weights.to_string() }
    }

    /// The part of it that may decide the last bit of a result.
    pub(crate) fn key(&self) -> serde_json::Value {
        let DeviceInfo { name, adapter, driver, .. } = &self.info;
        let [name, dtype, weights] = [name.to_string(), self.dtype.clone(), self.weights.clone()];
        serde_json::json!({"name": name, "adapter": adapter, "driver": driver, "dtype": dtype, "weights": weights})
    }
}
