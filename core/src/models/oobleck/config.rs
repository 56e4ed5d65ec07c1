//! Shape of an Oobleck autoencoder.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::{ranges, typed};

/// Shape of an [`Oobleck`](super::Oobleck); fields are named as in diffusers' `vae/config.json`.
///
/// An absent field has the default of diffusers' `AutoencoderOobleck`, which is that of stable-audio-open-1.0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OobleckConfig {
    /// Channels of the encoder's first layer, and of its last: means, then scales.
    #[serde(deserialize_with = "ranges::width")]
    pub encoder_hidden_size: usize,
    /// Strides of the encoder; the decoder has them in reverse.
    #[serde(deserialize_with = "ranges::ratio")]
    pub downsampling_ratios: Vec<usize>,
    /// By what the channels after each stride of the encoder are wider than those of its first layer.
    #[serde(deserialize_with = "ranges::ratio")]
    pub channel_multiples: Vec<usize>,
    /// Channels of the decoder's last layer.
    #[serde(deserialize_with = "ranges::width")]
    pub decoder_channels: usize,
    /// Channels of the latents.
    #[serde(deserialize_with = "ranges::width")]
    pub decoder_input_channels: usize,
    /// Channels of the audio.
    #[serde(deserialize_with = "ranges::count")]
    pub audio_channels: usize,
    /// Samples per second.
    #[serde(deserialize_with = "ranges::rate")]
    pub sampling_rate: u32,
}

/// What of a `model_config.json` of stable-audio-tools shapes its autoencoder.
#[derive(Deserialize)]
struct ModelConfig {
    #[serde(deserialize_with = "ranges::rate")]
    sample_rate: u32,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    pretransform: Pretransform,
}

#[derive(Deserialize)]
struct Pretransform {
    r#type: String,
    #[serde(default = "one")]
    scale: f64,
    #[serde(default)]
    config: Value,
}

#[derive(Deserialize)]
struct Autoencoder {
    encoder: Part,
    decoder: Part,
    bottleneck: Bottleneck,
    #[serde(deserialize_with = "ranges::width")]
    latent_dim: usize,
    #[serde(deserialize_with = "ranges::samples")]
    downsampling_ratio: usize,
    #[serde(deserialize_with = "ranges::count")]
    io_channels: usize,
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    #[serde(default)]
    soft_clip: bool,
    #[serde(default)]
    config: Value,
}

#[derive(Deserialize)]
struct Bottleneck {
    r#type: String,
}

/// Defaults are those of stable-audio-tools.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the file has them")]
struct Stack {
    #[serde(default = "two", deserialize_with = "ranges::count")]
    in_channels: usize,
    #[serde(default = "two", deserialize_with = "ranges::count")]
    out_channels: usize,
    #[serde(default = "channels", deserialize_with = "ranges::width")]
    channels: usize,
    #[serde(default = "multiples", deserialize_with = "ranges::ratio")]
    c_mults: Vec<usize>,
    #[serde(default = "strides", deserialize_with = "ranges::ratio")]
    strides: Vec<usize>,
    #[serde(default = "latents", deserialize_with = "ranges::width")]
    latent_dim: usize,
    #[serde(default)]
    use_snake: bool,
    #[serde(default)]
    antialias_activation: bool,
    #[serde(default)]
    use_nearest_upsample: bool,
    #[serde(default = "yes")]
    final_tanh: bool,
}

fn one() -> f64 {
    1.0
}

fn two() -> usize {
    2
}

fn yes() -> bool {
    true
}

fn channels() -> usize {
    128
}

fn multiples() -> Vec<usize> {
    vec![1, 2, 4, 8]
}

fn strides() -> Vec<usize> {
    vec![2, 4, 8, 8]
}

fn latents() -> usize {
    32
}

impl Default for OobleckConfig {
    fn default() -> Self {
        Self::stable_audio_open()
    }
}

