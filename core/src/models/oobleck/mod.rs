//! Oobleck: audio to the latents that Stable Audio denoises, and back.
//!
//! Reference: `AutoencoderOobleck`, diffusers 0.42.1, `models/autoencoders/autoencoder_oobleck.py` (Apache-2.0).
//! Differs: weight norm and the exponentials of the snakes are folded when loading; time comes before channels inside;
//! tiles overlap by exactly what their samples are made from, so that they are equal to the whole, where diffusers' are
//! approximate; odd strides, of which the decoder would return fewer samples than the encoder took, are refused.

mod config;
mod layers;
mod names;

use burn::{
    module::Module,
    tensor::{DType, Tensor, activation::relu},
};

pub use config::OobleckConfig;
use layers::Stack;
pub use names::StableAudioToolsNames;

use crate::{
    checkpoint::{LoadError, Weights},
    nn::as_type,
};

/// Added to the standard deviation of a latent.
const LEAST_DEVIATION: f64 = 1e-4;

/// `latents = encoder(wave)`, `wave = decoder(latents)`
#[derive(Module, Debug)]
pub struct Oobleck {
    encoder: Stack,
    decoder: Stack,
    #[module(skip)]
    config: OobleckConfig,
}

/// What audio is encoded as: a normal distribution per channel and step, independent of each other.
#[derive(Debug, Clone)]
pub struct Latents {
    /// Mean, `[batch, decoder_input_channels, length]`.
    pub mean: Tensor<3>,
    /// Standard deviation, of the same shape.
    pub std: Tensor<3>,
}

impl Latents {
    /// Latents drawn with unit normal `noise` of the same shape.
    pub fn sample(&self, noise: Tensor<3>) -> Tensor<3> {
        self.mean.clone() + self.std.clone() * as_type(noise, self.std.dtype())
    }
}

impl Oobleck {
    /// Takes its tensors from `weights`, named as in diffusers' `vae/`; see [`StableAudioToolsNames`] for the other layout.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or of another shape, or if `config` asks for what is not built.
    pub fn load(config: &OobleckConfig, weights: &Weights) -> Result<Self, LoadError> {
        config.check().map_err(|reason| LoadError::Config { path: "config.json".into(), reason })?;
        // Of 16 bits, sound would have the noise of 8 or 11.
        let weights = &weights.wide();
        Ok(Self {
            encoder: Stack::encoder(config, &weights.sub("encoder"))?,
            decoder: Stack::decoder(config, &weights.sub("decoder"))?,
            config: config.clone(),
        })
    }

    /// Shape of the model.
    pub fn config(&self) -> &OobleckConfig {
        &self.config
    }

    /// Samples per step of the latents.
    pub fn hop(&self) -> usize {
        self.config.hop()
    }

    /// Latents of audio.
    ///
    /// # Shapes
    /// - `wave`: `[batch, channel, sample]`, −1 to 1, at `sampling_rate`
    /// - result: `[batch, decoder_input_channels, ⌊sample / hop⌋]`
    ///
    /// # Panics
    /// If there are fewer samples than one hop, or the channels are not the model's.
    pub fn encode(&self, wave: Tensor<3>) -> Latents {
        self.check_wave(&wave);
        self.latents(self.encoder.forward(wide(wave), |_| ()))
    }

    /// As [`Self::encode`], for `tile` steps of the latents at a time: see [`Self::decode_tiled`].
    ///
    /// # Panics
    /// As [`Self::encode`].
    pub fn encode_tiled(&self, wave: Tensor<3>, tile: usize) -> Latents {
        self.check_wave(&wave);
        self.latents(self.encoder.forward_tiled(&wide(wave), tile))
    }

    /// Audio of latents.
    ///
    /// # Shapes
    /// - `latents`: `[batch, decoder_input_channels, length]`; result: `[batch, channel, length · hop]`
    ///
    /// # Panics
    /// If there is nothing to decode, or the channels are not the model's.
    pub fn decode(&self, latents: Tensor<3>) -> Tensor<3> {
        self.check_latents(&latents);
        if self.decoder.fits(&latents) {
            return self.decoder.forward(wide(latents), |_| ()).swap_dims(1, 2);
        }
        self.decoder.forward_tiled(&wide(latents), usize::MAX).swap_dims(1, 2)
    }

    /// As [`Self::decode`], for `tile` steps of the latents at a time, so that the memory for long audio stays that of one
    /// tile; for fewer where a device's buffers cannot hold that many.
    ///
    /// Each layer of a tile is given what its samples depend on beyond the tile, and no more: the result is that of
    /// [`Self::decode`].
    ///
    /// # Panics
    /// As [`Self::decode`].
    pub fn decode_tiled(&self, latents: Tensor<3>, tile: usize) -> Tensor<3> {
        self.check_latents(&latents);
        let samples = tile.max(1).saturating_mul(self.hop());
        self.decoder.forward_tiled(&wide(latents), samples).swap_dims(1, 2)
    }

    /// What each layer of the encoder puts out; a residual unit is one layer.
    ///
    /// # Shapes
    /// - `wave`: as in [`Self::encode`]; results: `[batch, channel, time]`
    ///
    /// # Panics
    /// As [`Self::encode`].
    pub fn encode_layers(&self, wave: Tensor<3>) -> Vec<Tensor<3>> {
        self.check_wave(&wave);
        outputs(&self.encoder, wave)
    }

    /// What each layer of the decoder puts out, the audio last; a residual unit is one layer.
    ///
    /// # Shapes
    /// - `latents`: as in [`Self::decode`]; results: `[batch, channel, time]`
    ///
    /// # Panics
    /// As [`Self::decode`].
    pub fn decode_layers(&self, latents: Tensor<3>) -> Vec<Tensor<3>> {
        self.check_latents(&latents);
        outputs(&self.decoder, latents)
    }

    /// `parameters` is `[batch, length, 2 · channel]`.
    fn latents(&self, parameters: Tensor<3>) -> Latents {
        let width = self.config.decoder_input_channels;
        let parameters = parameters.swap_dims(1, 2);
        let mean = parameters.clone().narrow(1, 0, width);
        let scale = parameters.narrow(1, width, width);
        // `ln(1 + exp(x))` without the overflow.
        let softplus = relu(scale.clone()) + scale.abs().neg().exp().log1p();
        Latents { mean, std: softplus + LEAST_DEVIATION }
    }

    fn check_wave(&self, wave: &Tensor<3>) {
        let ([_, channels, samples], expected) = (wave.dims(), self.config.audio_channels);
        assert_eq!(channels, expected, "channels of audio to encode");
        assert!(samples >= self.hop(), "{samples} samples to encode, fewer than a hop of {}", self.hop());
    }

    fn check_latents(&self, latents: &Tensor<3>) {
        let ([_, channels, length], expected) = (latents.dims(), self.config.decoder_input_channels);
        assert_eq!(channels, expected, "channels of latents to decode");
        assert!(length > 0, "latents to decode have no steps");
    }
}

/// `[batch, channel, time]` as the layers take it, in 32 bits.
fn wide(x: Tensor<3>) -> Tensor<3> {
    as_type(x, DType::F32).swap_dims(1, 2)
}

/// Outputs of all layers with the axes in the order of the reference.
fn outputs(stack: &Stack, x: Tensor<3>) -> Vec<Tensor<3>> {
    let mut outputs = Vec::new();
    stack.forward(wide(x), |output| outputs.push(output.clone().swap_dims(1, 2)));
    outputs
}
