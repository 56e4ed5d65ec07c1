//! A diffusion model of latents, told what to play and for how long: the transformer of Stable Audio, with its text encoder.
//!
//! Source: Z. Evans et al., "Stable Audio Open", 2024, section 2; velocities as in T. Salimans and J. Ho, "Progressive
//! Distillation for Fast Sampling of Diffusion Models", 2022, appendix D. Differs: the text encoder learns along, since it
//! begins at nothing.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::rand_core::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{Outcome, StepKey, Task, autoencoder::normal};
use crate::{
    checkpoint::{LoadError, Weights},
    hooks::Hooks,
    models::{
        stable_audio::{StableAudio, StableAudioConfig},
        t5::TokenIds,
    },
};

/// Latents of clips and what they are called.
#[derive(Debug, Clone)]
pub struct DiffusionBatch {
    /// Token ids per clip; `None` where nothing is told, for guidance.
    pub texts: Vec<Option<TokenIds>>,
    /// Seconds of every clip.
    pub seconds: f32,
    /// `[clip, channel, length]`, without autodiff.
    pub latents: Tensor<3>,
}

/// The velocity from noisy latents to less noisy ones, for a text.
#[derive(Debug, Clone)]
pub struct DiffusionTask {
    config: StableAudioConfig,
}

impl DiffusionTask {
    /// A model of this shape; the autoencoder within is not trained.
    pub fn new(config: StableAudioConfig) -> Self {
        Self { config }
    }

    /// Shape of the model.
    pub fn config(&self) -> &StableAudioConfig {
        &self.config
    }
}

/// Whether `name` are frequencies of a number's features: drawn once, and left so.
fn is_frequencies(name: &str) -> bool {
    name.ends_with("time_proj.weight") || name.ends_with("time_positional_embedding.0.weights")
}

impl Task for DiffusionTask {
    type Batch = DiffusionBatch;

    fn names(&self, device: &Device) -> Result<BTreeMap<String, Vec<usize>>, LoadError> {
        let weights = Weights::for_training(device);
        StableAudio::load(&self.config, &weights)?;
        Ok(weights.taken())
    }

    fn trains(&self, name: &str) -> bool {
        !name.starts_with("vae.") && !is_frequencies(name)
    }

    fn initial(&self, name: &str, shape: &[usize], seed: u64) -> Option<Vec<f32>> {
        let mut random = StepKey { seed, step: 0 }.random(name);
        is_frequencies(name).then(|| StandardNormal.sample_iter(&mut random).take(shape.iter().product()).collect())
    }

    fn loss(&self, weights: &Weights, batch: &DiffusionBatch, key: StepKey) -> Result<Outcome, LoadError> {
        let model = StableAudio::load(&self.config, weights)?;
        let rows = batch.texts.len();
        let texts: Vec<TokenIds> = batch.texts.iter().map(|text| text.clone().unwrap_or_default()).collect();
        let seconds = vec![(0.0, batch.seconds); rows];
        let mut conditioning = model.condition_each(&mut Hooks::none(), &texts, None, &seconds);
        let device = weights.device();
        let told: Vec<f32> = batch.texts.iter().map(|text| f32::from(u8::from(text.is_some()))).collect();
        conditioning.cross = conditioning.cross * Tensor::<3>::from_data(TensorData::new(told, [rows, 1, 1]), device);
        let mut random = key.random("times");
        // Neither wholly sound nor wholly noise.
        let times: Vec<f64> =
            (0..rows).map(|_| ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64).collect();
        let share = |of: fn(f64) -> f64| {
            let values: Vec<f32> = times.iter().map(|time| of(time * std::f64::consts::FRAC_PI_2) as f32).collect();
            Tensor::<3>::from_data(TensorData::new(values, [rows, 1, 1]), device)
        };
        let (sound, noise) = (share(f64::cos), share(f64::sin));
        let latents = batch.latents.clone();
        let noises = normal(key, "noise", latents.dims(), device);
        let mixed = latents.clone() * sound.clone() + noises.clone() * noise.clone();
        let wanted = noises * sound - latents * noise;
        let off = model.velocities(&conditioning, mixed, &times) - wanted;
        Ok(Outcome { loss: (off.clone() * off).mean(), terms: vec![], upkeep: vec![] })
    }
}
