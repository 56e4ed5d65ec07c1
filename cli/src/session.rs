//! What several commands need: a device, and a model on it.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tonoscope_backends::{DeviceInfo, DeviceName, Dtype, Kind, Opened, Request, WeightFormat};
use tonoscope_core::{
    checkpoint::{base_of_adapter, mount},
    models::{
        musicgen::{Beside, Layout, MusicGen, MusicgenFiles},
        t5::T5Tokenizer,
    },
};
use tonoscope_hub::{BuiltIn, Checkpoint, ENCODEC, HubConfig, HubError, MUSICGEN, ModelRef, Store, hex};

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
    /// Let products of 32 bits round to TF32 (10 bits): faster on NVIDIA GPUs, for `cuda` only
    #[arg(long)]
    pub(crate) tf32: bool,
}

impl DeviceArgs {
    pub(crate) fn open(&self) -> Result<Opened> {
        let request = Request { name: self.device, dtype: self.dtype, weights: self.weights, tf32: self.tf32 };
        let opened = tonoscope_backends::open(&request)?;
        if opened.info.kind != Kind::Cpu {
            tonoscope_backends::end_on_gpu_failure();
        }
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
    #[command(flatten)]
    pub(crate) adapter: AdapterArgs,
}

/// Which adapter, if any.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct AdapterArgs {
    /// `LoRA` adapter, a folder as PEFT saves it, merged into the model; `--model` may name that folder instead, if it says
    /// which model it adapts
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
}

impl AdapterArgs {
    /// The model that `model` stands for, and the adapter: a folder of an adapter alone names both.
    ///
    /// # Errors
    /// If such a folder does not say which model it adapts.
    pub(crate) fn resolve(&self, model: &str) -> Result<(String, Option<PathBuf>)> {
        match base_of_adapter(Path::new(model))? {
            Some(base) => {
                progress::note(&format!("`{model}` is an adapter of `{base}`"));
                Ok((base, Some(self.adapter.clone().unwrap_or_else(|| PathBuf::from(model)))))
            }
            None => Ok((model.to_owned(), self.adapter.clone())),
        }
    }
}

/// File of an adapter → sha256.
pub(crate) fn adapter_checksums(adapter: Option<&Path>) -> Result<Vec<(String, String)>> {
    let Some(folder) = adapter else { return Ok(vec![]) };
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut names = vec![];
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read `{}`", folder.display()))?.file_name();
        names.extend(name.to_str().filter(|name| name.starts_with("adapter_")).map(str::to_owned));
    }
    names.sort();
    names.into_iter().map(|name| Ok((name.clone(), sha256(&folder.join(&name))?))).collect()
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
    adapter: Option<PathBuf>,
    asked: String,
}

impl ModelArgs {
    /// Finds the files, fetching them if they are on the Hub and not here yet.
    pub(crate) fn find(&self) -> Result<FoundModel> {
        let store = Store::new(HubConfig::from_env()?);
        let (name, adapter) = self.adapter.resolve(&self.model)?;
        announce(&name);
        let model = store.parse(&name)?;
        let checkpoint = match store.open(&model, &MUSICGEN, &mut Transfer::new()) {
            Err(HubError::Incomplete { missing, .. }) if missing == [CODEC] && matches!(model, ModelRef::Folder(_)) => {
                language_model_alone(&model)?
            }
            found => found?,
        };
        let beside = checkpoint.folder.join("t5-base");
        let t5 = self.text_encoder.clone().or_else(|| beside.is_dir().then_some(beside));
        let codec = published_codec(&store, &checkpoint)?;
        let beside = Beside { t5: t5.as_deref(), codec: codec.as_deref(), adapter: adapter.as_deref() };
        let files = MusicgenFiles::open_with(&checkpoint.folder, beside)?;
        tell_wrapping(files.wrapping());
        let tokenizer = files.tokenizer()?;
        Ok(FoundModel { files, tokenizer, checkpoint, adapter, asked: self.model.clone() })
    }
}

/// audiocraft's file of the codec.
const CODEC: &str = "compression_state_dict.bin";

