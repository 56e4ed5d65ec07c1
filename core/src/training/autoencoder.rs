//! An autoencoder of sound whose latents a diffusion model can learn: `Oobleck`.
//!
//! Source: Z. Evans et al., "Long-form music generation with latent diffusion", 2024, section 3.1. Differs: no adversary,
//! mel bands in place of linear ones, convolutions without weight norm in training.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::{NamedTensor, Outcome, Spectra, StepKey, Task, parameters::weight_normed};
use crate::{
    checkpoint::{LoadError, Weights},
    models::oobleck::{Oobleck, OobleckConfig},
};

/// How loud a residual unit is at first, beside what it is added to.
const FIRST_RESIDUAL: f32 = 0.1;

/// What the loss of an [`AutoencoderTask`] is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderWeights {
    /// Of the mean absolute difference of the samples.
    pub wave: f64,
    /// Of the difference in mel bands.
    pub spectral: f64,
    /// Of the latents' divergence from unit normal noise, in nats per latent.
    pub divergence: f64,
    /// Windows of the mel bands, samples.
    pub windows: Vec<usize>,
}

/// Latents that keep a sound and are nearly noise.
#[derive(Debug, Clone)]
pub struct AutoencoderTask {
    config: OobleckConfig,
    how: AutoencoderWeights,
    spectra: Spectra,
}

impl AutoencoderTask {
    /// An autoencoder of this shape.
    pub fn new(config: OobleckConfig, how: AutoencoderWeights, device: &Device) -> Self {
        let spectra = Spectra::new(&how.windows, config.sampling_rate, device);
        Self { config, how, spectra }
    }

    /// Shape of the autoencoder.
    pub fn config(&self) -> &OobleckConfig {
        &self.config
    }

    /// The tensors under the names of diffusers: each convolution's weight as a direction and its lengths.
    pub fn exported(tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
        weight_normed(tensors, |name| {
            let layer = name.strip_suffix(".weight")?;
            Some([format!("{layer}.weight_g"), format!("{layer}.weight_v")])
        })
    }
}

impl Task for AutoencoderTask {
    /// `[batch, channel, sample]`, −1 to 1, whole steps of latents.
    type Batch = Tensor<3>;

    fn names(&self, device: &Device) -> Result<BTreeMap<String, Vec<usize>>, LoadError> {
        let weights = Weights::for_training(device);
        Oobleck::load(&self.config, &weights)?;
        Ok(weights.taken())
    }

    fn trains(&self, _: &str) -> bool {
        true
    }

    fn initial(&self, name: &str, shape: &[usize], seed: u64) -> Option<Vec<f32>> {
        let len = shape.iter().product();
        if matches!(name.rsplit('.').next(), Some("alpha" | "beta")) {
            return Some(vec![0.0; len]);
        }
        if name.contains(".res_unit") && name.ends_with(".conv2.weight") {
            // A dozen units one after another, each as loud as what it is added to, would make the sound a hundred times as loud.
            let scale = FIRST_RESIDUAL / (shape[1..].iter().product::<usize>() as f32).sqrt();
            let mut random = StepKey { seed, step: 0 }.random(name);
            let drawn = StandardNormal.sample_iter(&mut random).take(len);
            return Some(drawn.map(|value: f32| value * scale).collect());
        }
        None
    }

    fn loss(&self, weights: &Weights, wave: &Tensor<3>, key: StepKey) -> Result<Outcome, LoadError> {
        let model = Oobleck::load(&self.config, weights)?;
        let latents = model.encode(wave.clone());
        let shape = latents.mean.dims();
        let heard = model.decode(latents.sample(normal(key, "latents", shape, weights.device())));
        let [batch, channels, samples] = wave.dims();
        let flat = |x: Tensor<3>| x.reshape([batch * channels, samples]);
        let (heard, wanted) = (flat(heard), flat(wave.clone()));
        let spectral = self.spectra.distance(&heard, &wanted);
        let off = (heard - wanted).abs().mean();
        let (mean, variance) = (latents.mean, latents.std.clone() * latents.std);
        let divergence = (mean.clone() * mean.clone() + variance.clone() - variance.clone().log() - 1.0).mean() / 2.0;
        let power = (mean.clone() * mean + variance).mean();
        let loss = off.clone() * self.how.wave
            + spectral.clone() * self.how.spectral
            + divergence.clone() * self.how.divergence;
        let terms = [("wave", off), ("spectral", spectral), ("divergence", divergence), ("latent_power", power)];
        let terms = terms.map(|(name, term)| (name.to_owned(), term)).to_vec();
        Ok(Outcome { loss, terms, upkeep: vec![] })
    }
}

/// Unit normal numbers of a step.
pub(super) fn normal<const D: usize>(key: StepKey, purpose: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut random = key.random(purpose);
    let values: Vec<f32> = StandardNormal.sample_iter(&mut random).take(shape.iter().product()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