impl OobleckConfig {
    /// The autoencoder of stable-audio-open-1.0.
    pub fn stable_audio_open() -> Self {
        Self {
            encoder_hidden_size: 128,
            downsampling_ratios: vec![2, 4, 4, 8, 8],
            channel_multiples: vec![1, 2, 4, 8, 16],
            decoder_channels: 128,
            decoder_input_channels: 64,
            audio_channels: 2,
            sampling_rate: 44_100,
        }
    }

    /// The autoencoder that a `model_config.json` of stable-audio-tools has as its `model.pretransform`.
    ///
    /// # Errors
    /// Which field is missing, or asks for what is not built.
    pub fn from_stable_audio_tools(model_config: &Value) -> Result<Self, String> {
        let whole: ModelConfig =
            typed(model_config.clone()).map_err(|reason| format!("`model.pretransform`: {reason}"))?;
        let pretransform = whole.model.pretransform;
        only("pretransform.type", &pretransform.r#type.as_str(), &"autoencoder")?;
        only("pretransform.scale", &pretransform.scale, &1.0)?;
        let autoencoder: Autoencoder = part("", pretransform.config)?;
        let Autoencoder { encoder, decoder, bottleneck, latent_dim, downsampling_ratio, io_channels } = autoencoder;
        only("encoder.type", &encoder.r#type.as_str(), &"oobleck")?;
        only("decoder.type", &decoder.r#type.as_str(), &"oobleck")?;
        only("bottleneck.type", &bottleneck.r#type.as_str(), &"vae")?;
        only("decoder.soft_clip", &decoder.soft_clip, &false)?;
        let encoder: Stack = part(".encoder", encoder.config)?;
        let decoder: Stack = part(".decoder", decoder.config)?;
        for (name, stack) in [("encoder", &encoder), ("decoder", &decoder)] {
            only(&format!("{name}.use_snake"), &stack.use_snake, &true)?;
            only(&format!("{name}.antialias_activation"), &stack.antialias_activation, &false)?;
        }
        only("decoder.use_nearest_upsample", &decoder.use_nearest_upsample, &false)?;
        only("decoder.final_tanh", &decoder.final_tanh, &false)?;
        only("decoder.c_mults", &decoder.c_mults, &encoder.c_mults)?;
        only("decoder.strides", &decoder.strides, &encoder.strides)?;
        only("encoder.latent_dim", &encoder.latent_dim, &encoder.channels)?;
        only("encoder.in_channels", &encoder.in_channels, &io_channels)?;
        only("decoder.out_channels", &decoder.out_channels, &io_channels)?;
        only("decoder.latent_dim", &decoder.latent_dim, &latent_dim)?;
        let config = Self {
            encoder_hidden_size: encoder.channels,
            downsampling_ratios: encoder.strides,
            channel_multiples: encoder.c_mults,
            decoder_channels: decoder.channels,
            decoder_input_channels: latent_dim,
            audio_channels: io_channels,
            sampling_rate: whole.sample_rate,
        };
        config.check()?;
        only("downsampling_ratio", &downsampling_ratio, &config.hop())?;
        Ok(config)
    }

    /// Samples per step of the latents.
    pub fn hop(&self) -> usize {
        self.downsampling_ratios.iter().product()
    }

    /// Names the first field that asks for what is not built.
    pub(crate) fn check(&self) -> Result<(), String> {
        let ratios = &self.downsampling_ratios;
        let even = ratios.iter().all(|&ratio| ratio >= 2 && ratio.is_multiple_of(2));
        let hop = ratios.iter().try_fold(1usize, |hop, &ratio| hop.checked_mul(ratio)).unwrap_or(usize::MAX);
        if ratios.is_empty() || ratios.len() > 16 || !even || hop > 1 << 20 {
            return Err(format!(
                "`downsampling_ratios` is {ratios:?}, only even strides up to 2²⁰ in all are supported"
            ));
        }
        let multiples = &self.channel_multiples;
        only("channel_multiples", &multiples.len(), &ratios.len()).map_err(|_| {
            format!("`channel_multiples` is {multiples:?}, expected as many as there are `downsampling_ratios`")
        })?;
        let widths =
            [self.encoder_hidden_size, self.decoder_channels, self.decoder_input_channels, self.audio_channels];
        let fits = |&width: &usize| (1..=1 << 16).contains(&width);
        if !widths.iter().chain(multiples).all(fits) {
            return Err(format!("channels {widths:?} times {multiples:?}: expected numbers from 1 to 2¹⁶"));
        }
        only("encoder_hidden_size", &self.encoder_hidden_size, &(2 * self.decoder_input_channels))
    }
}

/// The configuration of a part of the pretransform.
fn part<T: serde::de::DeserializeOwned>(name: &str, config: Value) -> Result<T, String> {
    typed(config).map_err(|reason| format!("`model.pretransform{name}`: {reason}"))
}

fn only<T: PartialEq + std::fmt::Debug>(field: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("`{field}` is {found:?}, only {expected:?} is supported")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What stabilityai/stable-audio-open-1.0 says of its autoencoder.
    fn open() -> Value {
        json!({"model_type": "diffusion_cond", "sample_rate": 44100, "model": {"pretransform": {
            "type": "autoencoder", "iterate_batch": true, "config": {
                "encoder": {"type": "oobleck", "requires_grad": false, "config": {"in_channels": 2, "channels": 128,
                    "c_mults": [1, 2, 4, 8, 16], "strides": [2, 4, 4, 8, 8], "latent_dim": 128, "use_snake": true}},
                "decoder": {"type": "oobleck", "config": {"out_channels": 2, "channels": 128,
                    "c_mults": [1, 2, 4, 8, 16], "strides": [2, 4, 4, 8, 8], "latent_dim": 64, "use_snake": true,
                    "final_tanh": false}},
                "bottleneck": {"type": "vae"}, "latent_dim": 64, "downsampling_ratio": 2048, "io_channels": 2}}}})
    }

    #[test]
    fn both_layouts_say_the_same() {
        let config = OobleckConfig::from_stable_audio_tools(&open()).expect("a configuration");
        assert_eq!(config, OobleckConfig::stable_audio_open());
        assert_eq!(config.hop(), 2048);
    }

    #[test]
    fn what_is_not_built_is_named() {
        let at = "/model/pretransform/config";
        for (path, value, name) in [
            ("/model/pretransform/type", json!("wavelet"), "pretransform.type"),
            (&format!("{at}/encoder/type"), json!("dac"), "encoder.type"),
            (&format!("{at}/bottleneck/type"), json!("rvq"), "bottleneck.type"),
            (&format!("{at}/decoder/config/final_tanh"), json!(true), "decoder.final_tanh"),
            (&format!("{at}/decoder/config/use_snake"), json!(false), "decoder.use_snake"),
            (&format!("{at}/decoder/config/strides"), json!([2, 4, 4, 8, 4]), "decoder.strides"),
            (&format!("{at}/encoder/config/latent_dim"), json!(64), "encoder.latent_dim"),
            (&format!("{at}/downsampling_ratio"), json!(1024), "downsampling_ratio"),
            (&format!("{at}/latent_dim"), json!("many"), "model.pretransform"),
        ] {
            let mut config = open();
            *config.pointer_mut(path).expect("a field") = value;
            let reason = OobleckConfig::from_stable_audio_tools(&config).expect_err("not built");
            assert!(reason.contains(name), "{reason}");
        }
        let open = OobleckConfig::stable_audio_open();
        for config in [
            OobleckConfig { downsampling_ratios: vec![2, 3, 4, 8, 8], ..open.clone() },
            OobleckConfig { downsampling_ratios: vec![1 << 40, 1 << 40], ..open.clone() },
            OobleckConfig { downsampling_ratios: vec![], channel_multiples: vec![], ..open.clone() },
            OobleckConfig { channel_multiples: vec![1], ..open.clone() },
            OobleckConfig { audio_channels: 0, ..open.clone() },
            OobleckConfig { decoder_channels: usize::MAX, ..open.clone() },
            OobleckConfig { encoder_hidden_size: 64, ..open },
        ] {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