/// A folder with audiocraft's language model and no codec, which its configuration may name.
fn language_model_alone(model: &ModelRef) -> Result<Checkpoint> {
    let ModelRef::Folder(folder) = model else { anyhow::bail!("`{model}` is no folder") };
    let published = MusicgenFiles::published_codec(folder)?;
    anyhow::ensure!(published.is_some(), "`{model}` has no `{CODEC}`, and names no published codec");
    let files = vec!["state_dict.bin".to_owned()];
    Ok(Checkpoint { folder: folder.clone(), id: None, commit: None, files, without: vec![] })
}

/// The folder of the codec that a checkpoint names instead of holding one: beside it, else from the Hub.
fn published_codec(store: &Store, checkpoint: &Checkpoint) -> Result<Option<PathBuf>> {
    let folder = &checkpoint.folder;
    let Some(name) = MusicgenFiles::published_codec(folder)? else { return Ok(None) };
    let last = name.rsplit('/').next().unwrap_or(&name);
    let beside = folder.join(last);
    if beside.is_dir() {
        return Ok(Some(beside));
    }
    let found = store.parse(&name).and_then(|codec| store.open(&codec, &ENCODEC, &mut Transfer::new()));
    let found = found.with_context(|| {
        format!(
            "`{}` names the codec `{name}` instead of holding one; its files may lie in `{}`",
            folder.join(CODEC).display(),
            beside.display()
        )
    })?;
    Ok(Some(found.folder))
}

/// Says what was taken off the names of a training checkpoint.
pub(crate) fn tell_wrapping(wrapping: Option<String>) {
    if let Some(wrapping) = wrapping {
        progress::note(&format!("the weights are {wrapping}"));
    }
}

/// Says what it is, if `name` is a model inside the program: nobody shall take its numbers for a published model's. Loaders
/// then find its files in memory.
pub(crate) fn announce(name: &str) {
    if let Some(model) = BuiltIn::named(name) {
        mount(&model.folder(), model.files());
        progress::note(&model.note());
    }
}

impl FoundModel {
    /// Places the weights on the device.
    pub(crate) fn load(self, opened: &Opened) -> Result<LoadedModel> {
        let spinner = progress::spinner(&format!("loading {}", self.asked));
        let layout = self.files.layout;
        let model = self.files.load(opened.placement.clone())?;
        spinner.finish_and_clear();
        let Self { checkpoint, adapter, asked, .. } = self;
        Ok(LoadedModel { model, checkpoint, adapter, asked, layout })
    }
}

/// A model that is ready, and where it came from.
pub(crate) struct LoadedModel {
    pub(crate) model: MusicGen,
    checkpoint: Checkpoint,
    adapter: Option<PathBuf>,
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
            checksums: {
                let mut checksums = checksums(&self.checkpoint)?;
                checksums.extend(adapter_checksums(self.adapter.as_deref())?);
                checksums
            },
        })
    }
}

/// File of weights → sha256. Files outside the Hub's cache are read for it.
pub(crate) fn checksums(checkpoint: &Checkpoint) -> Result<Vec<(String, String)>> {
    let is_weights = |file: &&String| {
        let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("safetensors" | "bin" | "pt"))
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
    if let Some(content) = BuiltIn::content(path) {
        return Ok(hex(&Sha256::digest(content)));
    }
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
    /// Whether products of 32 bits may be those of TF32.
    pub(crate) tf32: bool,
}

impl UsedDevice {
    pub(crate) fn new(args: &DeviceArgs, opened: &Opened) -> Self {
        Self {
            info: opened.info.clone(),
            dtype: args.dtype.to_string(),
            weights: args.weights.to_string(),
            tf32: args.tf32,
        }
    }

    /// The part of it that may decide the last bit of a result.
    pub(crate) fn key(&self) -> serde_json::Value {
        let DeviceInfo { name, adapter, driver, .. } = &self.info;
        let [name, dtype, weights] = [name.to_string(), self.dtype.clone(), self.weights.clone()];
        let mut key =
            serde_json::json!({"name": name, "adapter": adapter, "driver": driver, "dtype": dtype, "weights": weights});
        if self.tf32 {
            key["tf32"] = true.into();
        }
        key
    }
}
