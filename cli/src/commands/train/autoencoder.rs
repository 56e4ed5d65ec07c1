//! Training an Oobleck.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use tonoscope_core::{
    checkpoint::{Placement, SafetensorsFile, Weights},
    models::oobleck::{Oobleck, OobleckConfig},
    training::{AutoencoderTask, AutoencoderWeights, NamedTensor},
};

use super::{ModelFile, sound::SoundModel};

/// The file of the weights, in diffusers' layout.
pub(super) const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// The configuration of an autoencoder that was trained before, and its model.
pub(super) fn open(folder: &Path, placement: Placement) -> Result<(OobleckConfig, Oobleck)> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let config = serde_json::from_str(&text).with_context(|| format!("`{}`", path.display()))?;
    let weights = Weights::new(Box::new(SafetensorsFile::open(&folder.join(WEIGHTS))?), placement);
    let model = Oobleck::load(&config, &weights)?;
    Ok((config, model))
}

/// `config.json` of an autoencoder.
pub(super) fn config_json(config: &OobleckConfig) -> Result<serde_json::Value> {
    let mut json = serde_json::to_value(config)?;
    json["_class_name"] = "AutoencoderOobleck".into();
    Ok(json)
}

/// An autoencoder to be trained.
pub(super) struct AutoencoderModel {
    pub(super) config: OobleckConfig,
    pub(super) loss: AutoencoderWeights,
}

impl SoundModel for AutoencoderModel {
    type Task = AutoencoderTask;

    const NAME: &str = "autoencoder";

    const WEIGHTS: &[(&str, &str)] = &[("", WEIGHTS)];

    fn task(&self, device: &Device) -> AutoencoderTask {
        AutoencoderTask::new(self.config.clone(), self.loss.clone(), device)
    }

    fn shape(&self) -> (u32, usize, usize) {
        (self.config.sampling_rate, self.config.hop(), self.config.audio_channels)
    }

    fn through(&self, weights: &Weights, sound: Tensor<3>) -> Result<Tensor<3>> {
        let model = Oobleck::load(&self.config, weights)?;
        Ok(model.decode(model.encode(sound).mean))
    }

    fn files(&self, tensors: Vec<NamedTensor>) -> Result<Vec<ModelFile>> {
        Ok(vec![
            ModelFile::json("config.json", &config_json(&self.config)?)?,
            ModelFile::tensors(WEIGHTS, AutoencoderTask::exported(tensors)),
        ])
    }
}
