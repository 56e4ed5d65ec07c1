//! Stable Audio Open: text encoder, conditioners, diffusion transformer and autoencoder, as one model.

mod attention;
mod conditioner;
mod config;
mod dit;
#[cfg(not(target_arch = "wasm32"))]
mod load;
mod sample;
#[cfg(not(target_arch = "wasm32"))]
mod tools;

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

pub use conditioner::Conditioning;
pub use config::{DitConfig, ProjectionConfig, SchedulerConfig, StableAudioConfig};
pub use dit::Dit;
#[cfg(not(target_arch = "wasm32"))]
pub use load::{Layout, StableAudioFiles};
pub use sample::{InitialScale, SampleRequest};

use self::conditioner::Conditioners;
use crate::{
    checkpoint::{LoadError, Weights},
    hooks::HookPoint,
    models::{oobleck::Oobleck, t5::T5Encoder},
};

/// Text and seconds in, latents and sound out.
#[derive(Module, Debug)]
pub struct StableAudio {
    text_encoder: T5Encoder,
    conditioners: Conditioners,
    transformer: Dit,
    vae: Oobleck,
    #[module(skip)]
    config: StableAudioConfig,
}

impl StableAudio {
    /// Takes its tensors from `weights` under the names of diffusers, each part's below the name of its folder.
    ///
    /// # Errors
    /// [`LoadError`] if the configuration contradicts itself, or a tensor is missing or of another shape; left-over
    /// ones are found by [`Weights::finish`].
    pub fn load(config: &StableAudioConfig, weights: &Weights) -> Result<Self, LoadError> {
        config.check().map_err(|reason| LoadError::Config { path: "config.json".into(), reason })?;
        Ok(Self {
            text_encoder: T5Encoder::load(&config.text_encoder, &weights.sub("text_encoder"))?,
            conditioners: Conditioners::load(&config.projection_model, &weights.sub("projection_model"))?,
            transformer: Dit::load(&config.transformer, &weights.sub("transformer"))?,
            vae: Oobleck::load(&config.vae, &weights.sub("vae"))?,
            config: config.clone(),
        })
    }

    /// Shape of this model.
    pub fn config(&self) -> &StableAudioConfig {
        &self.config
    }

    /// The text encoder.
    pub fn text_encoder(&self) -> &T5Encoder {
        &self.text_encoder
    }

    /// The diffusion transformer.
    pub fn transformer(&self) -> &Dit {
        &self.transformer
    }

    /// The autoencoder.
    pub fn vae(&self) -> &Oobleck {
        &self.vae
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.transformer.device()
    }

    /// Every hook point, those of the text encoder first.
    pub fn points(&self) -> Vec<HookPoint> {
        self.config.points()
    }

    /// Sound of latents, `tile` of them at a time if given, which changes nothing but the memory it takes.
    ///
    /// # Shapes
    /// - `latents`: `[row, latent channel, length]`; result: `[row, channel, length · downsampling]`
    pub fn decode(&self, latents: Tensor<3>, tile: Option<usize>) -> Tensor<3> {
        match tile {
            Some(tile) => self.vae.decode_tiled(latents, tile),
            None => self.vae.decode(latents),
        }
    }
}
