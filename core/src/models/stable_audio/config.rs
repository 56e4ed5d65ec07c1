//! Shape of a Stable Audio, as the files of its parts state it.

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::ranges::{self, MOST_SAMPLES},
    hooks::{Component, HookPoint},
    models::{oobleck::OobleckConfig, t5::T5Config},
};

/// Shape of a [`StableAudio`](super::StableAudio); the parts are named as the folders of diffusers' layout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StableAudioConfig {
    /// The text encoder.
    pub text_encoder: T5Config,
    /// Tokens that a text is padded to.
    pub text_tokens: usize,
    /// What makes text and seconds into conditions.
    pub projection_model: ProjectionConfig,
    /// The diffusion transformer.
    pub transformer: DitConfig,
    /// The autoencoder of the sound.
    pub vae: OobleckConfig,
    /// The noise levels that it was made for, where the checkpoint states them.
    pub scheduler: SchedulerConfig,
}

/// Shape of the conditioners; fields are named as in `projection_model/config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectionConfig {
    /// Width of the text encoder.
    #[serde(deserialize_with = "ranges::width")]
    pub text_encoder_dim: usize,
    /// Width of a condition.
    #[serde(deserialize_with = "ranges::width")]
    pub conditioning_dim: usize,
    /// Seconds below count as this many.
    #[serde(deserialize_with = "ranges::bound")]
    pub min_value: f64,
    /// Seconds above count as this many.
    #[serde(deserialize_with = "ranges::bound")]
    pub max_value: f64,
}

/// Shape of a [`Dit`](super::Dit); fields are named as in `transformer/config.json`.
///
/// An absent field has the default of diffusers' `StableAudioDiTModel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DitConfig {
    /// Latents of the full length.
    #[serde(deserialize_with = "ranges::length")]
    pub sample_size: usize,
    /// Channels of the latents.
    #[serde(deserialize_with = "ranges::width")]
    pub in_channels: usize,
    /// Layers.
    #[serde(deserialize_with = "ranges::count")]
    pub num_layers: usize,
    /// Width of a head.
    #[serde(deserialize_with = "ranges::width")]
    pub attention_head_dim: usize,
    /// Heads.
    #[serde(deserialize_with = "ranges::count")]
    pub num_attention_heads: usize,
    /// Heads of the keys and values of the cross-attention; each serves several heads of queries.
    #[serde(deserialize_with = "ranges::count")]
    pub num_key_value_attention_heads: usize,
    /// Channels of the result; as many as of the latents.
    #[serde(deserialize_with = "ranges::width")]
    pub out_channels: usize,
    /// Width of the conditions in the cross-attention.
    #[serde(deserialize_with = "ranges::width")]
    pub cross_attention_dim: usize,
    /// Features of the time.
    #[serde(deserialize_with = "ranges::width")]
    pub time_proj_dim: usize,
    /// Width of the global condition: seconds of the start and of the whole, side by side.
    #[serde(deserialize_with = "ranges::width")]
    pub global_states_input_dim: usize,
    /// Width of a condition.
    #[serde(deserialize_with = "ranges::width")]
    pub cross_attention_input_dim: usize,
    /// Features of a head that are turned by their position, the first ones; `None`: half of them.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "ranges::width")]
    pub rotary_dim: Option<usize>,
    /// Hidden units of the MLP; `None`: four times the width.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "ranges::width")]
    pub ff_inner_dim: Option<usize>,
}

/// Noise levels; fields are named as in `scheduler/scheduler_config.json`.
///
/// An absent field has the default of diffusers' `CosineDPMSolverMultistepScheduler`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerConfig {
    /// Lowest level before 0.
    #[serde(deserialize_with = "ranges::level")]
    pub sigma_min: Option<f64>,
    /// Highest level.
    #[serde(deserialize_with = "ranges::level")]
    pub sigma_max: Option<f64>,
    /// Standard deviation of the latents.
    #[serde(deserialize_with = "ranges::level")]
    pub sigma_data: f64,
    /// What the transformer predicts; must be `v_prediction`.
    pub prediction_type: String,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            sigma_min: Some(0.3),
            sigma_max: Some(500.0),
            sigma_data: 1.0,
            prediction_type: "v_prediction".to_owned(),
        }
    }
}

impl Default for DitConfig {
    fn default() -> Self {
        Self {
            sample_size: 1024,
            in_channels: 64,
            num_layers: 24,
            attention_head_dim: 64,
            num_attention_heads: 24,
            num_key_value_attention_heads: 12,
            out_channels: 64,
            cross_attention_dim: 768,
            time_proj_dim: 256,
            global_states_input_dim: 1536,
            cross_attention_input_dim: 768,
            rotary_dim: None,
            ff_inner_dim: None,
        }
    }
}

