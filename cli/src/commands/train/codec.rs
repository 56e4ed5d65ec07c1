//! Training an EnCodec.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use tonoscope_core::{
    checkpoint::{Placement, SafetensorsFile, Weights},
    models::encodec::{Encodec, EncodecConfig},
    training::{CodecTask, CodecWeights, NamedTensor},
};

use super::{ModelFile, sound::SoundModel};

/// A codec that was trained before.
pub(crate) struct Codec {
    pub(crate) config: EncodecConfig,
    pub(crate) model: Encodec,
    /// The file of its weights.
    pub(super) file: PathBuf,
}

impl Codec {
    /// Opens the folder of a codec, as fast as the placement allows: it is not trained.
    pub(crate) fn open(folder: &Path, placement: Placement) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let config = serde_json::from_str(&text).with_context(|| format!("`{}`", path.display()))?;
        let file = folder.join("model.safetensors");
        let weights = Weights::new(Box::new(SafetensorsFile::open(&file)?), placement);
        let model = Encodec::load(&config, &weights)?;
        Ok(Self { config, model, file })
    }
}

/// The weights in `file`, as plain tensors.
pub(super) fn weights(file: &Path, device: &Device) -> Result<Weights> {
    Ok(Weights::new(Box::new(SafetensorsFile::open(file)?), Placement::plain(device)))
}

/// A codec to be trained.
pub(super) struct CodecModel {
    pub(super) config: EncodecConfig,
    pub(super) loss: CodecWeights,
}

impl SoundModel for CodecModel {
    type Task = CodecTask;

    const NAME: &str = "codec";

    const WEIGHTS: &[(&str, &str)] = &[("", "model.safetensors")];

    fn task(&self, device: &Device) -> CodecTask {
        CodecTask::new(self.config.clone(), self.loss.clone(), device)
    }

    fn shape(&self) -> (u32, usize, usize) {
        (self.config.sampling_rate, self.config.hop_length(), self.config.audio_channels)
    }

    fn through(&self, weights: &Weights, sound: Tensor<3>) -> Result<Tensor<3>> {
        let codec = Encodec::load(&self.config, weights)?;
        Ok(codec.decode(codec.encode(sound)))
    }

    fn files(&self, tensors: Vec<NamedTensor>) -> Result<Vec<ModelFile>> {
        let mut config = serde_json::to_value(&self.config)?;
        config["model_type"] = "encodec".into();
        config["architectures"] = serde_json::json!(["EncodecModel"]);
        Ok(vec![
            ModelFile::json("config.json", &config)?,
            ModelFile::tensors("model.safetensors", CodecTask::exported(tensors)),
        ])
    }
}
