//! Shape of a MusicGen, as its `config.json` and `generation_config.json` state it.

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::ranges,
    models::{encodec::EncodecConfig, t5::T5Config},
};

/// Shape of a [`MusicGen`](super::MusicGen); fields are named as in the checkpoint's `config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MusicgenConfig {
    /// Must be `musicgen`.
    pub model_type: String,
    /// The text encoder.
    pub text_encoder: T5Config,
    /// The audio codec.
    pub audio_encoder: EncodecConfig,
    /// The decoder.
    pub decoder: DecoderConfig,
}

/// Shape of a [`Decoder`](super::Decoder).
///
/// An absent field has the default of transformers' `MusicgenDecoderConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DecoderConfig {
    /// Tokens that each codebook's head can choose; the embeddings have one more, for padding.
    #[serde(deserialize_with = "ranges::entries")]
    pub vocab_size: usize,
    /// Layers.
    #[serde(deserialize_with = "ranges::count")]
    pub num_hidden_layers: usize,
    /// Width of the MLP.
    #[serde(deserialize_with = "ranges::width")]
    pub ffn_dim: usize,
    /// Heads.
    #[serde(deserialize_with = "ranges::count")]
    pub num_attention_heads: usize,
    /// Width of the residual stream.
    #[serde(deserialize_with = "ranges::width")]
    pub hidden_size: usize,
    /// Non-linearity of the MLP.
    pub activation_function: DecoderActivation,
    /// Whether embeddings are multiplied by the root of the width.
    pub scale_embedding: bool,
    /// Codebooks; in stereo left and right alternate.
    #[serde(deserialize_with = "ranges::count")]
    pub num_codebooks: usize,
    /// 1 mono, 2 stereo.
    #[serde(deserialize_with = "ranges::count")]
    pub audio_channels: usize,
    /// Token that fills the delay pattern and begins every sequence.
    #[serde(deserialize_with = "ranges::index")]
    pub pad_token_id: u32,
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self {
            vocab_size: 2048,
            num_hidden_layers: 24,
            ffn_dim: 4096,
            num_attention_heads: 16,
            hidden_size: 1024,
            activation_function: DecoderActivation::Gelu,
            scale_embedding: false,
            num_codebooks: 4,
            audio_channels: 1,
            pad_token_id: 2048,
        }
    }
}

impl MusicgenConfig {
    /// Checks what the parts owe to each other.
    pub(super) fn check(&self) -> Result<(), String> {
        let within = |part: &str, checked: Result<(), String>| checked.map_err(|reason| format!("`{part}`: {reason}"));
        within("text_encoder", self.text_encoder.check())?;
        within("audio_encoder", self.audio_encoder.check())?;
        within("decoder", self.decoder.check())?;
        let (codebooks, channels) = (self.decoder.num_codebooks, self.decoder.audio_channels);
        let (entries, quantizers) = (self.audio_encoder.codebook_size, self.audio_encoder.num_quantizers());
        if codebooks / channels > quantizers {
            return Err(format!(
                "`decoder`: `num_codebooks` is {codebooks} for {channels} channels, the codec has {quantizers} codebooks"
            ));
        }
        if self.decoder.vocab_size > entries {
            return Err(format!(
                "`decoder`: `vocab_size` is {}, the codec's codebooks have {entries} entries",
                self.decoder.vocab_size
            ));
        }
        Ok(())
    }
}

/// Non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderActivation {
    /// With the error function, not its approximation.
    Gelu,
    /// `max(x, 0)`
    Relu,
}

impl DecoderConfig {
    /// Width of one head.
    pub fn d_head(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Checks what the fields owe to each other.
    pub(super) fn check(&self) -> Result<(), String> {
        // Half of a position's features are cosines, the other half sines.
        if self.hidden_size < 4 {
            return Err(format!("`hidden_size` is {}, expected 4 or more", self.hidden_size));
        }
        if self.num_attention_heads == 0 || !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !matches!(self.audio_channels, 1 | 2) || !self.num_codebooks.is_multiple_of(self.audio_channels) {
            return Err(format!(
                "`num_codebooks` {} for `audio_channels` {}: expected 1 or 2 channels with equally many codebooks",
                self.num_codebooks, self.audio_channels
            ));
        }
        if self.pad_token_id as usize != self.vocab_size {
            return Err(format!(
                "`pad_token_id` {} is not `vocab_size` {}, the one row that the heads cannot choose",
                self.pad_token_id, self.vocab_size
            ));
        }
        Ok(())
    }
}

/// What the checkpoint's `generation_config.json` says about generating, where it is silent audiocraft's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationConfig {
    /// Weight of the prompt; 1: no guidance.
    #[serde(deserialize_with = "ranges::bound")]
    pub guidance_scale: f64,
    /// Candidates that are kept when sampling.
    #[serde(deserialize_with = "ranges::index")]
    pub top_k: usize,
    /// Divides the logits.
    #[serde(deserialize_with = "ranges::factor")]
    pub temperature: f64,
    /// Length of the music that the model was trained on, seconds; not known of published checkpoints, which do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_seconds: Option<f64>,
}

impl Default for GenerationConfig {
    /// Defaults of audiocraft 1.3.0, models/musicgen.py, `set_generation_params`.
    fn default() -> Self {
        Self { guidance_scale: 3.0, top_k: 250, temperature: 1.0, trained_seconds: None }
    }
}