impl SchedulerConfig {
    /// What holds where the checkpoint says nothing: stable-audio-tools' `VDenoiser`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn unstated() -> Self {
        Self { sigma_min: None, sigma_max: None, ..Self::default() }
    }
}

impl DitConfig {
    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Features of a head that are turned by their position.
    pub fn rotary(&self) -> usize {
        self.rotary_dim.unwrap_or(self.attention_head_dim / 2)
    }

    /// Hidden units of the MLP.
    pub fn hidden(&self) -> usize {
        self.ff_inner_dim.unwrap_or(4 * self.width())
    }

    fn check(&self) -> Result<(), String> {
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_attention_heads);
        if heads == 0 || groups == 0 || self.attention_head_dim == 0 || self.sample_size == 0 {
            return Err("a transformer without heads, or for no latents".to_owned());
        }
        if !heads.is_multiple_of(groups) {
            return Err(format!("{heads} heads cannot share {groups} heads of keys evenly"));
        }
        if self.in_channels != self.out_channels {
            return Err(format!("{} channels in, {} out", self.in_channels, self.out_channels));
        }
        let rotary = self.rotary();
        if rotary < 2 || rotary % 2 == 1 || rotary > self.attention_head_dim {
            return Err(format!("{rotary} of {} features of a head are to be turned", self.attention_head_dim));
        }
        if self.width() > 1 << 17 {
            return Err(format!("{heads} heads of {} features: more than 2¹⁷ in all", self.attention_head_dim));
        }
        if self.time_proj_dim < 2 || self.time_proj_dim % 2 == 1 {
            return Err(format!("`time_proj_dim` is {}, expected an even number", self.time_proj_dim));
        }
        Ok(())
    }
}

impl StableAudioConfig {
    /// Samples per second.
    pub fn sample_rate(&self) -> u32 {
        self.vae.sampling_rate
    }

    /// Channels of the sound.
    pub fn audio_channels(&self) -> usize {
        self.vae.audio_channels
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> usize {
        self.transformer.in_channels
    }

    /// Latents of the full length.
    pub fn latent_length(&self) -> usize {
        self.transformer.sample_size
    }

    /// Samples per latent.
    pub fn downsampling(&self) -> usize {
        self.vae.hop()
    }

    /// Seconds of sound of the full length.
    pub fn seconds(&self) -> f64 {
        (self.latent_length() * self.downsampling()) as f64 / f64::from(self.sample_rate())
    }

    /// Every hook point of a model of this shape, those of the text encoder first, in the order of the computation.
    pub fn points(&self) -> Vec<HookPoint> {
        let encoder = HookPoint::all(Component::ENCODER, self.text_encoder.num_layers);
        let transformer = HookPoint::all(Component::DIT, self.transformer.num_layers);
        encoder.into_iter().chain(transformer).collect()
    }

    /// Whether the parts fit each other; says what does not.
    pub(super) fn check(&self) -> Result<(), String> {
        self.text_encoder.check()?;
        self.vae.check()?;
        self.transformer.check()?;
        let samples = self.latent_length().checked_mul(self.downsampling()).filter(|&samples| samples <= MOST_SAMPLES);
        if samples.is_none() {
            return Err(format!(
                "`sample_size` is {} latents of {} samples each, expected {MOST_SAMPLES} samples at most in all",
                self.latent_length(),
                self.downsampling()
            ));
        }
        let (transformer, projection) = (&self.transformer, &self.projection_model);
        let condition = projection.conditioning_dim;
        let pairs = [
            ("width of the text", self.text_encoder.d_model, projection.text_encoder_dim),
            ("width of a condition", transformer.cross_attention_input_dim, condition),
            ("width of the global condition", transformer.global_states_input_dim, 2 * condition),
            ("number of latent channels", self.vae.decoder_input_channels, transformer.in_channels),
        ];
        for (what, one, other) in pairs {
            if one != other {
                return Err(format!("the parts do not agree on the {what}: {one} and {other}"));
            }
        }
        if self.text_tokens == 0 {
            return Err("texts of no tokens".to_owned());
        }
        let (least, most) = (projection.min_value, projection.max_value);
        if !(least.is_finite() && most.is_finite() && least < most) {
            return Err(format!("seconds from {least} to {most}"));
        }
        if self.scheduler.prediction_type != "v_prediction" {
            return Err(format!("`prediction_type` is `{}`, expected `v_prediction`", self.scheduler.prediction_type));
        }
        let sigma_data = self.scheduler.sigma_data;
        if !(sigma_data.is_finite() && sigma_data > 0.0) {
            return Err(format!("`sigma_data` is {sigma_data}, expected a positive number"));
        }
        Ok(())
    }
}
